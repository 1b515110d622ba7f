"""The errors of brokerrun: one small tree, each leaf with its exit status.

`exit_status` is what `brokerrun` leaves with; `broker` leaves with 1 for every error, as its
documents say. The text names the thing, what would be right and what was found.
"""

from __future__ import annotations


class BrokerrunError(Exception):
    """Anything that brokerrun refuses or cannot do."""

    exit_status = 1


class UsageError(BrokerrunError, ValueError):
    """An argument that cannot be meant: nothing was done."""

    exit_status = 64


class ArgumentError(UsageError, TypeError):
    """An argument of a kind that means nothing here."""


class QueueNameError(UsageError):
    """A queue name outside the grammar."""


class MessageError(UsageError):
    """A message that cannot be stored: too large, or no text."""


class TimestampError(UsageError):
    """Something that is neither an id nor a time."""


class AliasError(UsageError):
    """An alias that is not there, is there already, or cannot be."""


class StoreError(BrokerrunError):
    """The store cannot be used, or its answer is unknown."""

    exit_status = 69


class OperationalError(StoreError):
    """Something stood in the way, and later it may work: what it was is undone."""


class StoreBusy(OperationalError):
    """The store stayed locked longer than the busy timeout."""


class StoreFull(OperationalError):
    """The disk is full, or fails: nothing was changed, and later it may work again."""


class IntegrityError(StoreError):
    """A constraint of the database refused a row: nothing was changed."""


class DataError(StoreError):
    """A value that the database cannot hold: nothing was changed."""


class StoreRefused(StoreError):
    """The file is foreign, damaged or of a newer version; it was left as it was."""


class StoreMissing(StoreError):
    """There is no store there, and the caller did not ask for a new one."""


class StoreGone(StoreError):
    """The file was deleted, renamed or replaced while it was open."""


class ForkUnsafe(StoreError):
    """This process was forked while a connection to the file was open: it may not use the file."""


class ConfigError(BrokerrunError):
    """workers.toml has faults; each is one line, `file:line: key: reason`."""

    exit_status = 78

    def __init__(self, faults: list[str]):
        super().__init__("\n".join(faults))
        self.faults = faults


class ReloadRefused(BrokerrunError):
    """The new code cannot be imported: the old fleet stays as it was."""

    exit_status = 70


class AlreadyRunning(BrokerrunError):
    """Another supervisor serves this database under this name."""

    exit_status = 75


class NotRunning(BrokerrunError):
    """No supervisor serves this database under this name."""

    exit_status = 3


class WaitTimedOut(BrokerrunError):
    """What was waited for did not come in time."""

    exit_status = 124


def wrong_kind(what: str, wanted: str, got: object) -> ArgumentError:
    """Word the refusal of an argument: which one, what would be right, and what came."""
    return ArgumentError(f"{what}: expected {wanted}, got {type(got).__name__}")
