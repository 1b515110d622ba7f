"""Value: a frozen record, as `typing.NamedTuple` makes it, at a fraction of the cost.

A command loads this for every message that a shell script writes: to import `typing` and
`dataclasses` costs it more than the message does (bench/startup.py). Type checkers see
`NamedTuple` itself.
"""

from __future__ import annotations

from collections import namedtuple

__all__ = ["TYPE_CHECKING", "Value", "overload"]

TYPE_CHECKING = False  # as in `typing`: a type checker takes this name for true

if TYPE_CHECKING:
    from typing import NamedTuple as Value
    from typing import overload
else:

    def overload(form):
        """Mark a form of a function for type checkers; nothing else."""
        return form

    class _Making(type):
        """Turns the annotations of a class into the fields of a named tuple, in their order."""

        def __new__(cls, name, bases, body):
            fields = body.get("__annotations__", ())
            defaults = [body[field] for field in fields if field in body]
            base = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            rest = {key: value for key, value in body.items() if key not in fields}
            return type(name, (base,), {"__slots__": (), **rest})

    class _Value:
        def __mro_entries__(self, bases):
            return (_Base,)

    _Base = type.__new__(_Making, "Value", (), {})
    Value = _Value()
