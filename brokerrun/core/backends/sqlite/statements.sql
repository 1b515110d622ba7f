-- Every statement of the SQLite store. `-- step:` names the cell of STEPS that it carries out.

-- name: queue_number
select id, side from queue where name = :name

-- name: add_queue
insert into queue(name, side) values (:name, :side)

-- name: main_queue
-- Somebody writes to it: no side queue any more.
update queue set side = 0 where id = :id

-- name: rename_queue
update queue set name = :new where id = :id

-- name: drop_queue
delete from queue where id = :id

-- name: queue_names
select id, name, side from queue order by name

-- name: any_row
-- Whether a queue exists, for those who count read messages too.
select 1 where exists (select 1 from message where queue = :queue and state = 0 and ready_at is null)
            or exists (select 1 from message where queue = :queue and state = 0
                                               and ready_at is not null)
            or exists (select 1 from message where state = 1 and owner >= 0 and queue = :queue)
            or exists (select 1 from message where queue = :queue and state = 2)

-- name: any_home
-- Whether a claim has to come back to the queue.
select 1 from message where state = 1 and owner >= 0 and home = :queue limit 1

-- name: newest
-- The greatest id ever given.
select max(coalesce((select max(id) from message), 0), (select id from last))

-- name: remember
-- Note the newest id where it is among those that go now, up to :id.
update last set id = (select max(id) from message)
 where (select max(id) from message) between id + 1 and :id

-- name: stamp
-- An id that was given to nobody counts as given.
update last set id = :id

-- name: put
insert into message(id, queue, ready_at, priority, body)
values (:id, :queue, :ready_at, :priority, :body)

-- name: load
-- PUT with the id, the attempts and the delay that the message has.
insert into message(id, queue, ready_at, priority, attempts, body)
values (:id, :queue, :ready_at, :priority, :attempts, :body)

-- name: next_due
select min(ready_at) from message where state = 0 and ready_at is not null

-- name: next_expiry
select min(ready_at) from message where state = 1 and ready_at is not null

-- name: promote
-- What waited for its time may run now: no event, `ready_at` says the same before and after.
update message set ready_at = null
 where id in (select id from message where state = 0 and ready_at <= :now
               order by ready_at limit 1000)

-- name: expire
-- step: LEASED EXPIRE
update message
   set state = 0, queue = coalesce(home, queue), home = null, owner = null, receipt = null,
       ready_at = null
 where id in (select id from message where state = 1 and ready_at <= :now limit 1000)
   and state = 1

-- name: any_ready
select 1 from message where queue = :queue and state = 0 and ready_at is null limit 1

-- name: ready
select id, body, attempts, crashes, priority from message
 where queue = :queue and state = 0 and ready_at is null
 order by priority, id limit :limit

-- name: claim
-- step: READY CLAIM
update message
   set state = 1, home = case when :hold is null then null else queue end,
       queue = coalesce(:hold, queue), owner = :owner, receipt = :receipt, ready_at = :ends_at,
       attempts = attempts + 1
 where id in (select value from json_each(:ids)) and state = 0

-- name: ack
-- step: LEASED ACK
delete from message where id = :id and receipt = :receipt and state = 1

-- name: ack_together
-- step: LEASED ACK
delete from message
 where id in (select value from json_each(:ids)) and receipt = :receipt and state = 1
returning id

-- name: retry
-- step: LEASED RETRY
update message
   set state = 0, queue = coalesce(home, queue), home = null, owner = null, receipt = null,
       ready_at = :ready_at, crashes = crashes + :crashes
 where id = :id and receipt = :receipt and state = 1

-- name: release
-- step: LEASED RELEASE
update message
   set state = 0, queue = coalesce(home, queue), home = null, owner = null, receipt = null,
       ready_at = :ready_at, attempts = attempts - 1
 where id = :id and receipt = :receipt and state = 1

-- name: finish_read
-- steps: LEASED RELEASE, READY READ
update message
   set state = 2, queue = coalesce(home, queue), home = null, owner = null, receipt = null,
       ready_at = null, attempts = attempts - 1
 where id in (select value from json_each(:ids)) and receipt = :receipt and state = 1

-- name: finish_move
-- steps: LEASED RELEASE, READY MOVE
update message
   set state = 0, queue = :target, home = null, owner = null, receipt = null,
       ready_at = null, attempts = 0, crashes = 0
 where id in (select value from json_each(:ids)) and receipt = :receipt and state = 1

-- name: bury
-- step: LEASED BURY
update message
   set state = 0, queue = :queue, home = null, owner = null, receipt = null,
       ready_at = null, attempts = 0, crashes = 0
 where id = :id and receipt = :receipt and state = 1

-- name: extend
-- step: LEASED EXTEND
update message set state = 1, ready_at = :ends_at
 where id = :id and receipt = :receipt and state = 1 and ready_at is not null

