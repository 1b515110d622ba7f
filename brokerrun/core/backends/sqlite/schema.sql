-- Version 1. A later version is a file of its own, added to MIGRATIONS; this one is never edited.
create table queue(
    id    integer primary key,
    name  text not null unique
);

-- The newest id that went with its row, so that none is ever given again. One row.
create table last(
    one  integer primary key check (one = 1),
    id   integer not null
) without rowid;
insert into last values (1, 0);

create table message(
    id        integer primary key,          -- 64-bit hybrid time: the order and the public id
    queue     integer not null references queue(id),
    state     integer not null default 0,   -- 0 READY, 1 LEASED, 2 DONE
    priority  integer not null default 0,   -- smaller first
    ready_at  integer,                      -- READY: not before, null is now; LEASED: the lease ends
    attempts  integer not null default 0,
    crashes   integer not null default 0,   -- attempts that took their process down
    home      integer,                      -- where a claim took it from, if it is shown elsewhere
    owner     integer,
    receipt   integer,
    body      text not null,
    check (state in (0, 1, 2)),
    check ((state = 1) = (receipt is not null)),
    check ((state = 1) = (owner is not null)),
    check (home is null or state = 1),
    check (state <> 2 or ready_at is null),
    check (attempts >= 0 and crashes >= 0)
);
-- What may run now, what waits for its time, and the same by queue for lookers. State values are
-- literals in every statement: a bound value would not match the condition of a partial index.
create index message_ready   on message(queue, priority, id) where state = 0 and ready_at is null;
create index message_delayed on message(queue, priority, id) where state = 0 and ready_at is not null;
create index message_timer   on message(state, ready_at)     where ready_at is not null;
create index message_owner   on message(owner)               where state = 1;
create index message_done    on message(queue)               where state = 2;

-- History: each attempt that did not end in an ack.
create table attempt(
    id           integer primary key,
    message      integer not null,
    queue        text not null,
    attempt      integer not null,
    outcome      text not null,
    died         integer not null default 0,
    error        text,
    traceback    text,
    exit_status  integer,
    signal       integer,
    pid          integer,
    host         text,
    started_at   integer,
    ended_at     integer
);
create index attempt_message on attempt(message, id);
create index attempt_ended   on attempt(ended_at);

create table instance(
    name        text not null,
    host        text not null,
    owner       integer not null,
    pid         integer not null,
    socket      text not null,
    version     text not null,
    started_at  integer not null,
    stopped_at  integer,
    primary key (name, host)
) without rowid;
