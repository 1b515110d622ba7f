"""The verbs that hold a message over several commands: claim, ack, nack, extend."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from brokerrun.cli.grammar import Line
from brokerrun.cli.output import DONE, EMPTY, INTERRUPTS, as_json, emit, require_output
from brokerrun.cli.place import open_broker, read_place
from brokerrun.cli.values import count, seconds, some_seconds
from brokerrun.core.broker import Broker, check_queue
from brokerrun.core.ids import now_ns
from brokerrun.core.leases import (
    LEASE,
    acknowledge,
    claim_for,
    holding,
    parse_receipt,
    receipt_text,
)
from brokerrun.core.leases import extend as extend_lease
from brokerrun.core.model import Claim, Effect, Held, Settlement
from brokerrun.core.recovery import LOOK_SECONDS
from brokerrun.core.retry import Ended, Outcome, RetryPolicy, dead_letter_of, release
from brokerrun.core.states import Event
from brokerrun.errors import StoreMissing, UsageError

_SECOND = 10**9


def claim(line: Line) -> int:
    """Hold ready messages for a while, and print them with their receipts."""
    queue = check_queue(line.queue or "")
    hold = None if line.hold is None else check_queue(line.hold)
    lease, limit = some_seconds("--lease", line.lease, LEASE), count("--limit", line.limit, 1)
    patience = seconds("--wait", line.wait, 0.0)
    deadline = time.monotonic() + patience
    require_output()
    with open_broker(read_place(line), create=patience > 0) as broker:
        while True:
            with INTERRUPTS.held():
                claims, ends_at = _claimed(broker, queue, lease, limit, hold)
                if claims:
                    _hand_out(line, broker, claims, ends_at)
                    return DONE
            left = deadline - time.monotonic()
            if left <= 0:
                return EMPTY
            INTERRUPTS.check()
            broker.store.wait([broker.resolve(queue)], min(left, LOOK_SECONDS))


def _hand_out(line: Line, broker: Broker, claims: list[Claim], ends_at: int) -> None:
    """Print claims; what cannot be printed is given back. Within `INTERRUPTS.held`."""
    try:
        with INTERRUPTS.let_in():
            emit(_shown(line, each, ends_at) for each in claims)
    except BaseException:
        broker.store.work([release(each.id, each.receipt) for each in claims])
        raise


def ack(line: Line) -> int:
    """End claims in success."""
    for receipt in line.receipts:
        parse_receipt(receipt)
    with INTERRUPTS.held(), open_broker(read_place(line), create=False) as broker:
        try:
            ended = acknowledge(broker, line.receipts)
        except StoreMissing:
            ended = [False] * len(line.receipts)
    if line.json:
        emit(
            as_json({"receipt": receipt, "acked": done})
            for receipt, done in zip(line.receipts, ended, strict=True)
        )
    return DONE if all(ended) else EMPTY


def nack(line: Line) -> int:
    """End a claim in failure, or give it back as if it had not been made."""
    receipt = line.receipt or ""
    parse_receipt(receipt)
    if line.dead and (line.release or line.delay is not None):
        raise UsageError("--dead cannot be used with --release or --delay")
    delay = seconds("--delay", line.delay, 0.0) if line.delay is not None else None
    with INTERRUPTS.held(), open_broker(read_place(line), create=False) as broker:
        policy = policy_of(line, broker)
        try:
            held = holding(broker, receipt)
        except StoreMissing:
            held = None
        if held is None:
            return EMPTY
        settlement = _failure(line, policy(held.queue), held, delay)
        settled = broker.store.work([settlement])[0] == [Effect.SETTLED]
    if line.json and settled:
        emit([as_json(_fate(held, settlement))])
    return DONE if settled else EMPTY


def extend(line: Line) -> int:
    """Hold a claimed message longer."""
    lease = some_seconds("--lease", line.lease, LEASE)
    with INTERRUPTS.held(), open_broker(read_place(line), create=False) as broker:
        try:
            extended = extend_lease(broker, line.receipt or "", lease)
        except StoreMissing:
            extended = False
    if line.json:
        emit([as_json({"receipt": line.receipt, "extended": extended})])
    return DONE if extended else EMPTY


def policy_of(line: Line, broker: Broker) -> Callable[[str], RetryPolicy]:
    """Build the retry policy of a queue from the options."""
    attempts = count("--max-attempts", line.max_attempts, RetryPolicy().max_attempts)
    dead = None if line.dead_letter is None else broker.resolve(line.dead_letter)

    def policy(queue: str) -> RetryPolicy:
        if dead == queue:
            raise UsageError(f"--dead-letter: {queue!r} is the queue itself: name another one")
        return RetryPolicy(attempts, dead_letter=dead or dead_letter_of(queue))

    return policy


def _claimed(
    broker: Broker, queue: str, lease: float, limit: int, hold: str | None
) -> tuple[list[Claim], int]:
    try:
        return claim_for(broker, queue, lease=lease, limit=limit, hold=hold)
    except StoreMissing:
        return [], 0


def _shown(line: Line, claim: Claim, ends_at: int) -> str:
    receipt = receipt_text(claim)
    if not line.json:
        return f"{receipt}\t{claim.body}"
    return as_json(
        {
            "message": claim.body,
            "timestamp": claim.id,
            "id": str(claim.id),
            "receipt": receipt,
            "queue": claim.queue,
            "attempts": claim.attempts,
            "lease_ends_at": ends_at / _SECOND,
        }
    )


def _failure(line: Line, policy: RetryPolicy, held: Held, delay: float | None) -> Settlement:
    if line.release:
        return release(held.id, held.receipt)._replace(delay=delay or 0.0)
    outcome = Outcome.DEAD if line.dead else Outcome.FAILED if delay is None else Outcome.RETRY
    now = now_ns()
    ended = Ended(outcome, error=line.error, host=os.uname().nodename, ended_at=now, delay=delay)
    return policy.settle(held, ended)


def _fate(held: Held, settlement: Settlement) -> dict[str, object]:
    """Say what became of a message."""
    ready_at = (now_ns() + int(settlement.delay * _SECOND)) / _SECOND
    released = settlement.event is Event.RELEASE
    return {
        "id": str(held.id),
        "outcome": {Event.BURY: "dead"}.get(settlement.event, settlement.event.value),
        "queue": settlement.queue or held.queue,
        "attempts": held.attempts - released,
        "ready_at": ready_at,
    }
