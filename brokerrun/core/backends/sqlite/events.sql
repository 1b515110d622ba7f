-- Version 5: what happened to a fleet, and what an instance serves.
create table event(
    id        integer primary key,
    at        integer not null,
    instance  text not null,
    host      text not null,
    event     text not null,
    facts     text not null          -- a JSON object
);

alter table instance add column workers text not null default '';   -- "emails=2,thumbnails=1"
