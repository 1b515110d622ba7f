"""What it costs: start-up, memory, idling, size (S27 to S29, S38)."""

from __future__ import annotations

import ast
import io
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path

import psutil
from supervised import Site

import brokerrun
from faults.figure import Figure
from faults.ground import STAMP, all_ready, events, moment, open_site

NOTHING = """
    def q(job):
        stamp("begun", job.body)
"""
FLEETS = (1, 8, 32)
IDLE_FLEETS = (1, 8, 16, 32)  # the row's own number is 16
STARTS = ("fork", "spawn")
# Of 1 and 32 and 128 processes, from exec to ready, in seconds.
READY_GOALS = {1: 0.3, 32: 0.8, 128: 1.5}
IDLE_GOAL = 0.005
SETTLE_SECONDS = 2.0
# A worker looks after 10 ms, 20 ms, ... 5 s until it trusts that it is told: the first 10 s differ.
TRUST_SECONDS = 12.0
NOTICES = 30


def startup(rounds: int) -> Iterator[Figure]:
    """A round: `up` with a message waiting, for 1, 8, 32 and 128 processes."""
    for processes in (*FLEETS, 128):
        ready, first = [], []
        for _ in range(rounds):
            with open_site() as site:
                _configure(site, processes, "fork")
                site.write("q", "first")
                wall, begun = time.time(), time.monotonic()
                site.start(ready=False)
                all_ready(site, processes)
                ready.append(max(e.at for e in events(site, "worker_ready")) / 1e9 - wall)
                first.append(moment(site, "begun", "first") - begun)
        goal = {"median": READY_GOALS[processes]} if processes in READY_GOALS else {}
        yield Figure("S27", f"start of {processes}: exec to all ready", ready, "ms", goal)
        yield Figure("S27", f"start of {processes}: exec to first message begun", first, "ms")


def _configure(site: Site, processes: int, start: str) -> None:
    site.handlers(STAMP + NOTHING)
    site.configure(instance={"start": start}, q={"processes": processes})


def _up(site: Site, processes: int, start: str) -> list[psutil.Process]:
    """Start a fleet; return its supervisor, its template where it has one, its workers.

    All have done what a start needs by then.
    """
    _configure(site, processes, start)
    site.start(ready=False)
    all_ready(site, processes)
    time.sleep(SETTLE_SECONDS)
    return [psutil.Process(site.supervisor.pid), *site.children()]


def memory(rounds: int) -> Iterator[Figure]:
    """A round: a fleet at rest, of 1, 8 and 32 processes, forked and spawned."""
    for start in STARTS:
        for processes in FLEETS:
            found: dict[str, list[float]] = {}
            for _ in range(rounds):
                with open_site() as site:
                    for name, values in _memory(site, processes, start).items():
                        found.setdefault(name, []).extend(values)
            for name, values in found.items():
                goals = {"supervisor PSS": 15e6, "worker USS": 4e6 if start == "fork" else None}
                goal = goals.get(name)
                what = f"{processes} workers, {start}: {name}"
                yield Figure("S28", what, values, "MB", {"worst": goal} if goal else {})


def _memory(site: Site, processes: int, start: str) -> dict[str, list[float]]:
    supervisor, *others = _up(site, processes, start)
    workers = set(site.pids())
    found: dict[str, list[float]] = {"supervisor PSS": [_pss(supervisor)]}
    found["supervisor USS"] = [supervisor.memory_full_info().uss]
    found["template PSS"] = [_pss(p) for p in others if p.pid not in workers]
    found["worker PSS"] = [_pss(p) for p in others if p.pid in workers]
    found["worker USS"] = [p.memory_full_info().uss for p in others if p.pid in workers]
    found["whole tree PSS"] = [sum(_pss(p) for p in [supervisor, *others])]
    return {name: values for name, values in found.items() if values}


def _pss(process: psutil.Process) -> float:
    return float(process.memory_full_info().pss)


def idle(rounds: int) -> Iterator[Figure]:
    """A round: a second of an idle fleet of 1, 8, 16 and 32 processes, forked and spawned; and, for
    each, thirty messages that come one by one."""
    for start in STARTS:
        for processes in IDLE_FLEETS:
            with open_site() as site:
                tree = _up(site, processes, start)
                time.sleep(TRUST_SECONDS - SETTLE_SECONDS)
                before, begun = _cpu_seconds(tree), time.monotonic()
                time.sleep(rounds)
                share = (_cpu_seconds(tree) - before) / (time.monotonic() - begun)
                notices = [_notice_seconds(site, str(n)) for n in range(NOTICES)]
            what = f"{processes} workers, {start}: idle for {rounds} s, of a core"
            yield Figure("S29", what, [share], "%", {"worst": IDLE_GOAL}, 1)
            whole, notice = zip(*notices, strict=True)
            what = f"{processes} workers, {start}: begin of the write to begin of the handler"
            yield Figure("S29", what, whole, "ms")
            what = f"{processes} workers, {start}: end of the write to begin of the handler"
            yield Figure("S29", what, notice, "ms", {"median": 0.002})


def _cpu_seconds(tree: list[psutil.Process]) -> float:
    """Add up what the threads of all had of a processor: in nanoseconds, not in ticks."""
    spent = 0
    for process in tree:
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            spent += int(file.read_text().split()[0])
    return spent / 1e9


def _notice_seconds(site: Site, body: str) -> tuple[float, float]:
    """Return the seconds until the handler began: since the write began, and since it was done."""
    begun = time.monotonic()
    site.write("q", body)
    written = time.monotonic()
    time.sleep(0.1)  # nobody looks while it is noticed, and then all sleep again
    at = moment(site, "begun", body)
    return at - begun, at - written


def size(rounds: int) -> Iterator[Figure]:
    """Once: lines of code of the supervisor, neither docstrings nor comments nor blank lines."""
    folder = Path(brokerrun.__file__).parent / "supervisor"
    lines = {path.name: _code_lines(path.read_text()) for path in sorted(folder.glob("*.py"))}
    largest = max(lines, key=lambda name: lines[name])
    whole = sum(lines.values())
    yield Figure("S38", "code lines of the supervisor", [whole], "", {"worst": 1500}, len(lines))
    what = f"code lines of its largest file, {largest}"
    yield Figure("S38", what, [lines[largest]], "", {"worst": 300}, len(lines))


def _code_lines(text: str) -> int:
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in quiet and token.type != tokenize.ENDMARKER:
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - _docstring_lines(text))


def _docstring_lines(text: str) -> set[int]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            first = node.body[0]
            found.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return found
