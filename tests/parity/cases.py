"""All transcripts. What they are and how they are run stands in `transcript`."""

from __future__ import annotations

from typing import Final

from parity import messages, places, queues, recipes, refusals, watching
from parity.transcript import Case

CASES: Final[tuple[Case, ...]] = (
    *watching.CASES,  # some of them wait: first, so that the others fill the time
    *recipes.CASES,
    *messages.CASES,
    *queues.CASES,
    *places.CASES,
    *refusals.CASES,
)
