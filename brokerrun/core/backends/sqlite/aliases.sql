-- Version 2: aliases, and which queues no producer made.
create table alias(
    name    text primary key,
    target  text not null            -- a queue name, never another alias
) without rowid;

-- 1: a claim's hold or a burial made it, and nobody wrote to it since: broadcasts pass it over.
alter table queue add column side integer not null default 0;
