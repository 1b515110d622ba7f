"""What the BROKER_* variables mean, and how a wrong one is refused."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from brokerrun.core.backends import BACKENDS
from brokerrun.core.knobs import KNOBS
from brokerrun.core.names import shown
from brokerrun.core.settings import (
    ENGINES,
    Settings,
    Threshold,
    read_settings,
    resolve_config,
    settings_of,
)
from brokerrun.errors import UsageError

NAMES = ("default_db_name", "project_config_name")


@pytest.fixture(autouse=True)
def _no_variable_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KNOBS:
        monkeypatch.delenv(key, raising=False)


def field(name: str, text: str) -> object:
    return getattr(read_settings({f"BROKER_{name.upper()}": text}), name)


def refusal(name: str, text: str) -> str:
    with pytest.raises(UsageError) as refused:
        field(name, text)
    return str(refused.value)


def test_nothing_set_is_the_defaults_of_the_documents() -> None:
    settings = read_settings({"PATH": "/bin", "BROKER_TOKEN": "another program's"})
    assert settings == Settings()
    assert settings.busy_timeout == 5.0
    assert settings.vacuum_threshold == Threshold(share=0.1)
    assert (settings.cache_mb, settings.sync_mode, settings.max_interval) == (10, "FULL", 0.1)
    assert (settings.default_db_name, settings.project_scope) == (".broker.db", False)


def test_every_field_has_one_variable_with_the_same_default() -> None:
    assert [key.removeprefix("BROKER_").lower() for key in KNOBS] == list(Settings._fields)
    assert settings_of({key: knob.default for key, knob in KNOBS.items()}) == Settings()


def test_engines_are_those_that_can_be_opened() -> None:
    assert list(ENGINES) == list(BACKENDS)


@pytest.mark.parametrize("key", [*KNOBS])
def test_an_empty_variable_counts_as_unset(key: str) -> None:
    assert read_settings({key: ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("busy_timeout", "1500", 1.5),
        ("busy_timeout", "0", 0.0),
        ("cache_mb", " 50 ", 50),
        ("sync_mode", "normal", "NORMAL"),
        ("sync_mode", "EXTRA", "EXTRA"),
        ("wal_autocheckpoint", "0", 0),
        ("max_message_size", "10", 10),
        ("read_commit_interval", "100", 100),
        ("auto_vacuum", "true", True),
        ("auto_vacuum", "0", False),
        ("auto_vacuum_interval", "1", 1),
        ("vacuum_batch_size", "7", 7),
        ("vacuum_lock_timeout", "300", 300),
        ("initial_checks", "1000", 1000),
        ("max_interval", "0.01", 0.01),
        ("project_scope", "YES", True),
        ("project_scope", "on", True),
        ("project_scope", "Off", False),
        ("default_db_location", "/var/lib/app", "/var/lib/app"),
        ("default_db_name", ".project/queue.db", ".project/queue.db"),
        ("project_config_name", ".weft/broker.toml", ".weft/broker.toml"),
        ("project_config_path", "/etc/broker", "/etc/broker"),
        ("project_config_path", ".weft", ".weft"),
        ("backend_port", "5433", 5433),
        ("backend_password", " p w ", " p w "),
    ],
)
def test_a_variable_is_read_in_its_unit(name: str, text: str, value: object) -> None:
    assert field(name, text) == value


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("10", Threshold(share=0.1)),
        ("10%", Threshold(share=0.1)),
        ("0.5 %", Threshold(share=0.005)),
        ("1", Threshold(share=0.01)),
        ("0", Threshold(share=0)),
        ("100", Threshold(share=1)),
        ("101", Threshold(rows=101)),
        ("10000", Threshold(rows=10000)),
    ],
)
def test_threshold_is_a_percentage_up_to_a_hundred_and_rows_above(
    text: str, threshold: Threshold
) -> None:
    assert field("vacuum_threshold", text) == threshold


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("busy_timeout", "soon", "milliseconds from 0 to 2147483647"),
        ("busy_timeout", "-1", "milliseconds from 0"),
        ("busy_timeout", "1_000", "milliseconds from 0"),
        ("busy_timeout", "1e3", "milliseconds from 0"),
        ("busy_timeout", "²", "milliseconds from 0"),
        ("busy_timeout", "５", "milliseconds from 0"),  # noqa: RUF001
        ("busy_timeout", "9" * 5000, "milliseconds from 0"),
        ("cache_mb", "1000001", "megabytes from 0 to 1000000"),
        ("sync_mode", "sometimes", "one of FULL, EXTRA, NORMAL and OFF"),
        ("wal_autocheckpoint", "-1", "pages from 0"),
        ("max_message_size", "big", "bytes from 1"),
        ("read_commit_interval", "0", "messages from 1"),
        ("generator_batch_size", "0", "messages from 1"),
        ("auto_vacuum", "2", "one of 1, true, yes, on, 0, false, no and off"),
        ("auto_vacuum_interval", "0", "writes from 1"),
        ("vacuum_threshold", "-1", "a percentage up to 100, or a number of rows above"),
        ("vacuum_threshold", "101%", "a percentage"),
        ("vacuum_threshold", "nan", "a percentage"),
        ("vacuum_threshold", "inf", "a percentage"),
        ("vacuum_threshold", "100.5", "a percentage"),
        ("vacuum_threshold", "%", "a percentage"),
        ("vacuum_batch_size", "many", "rows from 1"),
        ("vacuum_lock_timeout", "x", "seconds from 0"),
        ("skip_idle_check", "maybe", "one of 1,"),
        ("jitter_factor", "1.5", "from 0 to 1"),
        ("initial_checks", "-1", "looks from 0"),
        ("max_interval", "0", "seconds from 0.001 to 3600"),
        ("max_interval", "nan", "seconds from"),
        ("burst_sleep", "inf", "seconds from 0 to 60"),
        ("project_scope", "maybe", "one of 1,"),
        ("default_db_location", "relative", "an absolute path"),
        ("default_db_location", "/a/../b", "an absolute path"),
        ("default_db_location", "/a;b", "in plain characters"),
        ("project_config_path", "a/b", "an absolute path, or one directory"),
        ("project_config_path", "..", "an absolute path, or one directory"),
        ("backend_port", "65536", "a port from 1 to 65535"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable(name: str, text: str, expected: str) -> None:
    said = refusal(name, text)
    assert said.startswith(f"BROKER_{name.upper()}: expected ")
    assert expected in said
    assert repr(text)[:80] in said
    assert len(said) < 250


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text", ["a/b/c.db", "/x.db", "..", "../x.db", "a/../x", "./x", "a/", "a//b", "a;b", "~", " x"]
)
def test_names_of_files_hold_one_directory_at_most_and_stay_inside(name: str, text: str) -> None:
    assert "a file name, or a directory and one" in refusal(name, text)


def test_prefix_and_name_of_the_project_file_hold_one_directory_together() -> None:
    names = {"BROKER_PROJECT_CONFIG_NAME": "a/broker.toml"}
    with pytest.raises(UsageError, match="one directory in both together, got 'b/a/broker"):
        read_settings({**names, "BROKER_PROJECT_CONFIG_PATH": "b"})
    assert read_settings({**names, "BROKER_PROJECT_CONFIG_PATH": "/b"}).project_file("/c") == (
        "/b/a/broker.toml"
    )


@pytest.mark.parametrize("key", ["BROKER_BACKEND_PASSWORD", "BROKER_BACKEND_TARGET"])
def test_a_secret_is_never_repeated(key: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_settings({key: "hunter2\0"})
    assert str(refused.value) == f"{key}: expected text, got a value that is not shown"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://me:hunter2@host/db", "postgresql://***@host/db"),
        ("redis://:hunter2@host", "redis://***@host"),
        ("valkey://hunter2@host", "valkey://***@host"),
        ("x://me:hunt@er 2/hunter2@host", "x://***@host"),
        ("host=h password=hunter2 user=me", "host=h password=*** user=me"),
        ("password = 'hunter2 hunter2'", "password = ***"),
        (r"password='a\'hunter2' host=h", "password=*** host=h"),
        ('password="a hunter2" host=h', "password=*** host=h"),
        ("db?user=me&PASSWORD=hunter2&x=1", "db?user=me&PASSWORD=***&x=1"),
        ("passwd: hunter2", "passwd: ***"),
    ],
)
def test_a_wrong_value_is_shown_without_what_is_secret_in_it(text: str, left: str) -> None:
    assert shown(text) == repr(left)
    assert "hunter2" not in refusal("sync_mode", text)
    assert "hunter2" not in refusal("sync_mode", text + "." * 200)


def test_config_is_complete_and_typed_in_the_unit_of_each_variable() -> None:
    config = resolve_config()
    assert list(config) == list(KNOBS)
    assert config["BROKER_BUSY_TIMEOUT"] == 5000
    assert config["BROKER_VACUUM_THRESHOLD"] == 0.1
    assert config["BROKER_AUTO_VACUUM"] == 1
    assert config["BROKER_PROJECT_SCOPE"] is False


def test_overrides_go_before_the_environment_and_that_before_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BROKER_CACHE_MB", "20")
    monkeypatch.setenv("BROKER_MAX_INTERVAL", "2")
    monkeypatch.setenv("BROKER_BACKEND_PASSWORD", "s")
    config = resolve_config({"BROKER_CACHE_MB": 30, "BROKER_BACKEND_PASSWORD": ""})
    assert (config["BROKER_CACHE_MB"], config["BROKER_MAX_INTERVAL"]) == (30, 2.0)
    assert config["BROKER_BACKEND_PASSWORD"] == ""
    assert config["BROKER_SYNC_MODE"] == "FULL"


@pytest.mark.parametrize("threshold", ["10", "10%", 0.1, 10, "1", "100", "20000", 20000, 0])
def test_config_may_be_given_in_again(threshold: object) -> None:
    config = resolve_config({"BROKER_VACUUM_THRESHOLD": threshold, "BROKER_BUSY_TIMEOUT": "250"})
    assert resolve_config(config) == config
    assert settings_of(config).busy_timeout == 0.25


@pytest.mark.parametrize(
    ("given", "threshold"),
    [
        (0.1, Threshold(share=0.1)),
        (1, Threshold(share=1)),
        (10, Threshold(share=0.1)),
        (500, Threshold(rows=500)),
    ],
)
def test_a_number_up_to_one_is_a_share_in_a_mapping(given: float, threshold: Threshold) -> None:
    assert settings_of({"BROKER_VACUUM_THRESHOLD": given}).vacuum_threshold == threshold


def test_a_partial_mapping_gives_settings() -> None:
    settings = settings_of({"BROKER_AUTO_VACUUM": False, "BROKER_MAX_MESSAGE_SIZE": 10.0})
    assert settings == Settings(auto_vacuum=False, max_message_size=10)
    assert settings_of({}) == Settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BROKER_CACHE_MB", True),
        ("BROKER_CACHE_MB", 1.5),
        ("BROKER_CACHE_MB", None),
        ("BROKER_CACHE_MB", float("inf")),
        ("BROKER_MAX_INTERVAL", [1]),
        ("BROKER_DEFAULT_DB_NAME", 5),
        ("BROKER_PROJECT_SCOPE", None),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^{key}: expected"):
        settings_of({key: value})


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'BROKER_CACHEMB'; did you mean BROKER_CACHE_MB\?"):
        resolve_config({"BROKER_CACHEMB": 5})
    with pytest.raises(UsageError, match=r"'cache'$"):
        settings_of({"cache": 5})


def test_reading_nothing_costs_a_fraction_of_a_millisecond() -> None:
    environ = {f"VARIABLE_{number}": "x" for number in range(100)}
    best = min(_seconds(environ) for _ in range(50))
    assert best < 0.0003


def _seconds(environ: dict[str, str]) -> float:
    began = time.perf_counter()
    read_settings(environ)
    return time.perf_counter() - began


SLOW = {"re", "typing", "dataclasses", "tomllib", "sqlite3", "difflib"}
RARE = {f"brokerrun.core.{name}" for name in ("knobs", "names", "project")}


@pytest.mark.parametrize(
    ("environ", "flags", "unwanted"),
    [({}, (), SLOW | RARE), ({"BROKER_CACHE_MB": "5"}, ("/tmp", "x.db"), SLOW)],
)
def test_finding_the_database_loads_only_what_it_needs(
    environ: dict[str, str], flags: tuple[str, ...], unwanted: set[str]
) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from brokerrun.core.target import find_database\n"
        "from brokerrun.core.settings import read_settings\n"
        f"find_database(read_settings({environ}), *{flags})\n"
        f"print(({unwanted} & set(sys.modules)) - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "set()\n", ran.stderr
