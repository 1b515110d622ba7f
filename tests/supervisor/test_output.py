"""What handlers and their subprocesses print: whole, in order, and nobody is held up by it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from supervised import Site, gone, lives
from support import eventually

from brokerrun.supervisor.lines import MOST_LINE_BYTES, lines_of

PRINTS = """
    def q(job):
        print("said", job.body)
        print("complained", job.body, file=sys.stderr)
        os.write(1, b"raw " + job.body.encode() + b"\\n")
        subprocess.run(["sh", "-c", "echo child; echo child-error >&2"], check=True)
"""
FLOOD = """
    def q(job):
        line = "x" * 99 + "\\n"
        for n in range(10):
            sys.stdout.write(line * 1000)
        note("done", job.body)
"""


def lines(site: Site) -> list[str]:
    return site.log().splitlines()


def said(site: Site, line: str, within: float = 5) -> None:
    """Wait until the supervisor's output has exactly that line."""
    eventually(lambda: line in lines(site), within)


def scribes(site: Site) -> list[int]:
    return site.titled("brokerrun: scribe")


# ------------------------------------------------------------------------------------ the forms


def test_a_prefix_names_who_printed_and_subprocesses_are_copied_too(site: Site) -> None:
    site.handlers(PRINTS)
    site.configure(q={"output": "prefix"})
    site.start()
    site.write("q", "a")
    for line in ("said a", "complained a", "raw a", "child", "child-error"):
        said(site, f"q.1 | {line}")
    assert site.stop() == 0


