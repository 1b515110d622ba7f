"""Owner numbers: who may hold a message.

An owner is a number whose byte in the lock file is locked for as long as it lives. The upper 40
bits are random and name a guardian: a supervisor, or a library user that is its own. The lower 22
count the guardian's workers. So whoever finds a dead owner knows whom to ask, without a table.
"""

from __future__ import annotations

import os

WORKER_BITS = 22
_GUARDIAN_BITS = 62 - WORKER_BITS


def new_guardian() -> int:
    """Draw the number of a new guardian."""
    return max(random_bits(_GUARDIAN_BITS), 1 << 20) << WORKER_BITS


def random_bits(bits: int) -> int:
    """Draw a number of up to 64 bits from the kernel: no seed of user code makes it come again."""
    return int.from_bytes(os.urandom(8), "big") >> (64 - bits)


def worker_owner(guardian: int, number: int) -> int:
    """Name the guardian's worker *number*, from 1; numbers come round after four million."""
    return guardian + 1 + (number - 1) % ((1 << WORKER_BITS) - 1)


def guardian_of(owner: int) -> int:
    """Name who settles for *owner* when it is dead; itself, where it is its own guardian."""
    return owner >> WORKER_BITS << WORKER_BITS
