"""What the BROKER_* variables say, as typed values. How each is read stands in `knobs.py`.

That is loaded only where one of them is set: a script pays for it with each message.
"""

from __future__ import annotations

from collections.abc import Mapping
from os.path import join

from brokerrun.errors import UsageError, wrong_kind
from brokerrun.values import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from typing import Any, Final

ENGINES: Final = ("sqlite",)  # the schemes of `backends.BACKENDS`


class Threshold(Value):
    """From where on messages that were read go: a share of all messages, or a number of them."""

    share: float | None = None
    rows: int | None = None


class Settings(Value):
    """One field for each BROKER_* variable; `knobs.py` says what each means.

    Durations are seconds. What is written here are the defaults.
    """

    busy_timeout: float = 5.0
    cache_mb: int = 10
    sync_mode: str = "FULL"
    wal_autocheckpoint: int = 1000
    max_message_size: int = 10 * 1024 * 1024
    read_commit_interval: int = 1
    generator_batch_size: int = 100
    auto_vacuum: bool = True
    auto_vacuum_interval: int = 100
    vacuum_threshold: Threshold = Threshold(share=0.1)
    vacuum_batch_size: int = 1000
    vacuum_lock_timeout: int = 300
    skip_idle_check: bool = False
    jitter_factor: float = 0.15
    initial_checks: int = 100
    max_interval: float = 0.1
    burst_sleep: float = 0.00001
    debug: bool = False
    logging_enabled: bool = False
    default_db_location: str = ""
    default_db_name: str = ".broker.db"
    project_config_path: str = ""
    project_config_name: str = ".broker.toml"
    project_scope: bool = False
    backend: str = "sqlite"
    backend_host: str = "localhost"
    backend_port: int = 5432
    backend_user: str = "postgres"
    backend_password: str = ""
    backend_database: str = "simplebroker"
    backend_schema: str = "simplebroker_pg_v1"
    backend_target: str = ""

    def project_file(self, folder: str) -> str:
        """Return where the project file of *folder* would be."""
        return join(folder, self.project_config_path, self.project_config_name)


_DEFAULTS: Final = Settings()
_KEYS: Final = {f"BROKER_{field.upper()}": field for field in Settings._fields}


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the variables that are set; an empty one counts as unset.

    Raises:
        UsageError: A value is wrong or out of bounds. The sentence names the variable, what was
            expected and what was found, but no secret.
    """
    return settings_of({key: environ[key] for key in _KEYS if key in environ})


def settings_of(values: Mapping[str, object]) -> Settings:
    """Return the settings of a mapping of BROKER_* keys; what is missing or empty has its default.

    Raises:
        UsageError: A key is unknown, a value is wrong, or out of bounds.
    """
    if not values:
        return _DEFAULTS
    from brokerrun.core.knobs import read_values

    fields: dict[str, Any] = {_KEYS[key]: value for key, value in read_values(values).items()}
    if "busy_timeout" in fields:
        fields["busy_timeout"] /= 1000
    if "vacuum_threshold" in fields:
        fields["vacuum_threshold"] = _threshold(fields["vacuum_threshold"])
    return _DEFAULTS._replace(**fields)


def settings_for(config: Mapping[str, object] | None) -> Settings:
    """Return the settings of one handle: of *config*, else the environment, else our defaults.

    Raises:
        ArgumentError: *config* is no mapping.
        UsageError: A key is unknown, a value is wrong, or out of bounds.
    """
    from os import environ

    if config is None:
        return read_settings(environ)
    if not hasattr(config, "keys"):
        raise wrong_kind("config", "a mapping of BROKER_* keys", config)
    return settings_of({**{key: environ[key] for key in _KEYS if key in environ}, **config})


def resolve_config(overrides: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return all BROKER_* keys with typed values: of *overrides*, else the environment, else ours.

    Each value has the unit of its variable, and the result may be given in again.

    Raises:
        UsageError: A key is unknown, a value is wrong, or out of bounds.
    """
    from os import environ

    from brokerrun.core.knobs import KNOBS, read_values

    found = {key: environ[key] for key in KNOBS if key in environ}
    defaults = {key: knob.default for key, knob in KNOBS.items()}
    return defaults | read_values({**found, **(overrides or {})})


def check_engine(where: str, name: str) -> None:
    """Raise where there is no engine of that name; *where* it was said.

    Raises:
        UsageError: There is none.
    """
    if name not in ENGINES:
        from brokerrun.core.names import shown

        raise UsageError(f"{where}: expected one of {', '.join(ENGINES)}, got {shown(name)}")


def _threshold(given: float) -> Threshold:
    return Threshold(share=given) if given <= 1 else Threshold(rows=int(given))
