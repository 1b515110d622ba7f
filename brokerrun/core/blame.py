"""What history keeps of an error that user code raised."""

from __future__ import annotations

_MOST_ERROR, _MOST_TRACEBACK = 1000, 20_000  # characters


def say(error: BaseException) -> str:
    """Return the error in one text, `Kind: what it says`; whatever its `__str__` does."""
    try:
        text = str(error)
    except BaseException as second:  # a __str__ of the user's that raises
        text = f"<{type(second).__name__} in its __str__>"
    name = type(error).__name__
    return storable(f"{name}: {text}" if text else name)[:_MOST_ERROR]


def trace(error: BaseException) -> str:
    """Return the traceback of the error, its end where it is long."""
    import traceback  # only where something failed

    try:
        text = "".join(traceback.format_exception(error, limit=-50))
    except BaseException as second:
        text = f"<no traceback: {type(second).__name__}>"
    text = storable(text)
    return text if len(text) <= _MOST_TRACEBACK else "…" + text[1 - _MOST_TRACEBACK :]


def storable(text: str) -> str:
    """Return *text* with what is no UTF-8 written out."""
    return text.encode(errors="backslashreplace").decode()