-- name: renew
-- A new proof of the same hold: no event.
update message set receipt = :receipt where id = :id and receipt = :old and state = 1

-- name: present
select 1 from message where id = :id

-- name: held
select m.id, q.name, m.owner, m.receipt, m.attempts, m.crashes
  from message m join queue q on q.id = coalesce(m.home, m.queue)
 where m.state = 1 and m.owner >= 0 and m.ready_at is null

-- name: holding
select m.id, q.name, m.owner, m.receipt, m.attempts, m.crashes
  from message m join queue q on q.id = coalesce(m.home, m.queue)
 where m.id = :id and m.receipt = coalesce(:receipt, m.receipt) and m.state = 1

-- name: last_error
select error from attempt where message = :id order by id desc limit 1

-- name: read
-- step: READY READ
update message set state = 2 where id in (select value from json_each(:ids)) and state = 0

-- name: move
-- step: READY MOVE
update message set state = 0, queue = :target, attempts = 0, crashes = 0
 where id in (select value from json_each(:ids)) and state = 0

-- name: bring_back
-- step: DONE MOVE
update message set state = 0, queue = :target, attempts = 0, crashes = 0
 where id = :id and queue = :queue and state = 2

-- name: ready_one
select id, body, state, ready_at, attempts, priority, crashes from message
 where id = :id and queue = :queue and state = 0 and ready_at is null

-- name: done_one
select id, body, state, ready_at, attempts, priority, crashes from message
 where id = :id and queue = :queue and state = 2

-- name: look_one
select id, body, state, ready_at, attempts, priority, crashes from message
 where id = :id and queue = :queue and state <> 2

-- name: ready_priority
select min(priority) from message
 where queue = :queue and state = 0 and ready_at is null and priority > :priority

-- name: ready_page
select id, body, state, ready_at, attempts, priority, crashes from message
 where queue = :queue and state = 0 and ready_at is null and priority = :priority
   and id > :after and id < :before
 order by id limit :limit

-- name: delayed_priority
select min(priority) from message
 where queue = :queue and state = 0 and ready_at is not null and priority > :priority

-- name: delayed_page
select id, body, state, ready_at, attempts, priority, crashes from message
 where queue = :queue and state = 0 and ready_at is not null and priority = :priority
   and id > :after and id < :before
 order by id limit :limit

-- name: leased_priority
-- Leased rows are few: those in the hands of living processes. They are found by their owners.
select min(priority) from message
 where state = 1 and owner >= 0 and queue = :queue and priority > :priority

-- name: leased_page
select id, body, state, ready_at, attempts, priority, crashes from message
 where state = 1 and owner >= 0 and queue = :queue and priority = :priority
   and id > :after and id < :before
 order by id limit :limit

-- name: ready_newest
select id, body, state, ready_at, attempts, priority, crashes from message
 where queue = :queue and state = 0 and ready_at is null and priority = :priority
 order by id desc limit 1

-- name: delayed_newest
select id, body, state, ready_at, attempts, priority, crashes from message
 where queue = :queue and state = 0 and ready_at is not null and priority = :priority
 order by id desc limit 1

-- name: leased_newest
select id, body, state, ready_at, attempts, priority, crashes from message
 where state = 1 and owner >= 0 and queue = :queue and priority = :priority
 order by id desc limit 1

-- name: delete_one
-- step: READY DELETE
-- step: LEASED DELETE
-- step: DONE DELETE
delete from message where id = :id and (queue = :queue or home = :queue)

-- name: delete_anywhere
-- step: READY DELETE
-- step: LEASED DELETE
-- step: DONE DELETE
delete from message where id = :id

-- name: delete_ready
-- step: READY DELETE
delete from message where queue = :queue and state = 0 and ready_at is null

-- name: delete_delayed
-- step: READY DELETE
delete from message where queue = :queue and state = 0 and ready_at is not null

-- name: delete_leased
-- step: LEASED DELETE
delete from message where state = 1 and owner >= 0 and queue = :queue

-- name: delete_done
-- step: DONE DELETE
delete from message where queue = :queue and state = 2

-- name: count_ready
select count(*), min(id) from message where queue = :queue and state = 0 and ready_at is null

-- name: count_delayed
select count(*), min(id) from message where queue = :queue and state = 0 and ready_at is not null

-- name: count_leased
select count(*), min(id) from message where state = 1 and owner >= 0 and queue = :queue

-- name: count_done
select count(*) from message where queue = :queue and state = 2

-- name: any_leased
select 1 from message where state = 1 and owner >= 0 and coalesce(home, queue) = :queue limit 1

-- name: any_due
select 1 from message where queue = :queue and state = 0 and ready_at <= :now limit 1

