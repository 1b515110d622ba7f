"""How each BROKER_* variable is read: one table of what is expected, and of what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from brokerrun.core.names import fault_of, nearest, shown
from brokerrun.errors import UsageError
from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from typing import Any, Final

_MOST: Final = 2_147_483_647  # SQLite takes no greater number of milliseconds or pages
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_SYNC_MODES: Final = ("FULL", "EXTRA", "NORMAL", "OFF")


class Kind(Value):
    """A way to read a value, of text or typed already, and the bounds of what is read."""

    parse: Callable[[object], object]  # raises ValueError
    least: float | None = None
    most: float = _MOST
    secret: bool = False  # a wrong value is not repeated


class Knob(Value):
    """One variable, in its own unit."""

    name: str  # without BROKER_
    default: object
    kind: Kind
    expected: str  # where the kind has bounds, the unit
    meaning: str

    @property
    def key(self) -> str:
        """Return the name of the variable."""
        return f"BROKER_{self.name}"

    @property
    def wanted(self) -> str:
        """Return what is expected, with its bounds."""
        if self.kind.least is None:
            return self.expected
        return f"{self.expected} from {self.kind.least} to {self.kind.most}"

    def read(self, value: object) -> object:
        """Return *value* typed.

        Raises:
            UsageError: It is not what was expected, or out of bounds.
        """
        parse, least, most, secret = self.kind
        try:
            parsed: Any = parse(value)
            if least is not None and not least <= parsed <= most:
                raise ValueError
        except (ValueError, OverflowError):
            found = "a value that is not shown" if secret else shown(value)
            raise UsageError(f"{self.key}: expected {self.wanted}, got {found}") from None
        return parsed


def read_values(values: Mapping[str, object]) -> dict[str, object]:
    """Return the typed values of BROKER_* keys, without those that are empty.

    Raises:
        UsageError: A key is unknown, a value is wrong, or out of bounds.
    """
    for key in values:
        if key not in KNOBS:
            raise UsageError(f"unknown setting {shown(key)}{nearest(str(key).upper(), KNOBS)}")
    read = {key: KNOBS[key].read(value) for key, value in values.items() if value != ""}
    prefix, name = (str(read.get(f"BROKER_PROJECT_CONFIG_{part}", "")) for part in ("PATH", "NAME"))
    if prefix and not prefix.startswith("/") and "/" in name:
        raise UsageError(
            "BROKER_PROJECT_CONFIG_PATH and BROKER_PROJECT_CONFIG_NAME: expected one directory "
            f"in both together, got {shown(f'{prefix}/{name}')}"
        )
    return read


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise ValueError
    return float(value)


def _whole(value: object) -> int:
    number = _real(value)
    if number != int(number):
        raise ValueError
    return int(value if isinstance(value, str) else number)


def _switch(value: object) -> bool:
    word = str(value).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError
    return word in _TRUE


def _sync_mode(value: object) -> str:
    word = str(value).strip().upper()
    if word not in _SYNC_MODES:
        raise ValueError
    return word


def _threshold(value: object) -> float:
    """Return a share, or above 100 a number of rows.

    Text up to 100, or with a percent sign, is a percentage; a number up to 1 is a share already.
    """
    text = value.strip() if isinstance(value, str) else ""
    number = _real(text.removesuffix("%") if text else value)
    if number > 100:
        return _whole(value)  # refuses a percent sign
    share = number if number <= 1 and not text else number / 100
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _folder(value: object) -> str:
    path = _text(value)
    if not path.startswith("/") or fault_of(path):
        raise ValueError
    return path


def _name(value: object) -> str:
    """Read a relative path of at most one directory."""
    path = _text(value)
    if fault_of(path) or "" in path.split("/") or path.count("/") > 1:
        raise ValueError
    return path


def _prefix(value: object) -> str:
    path = _text(value)
    if path.startswith("/"):
        return _folder(path)
    if "/" in path:
        raise ValueError
    return _name(path)


_FROM_0: Final = Kind(_whole, 0)
_FROM_1: Final = Kind(_whole, 1)
_SWITCH: Final = Kind(_switch)
_NAME: Final = Kind(_name)
_TEXT: Final = Kind(_text)
_HIDDEN: Final = Kind(_text, secret=True)
_YES: Final = "one of 1, true, yes, on, 0, false, no and off"
_MODES: Final = "one of FULL, EXTRA, NORMAL and OFF"
_ABOVE: Final = "a percentage up to 100, or a number of rows above"
_FILE: Final = "a file name, or a directory and one, in plain characters"
_WHERE: Final = "an absolute path, or one directory, in plain characters"
_PATH: Final = "an absolute path in plain characters"
_IDLE: Final = "nothing is left to do"
_OTHER: Final = "of another engine"

_ROWS: Final = (
    ("BUSY_TIMEOUT", 5000, _FROM_0, "milliseconds", "longest wait for a turn to write"),
    ("CACHE_MB", 10, Kind(_whole, 0, 1_000_000), "megabytes", "page cache of a connection"),
    ("SYNC_MODE", "FULL", Kind(_sync_mode), _MODES, "FULL, EXTRA: survives a power cut"),
    ("WAL_AUTOCHECKPOINT", 1000, _FROM_0, "pages", "log that a writer copies back; 0: never"),
    ("MAX_MESSAGE_SIZE", 10_485_760, Kind(_whole, 1, 1_000_000_000), "bytes", "longest message"),
    ("READ_COMMIT_INTERVAL", 1, _FROM_1, "messages", "what `read --all` takes at once"),
    ("GENERATOR_BATCH_SIZE", 100, _FROM_1, "messages", "what a generator takes at once"),
    ("AUTO_VACUUM", True, _SWITCH, _YES, "whether messages that were read go by themselves"),
    ("AUTO_VACUUM_INTERVAL", 100, _FROM_1, "writes", "between two looks at the threshold"),
    ("VACUUM_THRESHOLD", 0.1, Kind(_threshold), _ABOVE, "share or number of them that is too many"),
    ("VACUUM_BATCH_SIZE", 1000, _FROM_1, "rows", "what goes in one transaction"),
    ("VACUUM_LOCK_TIMEOUT", 300, _FROM_0, "seconds", _IDLE),
    ("SKIP_IDLE_CHECK", False, _SWITCH, _YES, _IDLE),
    ("JITTER_FACTOR", 0.15, Kind(_real, 0, 1), "intervals", _IDLE),
    ("INITIAL_CHECKS", 100, _FROM_0, "looks", "without delay, where the kernel is silent"),
    ("MAX_INTERVAL", 0.1, Kind(_real, 0.001, 3600), "seconds", "between two looks after those"),
    ("BURST_SLEEP", 0.00001, Kind(_real, 0, 60), "seconds", _IDLE),
    ("DEBUG", False, _SWITCH, _YES, _IDLE),
    ("LOGGING_ENABLED", False, _SWITCH, _YES, _IDLE),
    ("DEFAULT_DB_LOCATION", "", Kind(_folder), _PATH, "where the database is"),
    ("DEFAULT_DB_NAME", ".broker.db", _NAME, _FILE, "name of the database"),
    ("PROJECT_CONFIG_PATH", "", Kind(_prefix), _WHERE, "where the project file is"),
    ("PROJECT_CONFIG_NAME", ".broker.toml", _NAME, _FILE, "name of the project file"),
    ("PROJECT_SCOPE", False, _SWITCH, _YES, "whether the folders above are searched"),
    ("BACKEND", "sqlite", _TEXT, "the name of an engine", "whose store is meant"),
    ("BACKEND_HOST", "localhost", _TEXT, "text", _OTHER),
    ("BACKEND_PORT", 5432, Kind(_whole, 1, 65_535), "a port", _OTHER),
    ("BACKEND_USER", "postgres", _TEXT, "text", _OTHER),
    ("BACKEND_PASSWORD", "", _HIDDEN, "text", _OTHER),
    ("BACKEND_DATABASE", "simplebroker", _TEXT, "text", _OTHER),
    ("BACKEND_SCHEMA", "simplebroker_pg_v1", _TEXT, "text", _OTHER),
    ("BACKEND_TARGET", "", _HIDDEN, "text", _OTHER),
)
KNOBS: Final = {knob.key: knob for knob in map(Knob._make, _ROWS)}
