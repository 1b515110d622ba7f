"""Messages to store, as JSON lines."""

from __future__ import annotations

import json

from brokerrun.cli.values import priority_of, seconds
from brokerrun.core.broker import check_body
from brokerrun.core.model import Draft
from brokerrun.errors import MessageError, UsageError

_KEYS = ("message", "delay", "priority")


def draft_of(text: str, common: Draft, where: str, most_bytes: int) -> Draft:
    """Read one line: a string, or an object of message, delay and priority.

    What the line does not say is as in *common*.

    Raises:
        MessageError: It is neither, or a value is wrong; *where* names the line.
    """
    try:
        found = json.loads(text)
        if isinstance(found, str):
            return common._replace(body=check_body(found, most_bytes))
        if not isinstance(found, dict) or not isinstance(found.get("message"), str):
            raise UsageError('expected "text" or {"message": "text"}')
        if unknown := [key for key in found if key not in _KEYS]:
            raise UsageError(f"unknown key {unknown[0]!r}: expected {', '.join(_KEYS)}")
        return Draft(
            check_body(found["message"], most_bytes),
            seconds("delay", found.get("delay"), common.delay),
            priority_of(found.get("priority", common.priority)),
        )
    except (UsageError, ValueError, RecursionError) as error:
        raise MessageError(f"{where}: {error}: nothing was stored") from None
