"""What came of a fleet under fire, held against what was promised."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import connect
from statistics import median

from crash.chaos import LINES, Chaos, Strike
from crash.chaos_fleet import QUEUES
from supervised import Site

from brokerrun.core.model import Attempt

QUEUES_OF_THE_DEAD = tuple(f"{queue}.dlq" for queue in QUEUES)


@dataclass(slots=True)
class Run:
    """One call of a handler. *outcome*: None where its process was killed before it ended."""

    message: int
    owner: int
    pid: int
    at: int
    body: str
    outcome: str | None = None


@dataclass
class Owner:
    """One process of a worker, by the messages that it began. Monotonic nanoseconds."""

    pid: int
    runs: list[Run] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)

    @property
    def in_hand(self) -> bool:
        return self.runs[-1].outcome is None

    @property
    def was_stopping(self) -> bool:
        return any(strike.stopping for strike in self.strikes)


class Verdict:
    """Reads the notes of the handlers, the queues and the history, once all is over."""

    def __init__(self, chaos: Chaos):
        self.chaos, self.site = chaos, chaos.site
        self.runs: dict[int, list[Run]] = defaultdict(list)
        self.owners: dict[int, Owner] = {}
        self._read_notes()
        self._blame()
        self.dead = {ident for queue in QUEUES_OF_THE_DEAD for ident in self.site.ids(queue)}
        self.history = {ident: self.site.broker.history(ident) for ident in self.runs}
        self.repeats = list(self._repeats())

    def _read_notes(self) -> None:
        current: dict[tuple[int, int], Run] = {}
        for line in self.site.notes():
            kind, ident, owner, *rest = line.split(" ")
            if kind == "begin":
                run = Run(int(ident), int(owner), int(rest[0]), int(rest[2]), rest[3])
                self.runs[run.message].append(run)
                self.owners.setdefault(run.owner, Owner(run.pid)).runs.append(run)
                current[run.message, run.owner] = run
            elif kind == "end":
                current[int(ident), int(owner)].outcome = rest[0]

    def _blame(self) -> None:
        """Give each strike to the process that had the pid at that time."""
        by_pid: dict[int, list[Owner]] = defaultdict(list)
        for owner in self.owners.values():
            by_pid[owner.pid].append(owner)
        for strike in self.chaos.strikes:
            for pid in strike.pids:
                began = [owner for owner in by_pid[pid] if owner.runs[0].at <= strike.at]
                if began:
                    max(began, key=lambda owner: owner.runs[0].at).strikes.append(strike)

    def _repeats(self) -> Iterator[Run]:
        """Yield each run after which its message ran again, although it had not failed."""
        for runs in self.runs.values():
            yield from (run for run in runs[:-1] if run.outcome != "failed")

    # ---------------------------------------------------------------------------------- promises

    def nothing_is_lost(self) -> None:
        """What was promised, or begun, is done or among the dead; nothing waits."""
        promised = {int(line) for line in (self.site.folder / "promised").read_text().split()}
        for tag, process in self.chaos.writers:
            if process.wait(10) == 0:
                promised |= set(map(int, (self.site.folder / f"{tag}.out").read_text().split()))
        done = {ident for ident, runs in self.runs.items() if runs[-1].outcome == "done"}
        lost = (promised | set(self.runs)) - done - self.dead
        assert not lost, [(ident, self.runs.get(ident)) for ident in lost]
        assert all(self.history[ident] for ident in self.dead), "dead without a reason"

    def nothing_is_torn(self) -> None:
        """A command that was killed wrote all of its lines, or none."""
        seen = Counter(runs[0].body.partition(":")[0] for runs in self.runs.values())
        torn = {tag: seen[tag] for tag, _ in self.chaos.writers if seen[tag] not in (0, LINES)}
        assert not torn, torn

    def nobody_shares_a_message(self) -> None:
        overlaps = self.site.notes("overlap")
        assert not overlaps, overlaps

    def only_the_struck_repeat(self) -> None:
        """A process that was killed repeats what it had in hand, one message at most."""
        innocent = [run for run in self.repeats if not self.owners[run.owner].strikes]
        assert not innocent, f"ran again, and nobody had killed their processes: {innocent}"
        early = [run for run in self.repeats if run is not self.owners[run.owner].runs[-1]]
        assert not early, f"ran again, and their processes had begun another since: {early}"
        for strike in self.chaos.strikes:  # of a supervisor: each of its workers has one in hand
            assert self.count(strike) <= len(strike.pids), strike

    def history_says_who_died(self) -> None:
        """What was killed in hand has one attempt that says so; what was stopped has none."""
        killed, lost = self._pids("kill"), self._pids("kill", "supervisor")
        for attempt in (each for rows in self.history.values() for each in rows):
            assert self._is_just(attempt, killed, lost), attempt
        for owner in self.owners.values():
            run, kinds = owner.runs[-1], {strike.kind for strike in owner.strikes}
            if owner.in_hand and kinds & {"kill", "supervisor"} and not owner.was_stopping:
                said = [a.outcome for a in self.history[run.message] if a.pid == owner.pid]
                assert [each for each in said if each != "failed"] in (["died"], ["lost"]), run

    def _is_just(self, attempt: Attempt, killed: set[int], lost: set[int]) -> bool:
        if attempt.outcome == "failed":
            return self.runs[attempt.message][0].body.endswith(":fails")
        return attempt.pid in {"died": killed, "lost": lost}[attempt.outcome]

    def _pids(self, *kinds: str) -> set[int]:
        return {pid for s in self.chaos.strikes if s.kind in kinds for pid in s.pids}

    # ----------------------------------------------------------------------------------- figures

    def count(self, strike: Strike) -> int:
        """Count the messages that a strike had run again."""
        return sum(self.owners[run.owner].strikes[:1] == [strike] for run in self.repeats)

    def figures(self) -> str:
        """Say what was done to the fleet and what came of it."""
        struck = [owner for owner in self.owners.values() if owner.strikes]
        in_hand = Counter(owner.strikes[0].kind for owner in struck if owner.in_hand)
        blamed = [self.owners[run.owner].strikes for run in self.repeats]
        repeated = Counter(found[0].kind if found else "nothing" for found in blamed)
        strikes = Counter(strike.kind for strike in self.chaos.strikes)
        worst = max((self.count(strike) for strike in self.chaos.strikes), default=0)
        runs, recoveries = sum(map(len, self.runs.values())), self.chaos.recoveries
        seconds = [each for each, _ in recoveries]
        by_kind = "; ".join(
            f"{kind}: {number} strikes, {in_hand[kind]} in hand, {repeated[kind]} repeated"
            for kind, number in strikes.items()
        )
        return (
            f"\nfaults {dict(self.chaos.faults)}\n{by_kind}\n"
            f"{len(self.runs)} messages, {runs} runs, {len(self.owners)} processes, "
            f"{len(self.repeats)} repeats ({sum(r.outcome == 'done' for r in self.repeats)} "
            f"after their end), worst of one strike {worst}, {len(self.dead)} dead\n"
            f"exit statuses {dict(self.chaos.exits)}\n"
            f"{len(recoveries)} recoveries, median {median(seconds):.2f} s, "
            f"worst {max(recoveries)[0]:.2f} s after {max(recoveries)[1]!r}"
        )


def nothing_is_left(site: Site) -> None:
    """All is closed: there is the database and nothing of what a process needs to work on it."""
    site.broker.close()
    assert [name for name in ("-wal", "-shm") if Path(site.database + name).exists()] == []
    with closing(connect(site.database)) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