def test_json_is_one_object_a_line(site: Site) -> None:
    site.handlers(PRINTS)
    site.configure(instance={"log": "json"}, q={"output": "json"})
    site.start()
    site.write("q", 'a "quoted" é')
    eventually(lambda: "child-error" in site.log())
    assert site.stop() == 0
    found = [entry for entry in map(json.loads, lines(site)) if "text" in entry]
    assert {tuple(entry) for entry in found} == {("time", "worker", "slot", "stream", "text")}
    assert {(entry["worker"], entry["slot"]) for entry in found} == {("q", 1)}
    by_stream = {
        stream: [entry["text"] for entry in found if entry["stream"] == stream]
        for stream in ("stdout", "stderr")
    }
    assert by_stream["stdout"] == ['said a "quoted" é', 'raw a "quoted" é', "child"]
    assert by_stream["stderr"] == ['complained a "quoted" é', "child-error"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", entry["time"]) for entry in found)


def test_a_file_has_what_was_printed_as_it_was(site: Site) -> None:
    site.handlers(PRINTS)
    site.configure(q={"output": "file:out/{worker}.{slot}.log"})
    site.start()
    site.write("q", "a")
    file = site.folder / "out" / "q.1.log"
    eventually(lambda: file.exists() and "child-error" in file.read_text())
    found = file.read_text().splitlines()
    assert sorted(found) == ["child", "child-error", "complained a", "raw a", "said a"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "said a" not in site.log()
    assert site.stop() == 0


def test_a_file_that_cannot_be_written_is_named_and_stops_nobody(site: Site) -> None:
    site.handlers(PRINTS)
    site.configure(q={"output": "file:log/{worker}.log"})  # there is a file of that name
    site.start()
    site.write("q", "a", "b")
    site.empty("q")
    complaint = f"brokerrun: {site.folder}/log/q.log: what is printed is dropped: "
    eventually(lambda: complaint in site.log())
    assert site.stop() == 0
    assert site.log().count(complaint) == 1


def test_who_inherits_prints_where_the_supervisor_does_and_nothing_is_started(site: Site) -> None:
    site.handlers(PRINTS)
    site.configure(q={})
    site.start(PYTHONUNBUFFERED="")
    site.write("q", "a")
    for line in ("said a", "complained a", "raw a", "child", "child-error"):
        said(site, line)
    assert scribes(site) == []
    assert site.stop() == 0


def test_the_log_lines_of_the_worker_itself_are_not_taken_for_prints(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            job.log.info("told", body=job.body)
            print("printed")
            raise ValueError("no")
        """
    )
    site.configure(q={"output": "prefix"})
    site.start()
    site.write("q", "a")
    said(site, "q.1 | printed")
    eventually(lambda: "event=message_settled" in site.log())
    assert site.stop() == 0
    own = [line for line in lines(site) if "event=told" in line or "message_settled" in line]
    assert len(own) == 2
    assert all(line.startswith("timestamp=") for line in own)


# ------------------------------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("end", ["os._exit(9)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_last_line_is_not_lost_without_its_end_at_death(site: Site, end: str) -> None:
    site.handlers(
        f"""
        def q(job):
            print("first")
            print("last", end="")
            {end}
        """
    )
    site.configure(q={"output": "prefix", "crashes": 1})
    site.start(PYTHONUNBUFFERED="")  # whatever our own surroundings say
    site.write("q", "a")
    said(site, "q.1 | last")
    assert lines(site).count("q.1 | first") == 1
    assert site.stop() == 0


def test_what_a_stopping_fleet_still_prints_is_copied_before_it_is_gone(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            note("begun")
            await_file("go")
            for n in range(20_000):
                print("line", n)
            print("end", end="")
        """
    )
    site.configure(q={"output": "prefix"})
    site.start()
    site.write("q", "a")
    site.noted("begun")
    site.supervisor.send_signal(signal.SIGTERM)
    site.release("go")
    assert site.ends() == 0
    found = [line for line in lines(site) if line.startswith("q.1 | ")]
    assert found == [f"q.1 | line {n}" for n in range(20_000)] + ["q.1 | end"]


def test_lines_of_several_processes_are_whole_however_they_are_written(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            for n in range(200):
                for part in ("<", job.body, "-", str(n), "-" + "y" * 300, ">\\n"):
                    os.write(1, part.encode())
        """
    )
    site.configure(q={"output": "prefix", "processes": 4, "prefetch": 1})
    site.start()
    site.write("q", *"abcdefgh")
    site.empty("q", 20)
    assert site.stop() == 0
    found = [line for line in lines(site) if not line.startswith("timestamp=")]
    whole = re.compile(r"q\.[1-4] \| <([a-h])-(\d+)-y{300}>")
    taken = [match.groups() for match in map(whole.fullmatch, found) if match]
    assert len(found) == len(taken)
    assert sorted(taken) == sorted((body, str(n)) for body in "abcdefgh" for n in range(200))


def test_files_are_turned_without_the_loss_of_a_line(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            start = int(job.body)
            block = "".join(f"{n:08d}" + "z" * 91 + "\\n" for n in range(start, start + 5000))
            print(block, end="")
        """
    )
    site.configure(q={"output": "file:out/q.log", "prefetch": 1})
    site.start()
    site.write("q", *[str(n * 5000) for n in range(46)])  # 23 MB
    site.empty("q", 20)
    assert site.stop() == 0
    files = [site.folder / "out" / name for name in ("q.log.2", "q.log.1", "q.log")]
    assert sorted((site.folder / "out").iterdir()) == sorted(files)
    found = [line for file in files for line in file.read_text().splitlines()]
    assert found == [f"{n:08d}" + "z" * 91 for n in range(230_000)]
    assert all(file.stat().st_size <= 10_000_000 for file in files)


WRITES_MUCH = """
import sys
from brokerrun.supervisor import sinks
from brokerrun.supervisor.sinks import LogFile

sinks.MOST_FILE_BYTES, sinks.KEPT_FILES = 600_000, 100
name, file = sys.argv[1].encode(), LogFile(sys.argv[2])
for n in range(1_000):
    assert file.put([b"%s %d %s\\n" % (name, n, b"x" * 15_000)]) == 0
"""


def test_several_supervisors_turn_one_file_without_the_loss_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "q.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITES_MUCH, name, str(path)]) for name in "abc"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    files = list(tmp_path.iterdir())
    assert 5 < len(files) < 100
    lines = [line for file in files for line in file.read_text().splitlines()]
    for writer in "abc":
        mine = [line.split() for line in lines if line.startswith(writer)]
        assert sorted(int(number) for _, number, _ in mine) == list(range(1_000))
        assert {len(text) for _, _, text in mine} == {15_000}


def test_a_file_that_somebody_else_turned_is_made_anew(site: Site) -> None:
    site.handlers("def q(job):\n    print(job.body)")
    site.configure(q={"output": "file:out/q.log"})
    site.start()
    file = site.folder / "out" / "q.log"
    site.write("q", "before")
    eventually(lambda: file.exists() and file.read_text() == "before\n")
    file.rename(file.with_suffix(".old"))
    site.write("q", "after")
    eventually(lambda: file.exists() and file.read_text() == "after\n")
    assert site.stop() == 0


# ---------------------------------------------------------------------------- nobody is held up


def test_a_stopped_supervisor_holds_up_nobody_who_prints(site: Site) -> None:
    site.handlers(FLOOD)
    site.configure(q={"output": "file:out/{worker}.{slot}.log", "processes": 2, "prefetch": 1})
    site.start()
    site.write("q", "first")
    site.noted("done first")
    site.halt(site.supervisor.pid)
    try:
        site.write("q", *[f"m{n}" for n in range(6)])  # a megabyte each
        for n in range(6):
            site.noted(f"done m{n}", 10)
        site.empty("q")
    finally:
        site.supervisor.send_signal(signal.SIGCONT)
    assert site.stop() == 0
    printed = sum(file.stat().st_size for file in (site.folder / "out").iterdir())
    assert printed == 7 * 1_000_000


def test_the_supervisors_death_breaks_no_print(site: Site) -> None:
    # The worker goes with its supervisor; what it started, and moved out of its group, prints on.
    site.handlers(
        """
        SCRIPT = "for n in 1 2 3 4 5 6 7 8; do echo tick $n; sleep 0.05; done; touch whole"

        def q(job):
            print("alive")
            subprocess.Popen(["sh", "-c", SCRIPT], start_new_session=True, cwd=HERE)
            note("begun", os.getpid())
            await_file("never")
        """
    )
    site.configure(q={"output": "prefix"})
    site.start()
    site.write("q", "a")
    said(site, "q.1 | tick 1")
    left = [*site.pids(), *scribes(site)]
    site.supervisor.kill()
    site.supervisor.wait()
    said(site, "q.1 | tick 8")
    eventually(gone(left), 3)
    assert (site.folder / "whole").exists()


def test_the_scribes_death_breaks_no_print_and_another_one_goes_on(site: Site) -> None:
    site.handlers(
        """
        def q(job):
            note("begun")
            await_file("go")
            for n in range(100):
                print("line", n)
            note("done")
        """
    )
    site.configure(q={"output": "prefix"})
    site.start()
    site.write("q", "a")
    site.noted("begun")
    (first,) = eventually(lambda: scribes(site))
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not lives(first))
    site.release("go")
    site.noted("done")
    said(site, "q.1 | line 99")
    assert scribes(site) != [first]
    assert "event=scribe_died" in site.log()
    assert site.stop() == 0


def test_a_reader_that_takes_nothing_costs_lines_but_holds_up_nobody(site: Site) -> None:
    site.handlers(FLOOD)
    site.configure(q={"output": "json", "prefetch": 1})
    with piped(site) as process:
        site.write("q", *[f"m{n}" for n in range(3)])
        for n in range(3):
            site.noted(f"done m{n}", 10)
        site.empty("q")
        stdout = process.stdout
        assert stdout is not None
        assert b"xxx" in stdout.readline()
        os.set_blocking(stdout.fileno(), False)
        eventually(lambda: drained(stdout.fileno()))
        site.write("q", "again")  # the next that is printed says what was dropped
        site.noted("done again")
        found = b""

        def told() -> bool:
            nonlocal found
            found += drained(stdout.fileno())
            return b"lines dropped: nobody took them]" in found

        eventually(told)
        process.terminate()
        assert process.wait(10) == 0


def test_a_reader_that_is_gone_stops_nobody(site: Site) -> None:
    site.handlers(FLOOD)
    site.configure(q={"output": "prefix", "prefetch": 1})
    with piped(site) as process:
        assert process.stdout is not None
        process.stdout.close()
        site.write("q", "a", "b")
        site.noted("done a")
        site.noted("done b")
        site.empty("q")
        assert site.workers()[0]["restarts"] == 0
        process.terminate()
        assert process.wait(10) == 0


@contextmanager
def piped(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Run `brokerrun up` with a pipe as its standard output."""
    with open(site.folder / "log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "brokerrun", "up", "-c", site.config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=site.folder,
        )
    try:
        with process:
            eventually(lambda: site.workers() and site.workers()[0]["state"] == "idle", 20)
            yield process
    finally:
        process.kill()


def drained(fd: int) -> bytes:
    """Read what a pipe that does not block has."""
    found = b""
    with suppress(BlockingIOError):
        while data := os.read(fd, 65536):
            found += data
    return found


# --------------------------------------------------------------------------------------- lines


def test_lines_are_cut_where_they_end_and_the_rest_waits() -> None:
    assert lines_of(b"a\nb\n\nc") == ([b"a", b"b", b""], b"c")
    assert lines_of(b"") == ([], b"")


@pytest.mark.parametrize("shift", range(4))
def test_a_line_that_is_too_long_becomes_several_and_no_character_is_cut(shift: int) -> None:
    text = "x" * shift + "𝄞" * 20_000
    lines, rest = lines_of(text.encode() + b"\nnext")
    assert rest == b"next"
    assert "".join(line.decode() for line in lines) == text
    assert max(map(len, lines)) <= MOST_LINE_BYTES
    assert len(lines) == 3


def test_what_is_no_text_is_bounded_too() -> None:
    lines, rest = lines_of(b"\x80" * 100_000)
    assert b"".join([*lines, rest]) == b"\x80" * 100_000
    assert max(map(len, [*lines, rest])) <= MOST_LINE_BYTES