-- name: any_retry
-- Delayed messages that have a history; not those that only their producer delayed.
select 1 from message m
 where m.queue = :queue and m.state = 0 and m.ready_at is not null
   and exists (select 1 from attempt a where a.message = m.id) limit 1

-- name: done_up_to
select count(*) from (select 1 from message where state = 2 and queue >= 0 limit :limit)

-- name: waiting_up_to
-- What is ready, by the index of all that is ready or delayed.
select count(*) from (select 1 from message where queue >= 0 and state = 0 and ready_at is null
                       limit :limit)

-- name: vacuum
-- step: DONE VACUUM
delete from message
 where id in (select id from message where state = 2 and queue >= 0 limit :limit) and state = 2

-- name: newest_done
select max(id) from (select id from message where state = 2 and queue >= 0 limit :limit)

-- name: add_attempt
insert into attempt(message, queue, attempt, outcome, died, error, traceback, exit_status, signal,
                    pid, host, started_at, ended_at)
values (:message, :queue, :attempt, :outcome, :died, :error, :traceback, :exit_status, :signal,
        :pid, :host, :started_at, :ended_at)

-- name: cap_attempts
-- Keep the newest hundred attempts of a message.
delete from attempt
 where id in (select id from attempt where message = :message order by id desc limit 1000 offset 100)

-- name: history
select message, queue, attempt, outcome, died, error, traceback, exit_status, signal, pid, host,
       started_at, ended_at
  from attempt where message = :message order by id

-- name: last_attempt
select coalesce(max(id), 0) from attempt

-- name: died_since
select count(*) from attempt where id > :mark and died = 1 and queue = :queue

-- name: oldest_attempt
select 1 from attempt where ended_at < :before limit 1

-- name: prune
delete from attempt
 where id in (select id from attempt where ended_at < :before order by ended_at limit 1000)

-- name: aliases
select name, target from alias order by name

-- name: alias_target
select target from alias where name = :name

-- name: add_alias
insert into alias(name, target) values (:name, :target) on conflict (name) do nothing

-- name: remove_alias
delete from alias where name = :name

-- name: retarget_aliases
update alias set target = :new where target = :old

-- name: put_instance
insert into instance(name, host, owner, pid, socket, version, started_at, stopped_at, workers)
values (:name, :host, :owner, :pid, :socket, :version, :started_at, :stopped_at, :workers)
on conflict (name, host) do update
   set owner = excluded.owner, pid = excluded.pid, socket = excluded.socket,
       version = excluded.version, started_at = excluded.started_at,
       stopped_at = excluded.stopped_at, workers = excluded.workers

-- name: instance
select name, host, owner, pid, socket, version, started_at, stopped_at, workers
  from instance where name = :name and host = :host

-- name: put_pause
insert into pause(name, host, worker, paused) values (:name, :host, :worker, :paused)
on conflict (name, host, worker) do update set paused = excluded.paused

-- name: pauses
select worker, paused from pause where name = :name and host = :host

-- name: schedules
-- Each with the queue in which its last message still waits or runs.
select s.name, s.last_at, s.message, q.name
  from schedule s left join message m on m.id = s.message and m.state <> 2
                  left join queue q on q.id = coalesce(m.home, m.queue)
 order by s.name

-- name: begin_schedule
-- One whose ticks are decided otherwise now has missed none of them.
insert into schedule(name, timing, last_at) values (:name, :timing, :at)
on conflict (name) do update
   set timing = excluded.timing, last_at = max(last_at, excluded.last_at)
 where timing <> excluded.timing

-- name: set_schedule
update schedule set last_at = :at where name = :name and last_at = :seen

-- name: tick
-- The one update that lets a tick be one message: it needs no leader.
update schedule set last_at = :tick, message = :message where name = :name and last_at < :tick

-- name: unfinished_tick
-- The last message of a schedule, unless it was finished, deleted, buried or moved away.
select m.id from schedule s join message m on m.id = s.message
 where s.name = :name and m.state <> 2 and coalesce(m.home, m.queue) = :queue

-- name: instances
select name, host, owner, pid, socket, version, started_at, stopped_at, workers
  from instance order by name, host

-- name: add_event
insert into event(at, instance, host, event, facts) values (:at, :instance, :host, :event, :facts)

-- name: cap_events
-- Keep the newest ten thousand.
delete from event
 where id in (select id from event order by id desc limit 1000 offset 10000)

-- name: newest_events
select at, instance, host, event, facts, id from event order by id desc limit :limit

-- name: events_after
select at, instance, host, event, facts, id from event where id > :after order by id limit :limit

-- name: oldest_event
select 1 from (select at from event order by id limit 1) where at < :before

-- name: prune_events
delete from event
 where id in (select id from event order by id limit 1000) and at < :before
