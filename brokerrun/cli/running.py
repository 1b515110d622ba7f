"""`broker exec`: a command for each message, its exit status the answer."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from functools import partial
from typing import Final

from brokerrun.cli.grammar import Line
from brokerrun.cli.history import signal_name
from brokerrun.cli.leases import policy_of
from brokerrun.cli.output import DONE, EMPTY, FAILED, INTERRUPTS, Interrupted, say
from brokerrun.cli.place import open_broker, read_place
from brokerrun.cli.values import seconds, some_seconds
from brokerrun.core.broker import Broker, check_queue
from brokerrun.core.ids import now_ns
from brokerrun.core.model import Claim, Wanted
from brokerrun.core.recovery import LOOK_SECONDS
from brokerrun.core.retry import Ended, Outcome, RetryPolicy, acknowledge, release
from brokerrun.errors import BrokerrunError, StoreMissing
from brokerrun.supervisor.processes import die_with, strike_group

_GRACE = 10.0  # seconds for the command to end when we are told to
_OUTCOMES: Final = {  # sysexits.h: EX_TEMPFAIL, EX_DATAERR, EX_CONFIG
    75: Outcome.RETRY,
    65: Outcome.DEAD,
    78: Outcome.DEAD,
}


class NotStarted(BrokerrunError):
    """The command cannot be run: the message was given back, no attempt counted."""


def run(line: Line) -> int:
    """Run the command for one message, or with --all until the queue is empty."""
    queue = check_queue(line.queue or "")
    timeout = None if line.timeout is None else some_seconds("--timeout", line.timeout, 0.0)
    patience = seconds("--wait", line.wait, 0.0)
    deadline = time.monotonic() + patience
    with open_broker(read_place(line), create=patience > 0) as broker:
        try:
            name = broker.resolve(queue)
            policy = policy_of(line, broker)(name)
            broker.stats(name)  # before an owner leaves its lock file where there is no store
        except StoreMissing:
            return EMPTY
        results: list[bool] = []
        with broker.owner() as owner:
            while True:
                with INTERRUPTS.held():
                    claims = broker.claim(Wanted(name, owner))
                    results += [_handle(line, broker, each, policy, timeout) for each in claims]
                left = deadline - time.monotonic()
                if not (claims and line.all) and (results or left <= 0):
                    break
                INTERRUPTS.check()
                if not claims:
                    broker.store.wait([name], min(left, LOOK_SECONDS))
    return EMPTY if not results else DONE if all(results) else FAILED


def _handle(
    line: Line, broker: Broker, claim: Claim, policy: RetryPolicy, timeout: float | None
) -> bool:
    """Run the command for one claim and settle it; tell whether it succeeded.

    Within `INTERRUPTS.held`: a signal comes through while the command runs, and only then.
    """
    started_at = now_ns()
    try:
        status, late, interrupted = _run(line.command, claim, timeout)
    except NotStarted:
        broker.store.work([release(claim.id, claim.receipt)])
        raise
    if interrupted is not None:  # what was not finished counts no attempt
        settle = acknowledge if status == 0 else release
        broker.store.work([settle(claim.id, claim.receipt)])
        raise interrupted
    if status == 0:
        broker.store.work([acknowledge(claim.id, claim.receipt)])
        return True
    ended = _ended(status, late, line.command[0], started_at)
    settlement = policy.settle(claim, ended)
    broker.store.work([settlement])
    if not line.quiet:
        again = f"again in {settlement.delay:.0f}s"
        where = f"to {settlement.queue}" if settlement.queue else again
        say(f"broker: {claim.id}: {ended.error}; {where}")
    return False


def _run(
    command: tuple[str, ...], claim: Claim, timeout: float | None
) -> tuple[int, bool, Interrupted | None]:
    """Run the command to its end.

    Returns:
        Its exit status, or minus its signal; whether it took too long; what interrupted us.
    """
    child = _start(command, claim)
    late, stopped = False, None
    try:
        with INTERRUPTS.let_in():
            child.wait(timeout)
    except subprocess.TimeoutExpired:
        late = True
    except Interrupted as interrupted:
        stopped = interrupted
        _stop(child, interrupted.exit_status - 128)
    finally:
        if child.poll() is None:
            strike_group(child.pid)
            child.wait(_GRACE)
    return child.returncode, late, stopped


def _start(command: tuple[str, ...], claim: Claim) -> subprocess.Popen[bytes]:
    facts = {
        "BROKER_MESSAGE_ID": str(claim.id),
        "BROKER_MESSAGE_QUEUE": claim.queue,
        "BROKER_MESSAGE_ATTEMPT": str(claim.attempts),
    }
    # A file, not a pipe that somebody has to feed: we would wait for who holds it open unread, and
    # a command that finishes in its grace would never see its end.
    with open(os.memfd_create("message"), "w+b") as body:
        body.write(claim.body.encode())
        body.seek(0)
        try:
            return subprocess.Popen(
                command,
                stdin=body,
                env={**os.environ, **facts},
                process_group=0,
                preexec_fn=partial(_belong, os.getpid()),
            )
        except OSError as error:
            raise NotStarted(
                f"cannot run {command[0]!r}: {error.strerror}; the message was given back"
            ) from error


def _belong(parent: int) -> None:
    """In the child: never run the command for nobody."""
    if not die_with(parent):
        os._exit(1)


def _stop(child: subprocess.Popen[bytes], signum: int) -> None:
    """Let the command end by itself; a second signal to us, or the end of the grace, kills it."""
    if child.poll() is None:
        strike_group(child.pid, signum)
    with suppress(subprocess.TimeoutExpired, Interrupted), INTERRUPTS.let_in():
        child.wait(_GRACE)


def _ended(status: int, late: bool, command: str, started_at: int) -> Ended:
    name = os.path.basename(command)
    if late:
        outcome, error = Outcome.TIMEOUT, f"{name} took too long"
    elif status < 0:
        outcome, error = Outcome.FAILED, f"{name} was ended by {signal_name(-status)}"
    else:
        outcome = _OUTCOMES.get(status, Outcome.FAILED)
        error = f"{name} ended with {status}"
    return Ended(
        outcome,
        error=error,
        exit_status=status if status >= 0 else None,
        signal=-status if status < 0 else None,
        host=os.uname().nodename,
        started_at=started_at,
        ended_at=now_ns(),
    )
