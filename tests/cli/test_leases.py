"""claim, ack, nack, extend: a message held over several commands."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection as Talk
from pathlib import Path

import pytest
from shell import Shell, end
from supervised import Site
from support import Child, eventually, sleeps

from brokerrun import Broker
from brokerrun.core.leases import acknowledge, claim_for, receipt_text
from brokerrun.core.states import State

GONE = "1795545666661470208-0123456789abcdef"  # a receipt of nothing that is there


def claim(broker: Shell, words: str = "q") -> str:
    """Claim one message by a command and return its receipt."""
    return broker.ok(f"claim {words}").partition("\t")[0]


# ----------------------------------------------------------------------------------------- claim


def test_a_claim_prints_the_receipt_and_the_message(broker: Shell) -> None:
    ident = broker.ok("write q 'a b' -t")
    receipt, body = broker.ok("claim q").split("\t")
    assert receipt.startswith(f"{ident}-")
    assert body == "a b"
    assert broker("claim q").status == 2


def test_a_claim_as_json_tells_all_that_is_known(broker: Shell) -> None:
    ident = broker.ok("write q x -t")
    before = time.time()
    [facts] = broker("claim q --lease 90s --json").json
    receipt, ends_at = facts.pop("receipt"), facts.pop("lease_ends_at")
    assert facts == {
        "message": "x",
        "timestamp": int(ident),
        "id": ident,
        "queue": "q",
        "attempts": 1,
    }
    assert before + 90 <= ends_at <= time.time() + 90
    assert broker("ack", receipt).status == 1  # it is an operand, not the input
    assert broker.ok(f"ack {receipt}") == ""


def test_takers_do_not_see_a_claimed_message_and_lookers_do(broker: Shell) -> None:
    ident = broker.ok("write q x -t")
    claim(broker)
    for line in ("read q", "read q --all", f"read q -m {ident}", "move q r", "claim q"):
        assert broker(line).status == 2, line
    [shown] = broker("peek q --json").json
    assert (shown["state"], shown["attempts"]) == ("leased", 1)
    assert broker.ok("list") == "q: 1"


def test_a_lease_that_ends_gives_the_message_back_with_its_attempt_counted(broker: Shell) -> None:
    broker.ok("write q x")
    claim(broker, "q --lease 50ms")
    begun = time.monotonic()
    [again] = broker("claim q --wait 10s --json").json
    assert again["attempts"] == 2
    assert time.monotonic() - begun < 5


def test_a_limit_bounds_what_is_claimed_and_each_has_its_receipt(broker: Shell) -> None:
    broker.ok("write q --lines", "a\nb\nc\nd\n")
    claimed = broker("claim q --limit 3 --json").json
    assert [each["message"] for each in claimed] == ["a", "b", "c"]
    receipts = [each["receipt"] for each in claimed]
    assert broker.ok(f"ack {' '.join(receipts)}") == ""
    assert broker.bodies() == ["d"]


def test_claimers_at_once_share_nothing(broker: Shell) -> None:
    broker.ok("write q --lines", "".join(f"{n}\n" for n in range(20)))
    ends = [end(each) for each in [broker.start("claim q --limit 4 --json") for _ in range(6)]]
    claimed = [each["message"] for done in ends for each in done.json]
    assert sorted(claimed, key=int) == [str(n) for n in range(20)]
    assert sorted(done.status for done in ends) == [0] * 5 + [2]


def test_a_hold_shows_the_message_elsewhere_until_it_is_settled(broker: Shell) -> None:
    broker.ok("write q x")
    [facts] = broker("claim q --hold q.busy --json").json
    assert facts["queue"] == "q"
    assert broker.ok("list") == "q.busy: 1"
    for line in ("peek q", "read q", "read q.busy", "claim q.busy", "move q.busy q"):
        assert broker(line).status == 2, line
    assert broker.ok("peek q.busy") == "x"
    assert broker.ok(f"nack {facts['receipt']} --delay 0s") == ""
    assert (broker.bodies(), broker.bodies("q.busy")) == (["x"], [])


def test_a_claim_waits_for_a_message(broker: Shell) -> None:
    waiting = broker.start("claim q --wait 20s")
    eventually(lambda: os.path.exists(broker.database) and sleeps(waiting.pid))
    broker.store.write("q", "x")
    begun = time.monotonic()
    done = end(waiting)
    assert (done.status, done.out.endswith("\tx\n")) == (0, True)
    assert time.monotonic() - begun < 1


def test_one_that_waits_finds_what_a_killed_process_held(broker: Shell) -> None:
    broker.ok("write q x")
    holder = broker.start("exec q -- sleep 60")
    eventually(lambda: broker.one().state is State.LEASED)
    waiting = broker.start("claim q --wait 60s --json")
    eventually(lambda: sleeps(waiting.pid))
    end(holder, signal.SIGKILL)
    [facts] = end(waiting).json
    assert facts["attempts"] == 2


def test_a_wait_ends_by_time_or_by_a_signal(broker: Shell) -> None:
    assert broker("claim q --wait 50ms").status == 2
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        waiting = broker.start("claim q --wait 60s")
        eventually(lambda waiting=waiting: sleeps(waiting.pid))  # type: ignore[misc]
        assert end(waiting, signum).status == status


def test_what_cannot_be_printed_is_given_back_as_if_never_claimed(broker: Shell) -> None:
    broker.store.write("q", "x" * 300_000)
    stuck = broker.start("claim q")
    assert stuck.stdout is not None
    os.read(stuck.stdout.fileno(), 1)  # it prints now, and the pipe is full
    assert end(stuck, signal.SIGTERM).status == 143
    with open("/dev/full", "wb") as full:
        assert broker.start("claim q", stdout=full).wait(30) == 1
    assert (broker.one().state, broker.one().attempts) == (State.READY, 0)


# ------------------------------------------------------------------------------------------- ack


def test_ack_twice_says_the_second_time_that_nothing_is_held(broker: Shell) -> None:
    broker.ok("write q x")
    receipt = claim(broker)
    assert broker(f"ack {receipt} --json").json == [{"receipt": receipt, "acked": True}]
    done = broker(f"ack {receipt} --json")
    assert (done.status, done.json) == (2, [{"receipt": receipt, "acked": False}])


def test_ack_of_several_settles_all_that_are_still_held(broker: Shell) -> None:
    broker.ok("write q lost")
    lost = claim(broker, "q --lease 10ms")
    eventually(lambda: broker.store.store.ready("q"))
    broker.ok("write q --lines", "b\nc\n")
    taken = broker("claim q --limit 1 --json").json[0]
    assert taken["message"] == "lost"
    others = [each["receipt"] for each in broker("claim q --limit 2 --json").json]
    assert broker(f"ack {others[0]} {lost} {others[1]} {others[1]}").status == 2
    assert broker.bodies() == ["lost"]
    assert broker.ok(f"ack {taken['receipt']}") == ""


def test_a_message_deleted_by_hand_is_no_more_held(broker: Shell) -> None:
    broker.ok("write q x")
    receipt = claim(broker)
    broker.ok("delete q")
    for verb in ("ack", "nack", "extend"):
        assert broker(f"{verb} {receipt}").status == 2


def test_a_lease_ends_while_ack_runs_and_one_of_the_two_has_the_message(broker: Shell) -> None:
    database = broker.database

    def take(talk: Talk) -> None:
        with Broker(database) as mine:
            while talk.recv():
                deadline = time.monotonic() + 0.05
                taken = []
                while not taken and time.monotonic() < deadline:
                    taken = mine.read("q")
                talk.send([message.id for message in taken])

    broker.store.write("other", "x")
    taker, outcomes = Child(take), set()
    for number in range(60):
        ident = broker.store.write("q", "x")
        [held], _ = claim_for(broker.store, "q", lease=0.004)
        taker.say(True)
        until = time.monotonic() + number * 0.0001
        while time.monotonic() < until:
            pass
        [acked] = acknowledge(broker.store, [receipt_text(held)])
        taken = taker.hear()
        assert taken == ([] if acked else [ident])
        outcomes.add(acked)
    taker.say(False)
    taker.ends_well()
    assert True in outcomes


# ------------------------------------------------------------------------------------------ nack


def lose(broker: Shell) -> str:
    """Return a receipt whose message somebody else has meanwhile."""
    broker.ok("write q x")
    lost = claim(broker, "q --lease 10ms")
    eventually(lambda: broker.store.store.ready("q"))
    claim(broker)
    return lost


@pytest.mark.parametrize(
    "line", ["nack R", "nack R --dead", "nack R --release", "extend R", "ack R"]
)
def test_a_late_answer_changes_nothing(broker: Shell, line: str) -> None:
    lost = lose(broker)
    before = broker.one()
    done = broker(line.replace("R", lost))
    assert (done.status, done.out, done.err) == (2, "", "")
    assert broker.one() == before
    assert broker.store.history(before.id) == []
    assert broker.bodies("q.dlq") == []


def test_a_lease_that_is_over_binds_until_somebody_takes_the_message(broker: Shell) -> None:
    broker.ok("write q x")
    receipt = claim(broker, "q --lease 10ms")
    eventually(lambda: broker.store.store.ready("q"))
    assert broker.ok(f"ack {receipt}") == ""
    assert broker.bodies() == []


def test_nack_tries_again_after_a_wait_and_notes_the_error(broker: Shell) -> None:
    broker.ok("write q x")
    receipt, before = claim(broker), time.time()
    [fate] = broker(f"nack {receipt} --error 'exit status 3' --json").json
    shown = broker.one()
    assert (fate["outcome"], fate["queue"], fate["attempts"]) == ("retry", "q", 1)
    assert before + 1 <= fate["ready_at"] <= time.time() + 2
    assert shown.ready_at is not None
    assert abs(shown.ready_at / 1e9 - fate["ready_at"]) < 0.5
    [attempt] = broker("history " + fate["id"] + " --json").json
    assert (attempt["outcome"], attempt["error"]) == ("failed", "exit status 3")


def test_nack_with_a_delay_waits_exactly_so_long(broker: Shell) -> None:
    broker.ok("write q x")
    receipt, before = claim(broker), time.time()
    [fate] = broker(f"nack {receipt} --delay 1h --json").json
    assert before + 3600 <= fate["ready_at"] <= time.time() + 3600
    assert broker("claim q").status == 2


def test_nack_to_the_dead_letters_at_once(broker: Shell) -> None:
    ident = broker.ok("write q x -t")
    [fate] = broker(f"nack {claim(broker)} --dead --error bad --json").json
    assert (fate["id"], fate["outcome"], fate["queue"]) == (ident, "dead", "q.dlq")
    assert broker.one("q.dlq").id == int(ident)
    assert broker("history " + ident + " --json").json[0]["outcome"] == "dead"
    assert broker.ok("move q.dlq q -t") == f"{ident}\tx"


def test_attempts_are_used_up_by_failures_of_all_kinds(broker: Shell) -> None:
    ident = broker.ok("write q x -t")
    claim(broker, "q --lease 10ms")  # the first: over by its time
    [second] = broker("claim q --wait 9s --json").json
    assert broker.ok(f"nack {second['receipt']} --release") == ""  # counts none
    [second] = broker("claim q --json").json
    broker.ok(f"nack {second['receipt']} --delay 0s --max-attempts 3 --error two")
    [third] = broker("claim q --json").json
    assert [second["attempts"], third["attempts"]] == [2, 3]
    fate = f"nack {third['receipt']} --delay 0s --max-attempts 3 --error three"
    assert broker(f"{fate} --dead-letter graves --json").json[0]["outcome"] == "dead"
    assert [broker.bodies(queue) for queue in ("q", "graves")] == [[], ["x"]]
    assert [row["error"] for row in broker(f"history {ident} --json").json] == ["two", "three"]
    assert broker("claim graves --json").json[0]["attempts"] == 1


def test_a_release_counts_no_attempt_and_leaves_no_history(broker: Shell) -> None:
    broker.ok("write q x")
    [fate] = broker(f"nack {claim(broker)} --release --delay 1h --json").json
    assert (fate["outcome"], fate["attempts"]) == ("release", 0)
    shown = broker.one()
    assert (shown.attempts, shown.ready_at is not None) == (0, True)
    assert broker("history " + fate["id"]).status == 2


def test_an_extended_lease_ends_later(broker: Shell) -> None:
    broker.ok("write q x")
    receipt, before = claim(broker, "q --lease 2s"), time.time()
    [said] = broker(f"extend {receipt} --lease 1h --json").json
    assert said == {"receipt": receipt, "extended": True}
    assert (broker.one().ready_at or 0) / 1e9 >= before + 3600
    assert broker.ok(f"ack {receipt}") == ""
    assert broker(f"extend {receipt}").status == 2


# ------------------------------------------------------------------------------- places and words


def test_aliases_stand_for_every_queue_of_these_verbs(broker: Shell) -> None:
    for alias, queue in (("a", "q"), ("h", "held"), ("d", "dead")):
        broker.ok(f"alias add {alias} {queue}")
    broker.ok("write @a x")
    [facts] = broker("claim @a --hold @h --json").json
    assert (facts["queue"], broker.bodies("held")) == ("q", ["x"])
    broker.ok(f"nack {facts['receipt']} --dead --dead-letter @d")
    assert broker.bodies("dead") == ["x"]


def test_where_there_is_no_database_nothing_is_held_and_none_is_made(broker: Shell) -> None:
    for line in ("claim q", f"ack {GONE}", f"nack {GONE}", f"extend {GONE}"):
        assert broker(line).status == 2, line
    assert broker("claim @a").status == 1
    assert os.listdir(broker.folder) == []


def test_a_lease_holds_beside_a_running_supervisor(tmp_path: Path) -> None:
    site, shell = Site(tmp_path), Shell(tmp_path)
    try:
        site.handlers("def q(message):\n    note('ran', message)\n")
        site.write("q", "mine")
        receipt = claim(shell, "q --lease 1h")
        site.configure(q={})
        site.start()
        site.write("q", "theirs")
        site.noted("ran theirs")
        eventually(lambda: [message.body for message in site.there("q")] == ["mine"])
        shell.ok(f"extend {receipt} --lease 10ms")
        site.noted("ran mine", within=10)
        site.empty("q")
        assert shell(f"ack {receipt}").status == 2
        assert site.notes() == ["ran theirs", "ran mine"]
    finally:
        site.close()
        shell.close()
