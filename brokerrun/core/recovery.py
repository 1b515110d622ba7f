"""Giving back what the dead held, where no supervisor does it."""

from __future__ import annotations

from brokerrun.core.model import Effect, Settlement
from brokerrun.core.owners import guardian_of
from brokerrun.core.states import Event
from brokerrun.values import TYPE_CHECKING

if TYPE_CHECKING:
    from brokerrun.core.store import Store


LOOK_SECONDS = 1.0  # in which one that waits notices what a dead process held
FILE_SECONDS = 0.5  # in which it notices that its database was deleted


def give_back(store: Store) -> bool:
    """Make the messages of dead owners ready again; tell whether there were any.

    Their attempts stay counted. What the worker of a living supervisor left is the supervisor's
    to settle: it knows how far the worker had come.
    """
    dead = [
        held
        for held in store.held()
        if not store.alive(held.owner) and not store.alive(guardian_of(held.owner))
    ]
    if not dead:
        return False
    settlements = [Settlement(held.id, held.receipt, Event.RETRY) for held in dead]
    return Effect.SETTLED in store.work(settlements)[0]
