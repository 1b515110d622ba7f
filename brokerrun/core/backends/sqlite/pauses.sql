-- Version 3: what was said last of a worker that was paused or resumed.
create table pause(
    name    text not null,            -- of the instance
    host    text not null,
    worker  text not null,
    paused  integer not null check (paused in (0, 1)),
    primary key (name, host, worker)
) without rowid;
