"""The message state machine: one table.

A queue says where a message is; a state says who may touch it. What is not in STEPS is refused:
no row is touched and the answer is False. The literals of each engine's statements are checked
against this table by a test, and the contract suite walks every cell on every engine.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from typing import Final


class State(IntEnum):
    """Who may touch a message; the value is the one that is stored."""

    READY = 0  # anyone, once `ready_at` has come
    LEASED = 1  # its owner
    DONE = 2  # nobody: it was read, and waits for vacuum


class Event(Enum):
    """What can happen to a message that is there."""

    CLAIM = "claim"
    READ = "read"
    MOVE = "move"
    DELETE = "delete"
    ACK = "ack"
    RETRY = "retry"
    RELEASE = "release"
    BURY = "bury"
    EXTEND = "extend"
    EXPIRE = "expire"
    VACUUM = "vacuum"


class Step(Value):
    """Where an event leads.

    to: State afterwards; None: the row is gone.
    attempts: Change of the count of attempts.
    new_life: The message starts again: attempts and crashes 0, no home.
    by_id: Only where the caller names the message by its id.
    """

    to: State | None
    attempts: int = 0
    new_life: bool = False
    by_id: bool = False


STEPS: Final[dict[tuple[State, Event], Step]] = {
    (State.READY, Event.CLAIM): Step(State.LEASED, attempts=+1),
    (State.READY, Event.READ): Step(State.DONE),
    (State.READY, Event.MOVE): Step(State.READY, new_life=True),
    (State.READY, Event.DELETE): Step(None),
    (State.LEASED, Event.DELETE): Step(None),
    (State.LEASED, Event.ACK): Step(None),
    (State.LEASED, Event.RETRY): Step(State.READY),
    (State.LEASED, Event.RELEASE): Step(State.READY, attempts=-1),  # a shutdown is nobody's fault
    (State.LEASED, Event.BURY): Step(State.READY, new_life=True),
    (State.LEASED, Event.EXTEND): Step(State.LEASED),
    (State.LEASED, Event.EXPIRE): Step(State.READY),
    (State.DONE, Event.MOVE): Step(State.READY, new_life=True, by_id=True),
    (State.DONE, Event.DELETE): Step(None),
    (State.DONE, Event.VACUUM): Step(None),
}
