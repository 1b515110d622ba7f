"""write, read --wait, peek --newest, automatic vacuum; and what every option refuses."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from shell import Shell, end
from support import eventually, sleeps

from brokerrun import Broker
from brokerrun.cli.broker import run
from brokerrun.core.model import Selection

GONE = "1795545666661470208-0123456789abcdef"  # a receipt of nothing that is there


# ------------------------------------------------------------------------------ delay, priority


def test_takers_do_not_see_a_delayed_message_and_lookers_do(broker: Shell) -> None:
    before = time.time()
    ident = broker.ok("write q x --delay 1h -t")
    for line in ("read q", "read q --all", f"read q -m {ident}", "claim q", "move q r"):
        assert broker(line).status == 2, line
    [shown] = broker("peek q --json").json
    assert shown["state"] == "delayed"
    assert before + 3600 <= shown["ready_at"] <= time.time() + 3600
    assert broker.ok("list") == "q: 1"
    assert broker("read q --wait 50ms").status == 2


def test_a_delayed_message_comes_by_itself(broker: Shell) -> None:
    broker.ok("write q x --delay 300ms")
    assert broker("read q").status == 2
    begun = time.monotonic()
    assert broker.ok("read q --wait 20s") == "x"
    assert time.monotonic() - begun < 5


def test_a_smaller_priority_goes_first_and_negative_ones_are_smaller(broker: Shell) -> None:
    for words in ("a --priority 5", "b", "c --priority -5", "d --priority=-10", "e --priority 0"):
        broker.ok(f"write q {words}")
    assert broker.ok("peek q --all") == "d\nc\nb\ne\na"
    assert broker("peek q --json").json[0]["priority"] == -10
    assert [broker.ok(line) for line in ("read q", "move q r")] == ["d", "c"]
    assert broker.ok("read q --all") == "b\ne\na"


def test_the_newest_is_the_last_written_whatever_its_priority(broker: Shell) -> None:
    for words in ("a --priority -5", "b", "c --priority 9", "d --priority -1"):
        broker.ok(f"write q {words}")
    assert broker.ok("peek q --newest") == "d"
    broker.ok("write q e --delay 1h")
    assert broker.ok("peek q --newest") == "e"
    assert broker("peek none --newest").status == 2


# ------------------------------------------------------------------------------ lines and JSON


def test_ndjson_takes_strings_and_objects_with_what_they_say(broker: Shell) -> None:
    lines = (
        '"plain"',
        '{"message": "first", "priority": -1}',
        "",
        '{"message": "later", "delay": "1h"}',
        '{"message": "two\\nlines \\u00fc", "delay": "0s", "priority": "2"}',
    )
    ids = broker.ok("write q - --ndjson --priority 1 --json", "\n".join(lines))
    assert ids.count("\n") == 3
    shown = broker("peek q --all --json").json
    assert [(m["message"], m.get("priority"), m.get("state")) for m in shown] == [
        ("first", -1, None),
        ("plain", 1, None),
        ("later", 1, "delayed"),
        ("two\nlines ü", 2, None),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("plain", "line 2 of standard input"),
        ("{}", 'expected "text" or {"message": "text"}'),
        ('["a"]', 'expected "text" or {"message": "text"}'),
        ('{"message": null}', 'expected "text" or {"message": "text"}'),
        ('{"message": "x", "mesage": 1}', "unknown key 'mesage'"),
        ('{"message": "x", "delay": 5}', "delay: expected a duration like '30s', got 5"),
        ('{"message": "x", "delay": "-5s"}', "delay: expected a duration like '30s'"),
        ('{"message": "x", "priority": 1.5}', "priority: expected a whole number"),
        ('{"message": "x", "priority": true}', "priority: expected a whole number"),
        ('{"message": "x", "priority": 9999999999}', "priority: expected a whole number"),
        ('"\\ud800"', "lone surrogate"),
        ("[" * 100_000, "line 2 of standard input"),
        ("9" * 10_000, "line 2 of standard input"),
    ],
)
def test_a_fault_names_its_line_and_stores_nothing(broker: Shell, line: str, said: str) -> None:
    done = broker("write q --ndjson", f'"good"\n{line}\n"good"\n')
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "line 2 of standard input: " in done.err
    assert said in done.err
    assert "nothing was stored" in done.err
    assert os.listdir(broker.folder) == []


def test_a_body_is_bounded_as_the_settings_say_also_in_json(broker: Shell) -> None:
    limit = {"BROKER_MAX_MESSAGE_SIZE": "5"}
    assert broker("write q 12345", **limit).status == 0
    for line, stdin in (
        ("write q 123456", ""),
        ("write q -", "123456"),
        ("write q --lines", "12345\n123456\n"),
        ("write q --ndjson", '"ok"\n"123456"\n'),
        ("broadcast 123456", ""),
    ):
        done = broker(line, stdin, **limit)
        assert (done.status, done.err.count("\n")) == (1, 1), line
    assert broker.ok("write q --ndjson", '"\\u0061\\u0061\\u0061\\u0061\\u0061"', **limit) == ""
    assert broker.bodies() == ["12345", "aaaaa"]


@pytest.mark.parametrize(("words", "shape"), [("--lines", "{}\n"), ("--ndjson", '"{}"\n')])
def test_another_process_sees_all_of_an_input_or_nothing(
    broker: Shell, words: str, shape: str
) -> None:
    count = 4000
    writer = broker.start(f"write q {words}")
    seen: set[int] = set()

    def feed() -> None:
        assert writer.stdin is not None
        for number in range(count):
            writer.stdin.write(shape.format(number).encode())
        writer.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    with Broker(broker.database) as looker:
        while writer.poll() is None:
            seen.add(looker.stats("q").total)
        seen.add(looker.stats("q").total)
    feeder.join()
    writer.stdin = None
    assert seen <= {0, count}
    assert count in seen


@pytest.mark.parametrize("words", ["-", "--lines", "--ndjson"])
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_input_comes_stores_nothing(
    broker: Shell, words: str, signum: int, status: int
) -> None:
    writer = broker.start(f"write q {words}")
    assert writer.stdin is not None
    writer.stdin.write(b'"a"\n' * 50_000)  # more than a pipe holds: it reads when this returns
    writer.stdin.flush()
    done = end(writer, signum)
    assert (done.status, done.out, done.err) == (status, "", "")
    assert os.listdir(broker.folder) == []


# ---------------------------------------------------------------------------------- read --wait


def test_a_reader_that_waits_wakes_with_the_write(broker: Shell) -> None:
    gaps = []
    broker.store.write("other", "x")
    for number in range(5):
        waiting = broker.start("read q --wait 20s")
        eventually(lambda pid=waiting.pid: sleeps(pid) and watches(pid))  # type: ignore[misc]
        broker.store.write("q", str(number))
        begun = time.monotonic()
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == f"{number}\n".encode()
        gaps.append(time.monotonic() - begun)
        assert end(waiting).status == 0
    assert min(gaps) < 0.05  # the machine may be busy with others at one time or another


def watches(pid: int) -> bool:
    """Tell whether the process has the kernel tell it of writes."""
    found = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return "anon_inode:inotify" in found


def test_a_reader_that_waits_in_vain_ends_after_its_time(broker: Shell) -> None:
    begun = time.monotonic()
    assert broker("read q --wait 200ms").status == 2
    assert 0.2 <= time.monotonic() - begun < 5
    waiting = broker.start("read q --wait 60s")
    eventually(lambda: sleeps(waiting.pid) and watches(waiting.pid))
    assert end(waiting, signal.SIGINT).status == 130


# ------------------------------------------------------------------------------ automatic vacuum


def read_ones(broker: Shell, **env: str) -> int:
    """Read 60 of 160 messages by commands of their own; return how many read rows are left."""
    broker.store.write_many("q", ["x"] * 160)
    for _ in range(60):
        broker.ok("read q", **env)
    return broker.store.stats("q").claimed


@pytest.mark.parametrize(
    ("env", "least", "most"),
    [
        ({}, 60, 60),  # not before a hundred were read
        ({"BROKER_AUTO_VACUUM_INTERVAL": "10"}, 1, 16),
        ({"BROKER_AUTO_VACUUM_INTERVAL": "10", "BROKER_VACUUM_THRESHOLD": "25%"}, 11, 40),
        ({"BROKER_AUTO_VACUUM_INTERVAL": "1", "BROKER_VACUUM_THRESHOLD": "0"}, 0, 0),
        ({"BROKER_AUTO_VACUUM_INTERVAL": "10", "BROKER_VACUUM_THRESHOLD": "1000"}, 60, 60),
        ({"BROKER_AUTO_VACUUM_INTERVAL": "10", "BROKER_VACUUM_BATCH_SIZE": "3"}, 1, 16),
        ({"BROKER_AUTO_VACUUM_INTERVAL": "1", "BROKER_AUTO_VACUUM": "0"}, 60, 60),
    ],
)
def test_rows_that_were_read_stay_as_few_as_the_settings_say(
    broker: Shell, env: dict[str, str], least: int, most: int
) -> None:
    assert least <= read_ones(broker, **env) <= most
    assert broker.store.stats("q").pending == 100


def test_one_that_reads_all_leaves_few_rows(broker: Shell) -> None:
    broker.store.write_many("q", ["x"] * 3000)
    broker.ok("read q --all", BROKER_READ_COMMIT_INTERVAL="50")
    assert broker.store.stats("q").total <= 150
    broker.store.write("q", "y")
    assert [m.body for m in broker.store.read("q", Selection())] == ["y"]


# ------------------------------------------------------------------------------------- refusals


REFUSED = [
    ("claim q --lease 5", "--lease: expected a duration like '30s', got '5'"),
    ("claim q --lease 0s", "--lease: expected a duration above 0s, got '0s'"),
    ("claim q --limit 0", "--limit: expected a number from 1 to 1000000, got '0'"),
    ("claim q --limit many", "--limit: expected a number from 1 to 1000000, got 'many'"),
    ("claim q --wait soon", "--wait: expected a duration like '30s', got 'soon'"),
    ("claim q --hold .q", "invalid queue name '.q'"),
    ("claim .q", "invalid queue name '.q'"),
    ("ack 12", "invalid receipt '12'"),
    (f"ack {GONE} 1795545666661470208-0123456789ABCDEF", "invalid receipt"),
    ("ack 9999999999999999999-0000000000000001", "invalid receipt"),
    ("ack 1795545666661470208-ffffffffffffffff", "invalid receipt"),
    ("nack 1795545666661470208-ffffffffffffffff", "invalid receipt"),
    ("extend 9999999999999999999-0000000000000001", "invalid receipt"),
    (f"nack {GONE} --delay -1s", "--delay needs a value, got '-1s'"),
    (f"nack {GONE} --delay 1y", "--delay: expected a duration like '30s', got '1y'"),
    (f"nack {GONE} --max-attempts 0", "--max-attempts: expected a number from 1"),
    (f"nack {GONE} --dead-letter a/b", "invalid queue name 'a/b'"),
    (f"nack {GONE} --dead --release", "--dead cannot be used with --release or --delay"),
    (f"nack {GONE} --dead --delay 1s", "--dead cannot be used with --release or --delay"),
    (f"extend {GONE} --lease 99999999d", "--lease: expected a duration of at most 36500d"),
    (f"extend {GONE} --lease 0s", "--lease: expected a duration above 0s, got '0s'"),
    ("write q x --delay 5", "--delay: expected a duration like '30s', got '5': write the unit"),
    ("write q x --delay 1s5m", "--delay: expected a duration like '30s', got '1s5m'"),
    ("write q x --priority 1.5", "priority: expected a whole number"),
    ("write q x --priority low", "priority: expected a whole number"),
    ("write q x --priority 2147483648", "priority: expected a whole number"),
    ("write q x --lines", "--lines takes messages from standard input"),
    ("write q x --ndjson", "--ndjson takes messages from standard input"),
    ("write q --lines --ndjson", "--lines and --ndjson cannot be used together"),
    ("read q --wait 5", "--wait: expected a duration like '30s', got '5'"),
    ("read q --wait 1s -m 1795545666661470208", "-m cannot be used with --wait"),
    ("peek q --newest --all", "--newest cannot be used with --all, --after or --before"),
    ("peek q --newest -m 1795545666661470208", "-m cannot be used with --newest"),
    ("exec q --timeout 5 -- true", "--timeout: expected a duration like '30s', got '5'"),
    ("exec q --timeout 0s -- true", "--timeout: expected a duration above 0s, got '0s'"),
    ("exec q --max-attempts none -- true", "--max-attempts: expected a number from 1"),
    ("exec q --dead-letter .x -- true", "invalid queue name '.x'"),
    ("exec q --wait x -- true", "--wait: expected a duration like '30s', got 'x'"),
    ("exec .q -- true", "invalid queue name '.q'"),
    ("exec q --", "missing argument 'COMMAND...'"),
    ("rename q", "missing argument 'NEW'"),
    ("rename q q", "'q' cannot go to itself"),
    ("rename q .new", "invalid queue name '.new'"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_a_wrong_value_is_refused_in_one_sentence(
    line: str, said: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["-d", str(tmp_path), *line.split()]) == 1
    err = capfd.readouterr().err
    assert err.startswith("broker: error: ")
    assert (said in err, err.count("\n")) == (True, 1)
    assert os.listdir(tmp_path) == []
