-- Version 4: schedules, each with the last tick that is over.
create table schedule(
    name     text primary key,
    timing   text not null,          -- what decided its ticks; where that changes, it begins anew
    last_at  integer not null,       -- the ticks until then are over; it only grows, unless set back
    message  integer                 -- the last one that was sent
) without rowid;
