"""[schedule.NAME] of workers.toml: what is read, and every fault with its line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerrun.supervisor.config import Reading, read
from brokerrun.supervisor.schedule_keys import SCHEDULE
from brokerrun.supervisor.schedules import CatchUp, Overlap, ScheduleSpec

ROOT = Path(__file__).parents[2]
WORKER = "[workers.a]\nhandler = 'x:y'\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def reading(text: str) -> Reading:
    Path("workers.toml").write_text(WORKER + text)
    return read("workers.toml")


def schedule(lines: str, name: str = "s") -> ScheduleSpec:
    found = reading(f"[schedule.{name}]\n{lines}\n")
    assert found.faults == []
    assert found.config is not None
    [spec] = found.config.schedules
    return spec


def faults(text: str) -> list[str]:
    found = reading(text)
    assert found.config is None
    return [fault.text("workers.toml") for fault in found.faults]


def test_one_line_suffices() -> None:
    assert schedule("cron = '0 3 * * *'") == ScheduleSpec(
        name="s",
        cron="0 3 * * *",
        every=None,
        timezone="UTC",
        queue="s",
        body="",
        catch_up=CatchUp.ONCE,
        overlap=Overlap.SKIP,
    )
    assert (schedule("every = '15m'").every, schedule("every = '15m'").cron) == (900.0, None)


def test_all_that_may_be_said() -> None:
    spec = schedule(
        "cron = '*/5  8-18 * * MON-FRI'\ntimezone = 'Europe/Berlin'\nqueue = '@reports'\n"
        "body = '{\"kind\": \"daily\"}'\ncatch_up = 'all'\noverlap = 'allow'",
        name="'nightly.report'",
    )
    assert (spec.name, spec.cron, spec.timezone) == (
        "nightly.report",
        "*/5 8-18 * * MON-FRI",
        "Europe/Berlin",
    )
    assert (spec.queue, spec.body) == ("@reports", '{"kind": "daily"}')
    assert (spec.catch_up, spec.overlap) == (CatchUp.ALL, Overlap.ALLOW)


def test_schedules_keep_the_order_of_the_file_and_read_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AT", "0 4 * * *")
    found = reading("".join(f"[schedule.{name}]\ncron = '${{AT}}'\n" for name in "cab")).config
    assert found is not None
    assert [(spec.name, spec.cron) for spec in found.schedules] == [
        (name, "0 4 * * *") for name in "cab"
    ]


@pytest.mark.parametrize(
    ("nickname", "line"),
    [("@hourly", "0 * * * *"), ("@Daily", "0 0 * * *"), ("@weekly", "0 0 * * 0")],
)
def test_the_nicknames_of_cron_are_known(nickname: str, line: str) -> None:
    assert schedule(f"cron = '{nickname}'").cron == line


WRONG = [
    ("cron = '61 * * * *'", "cron: expected a line like '0 3 * * *', got '61 * * * *': bad minute"),
    ("cron = '0 24 * * *'", "got '0 24 * * *': bad hour"),
    ("cron = '0 0 31 2 *'", "got '0 0 31 2 *': bad day-of-month"),
    ("cron = '0 0 * * MUN'", "got '0 0 * * MUN': bad day-of-week"),
    ("cron = '0 3 * *'", "got '0 3 * *': wrong number of fields"),
    ("cron = ''", "got '': wrong number of fields"),
    ("cron = '@reboot'", "got '@reboot': wrong number of fields"),
    ("cron = '0 0 LW * */7'", "got '0 0 LW * */7': no such date comes"),
    ("cron = 5", "cron: expected text in quotes, got 5"),
    ("every = 15", "every: expected a duration like '30s', got 15: write the unit"),
    ("every = '500ms'", "every: expected a duration of at least 1s, got '500ms'"),
    ("every = '0s'", "every: expected a duration of at least 1s, got '0s'"),
    ("every = false", "every: expected a duration like '30s', got false"),
    ("timezone = 'Europe/Berln'", "got 'Europe/Berln'; did you mean 'Europe/Berlin'?"),
    ("timezone = 'Europe'", "timezone: expected a time zone like 'Europe/Berlin', got 'Europe'"),
    ("timezone = ''", "timezone: expected a time zone like 'Europe/Berlin', got ''"),
    ("timezone = '../etc/passwd'", "timezone: expected a time zone"),
    ("timezone = '/etc/localtime'", "timezone: expected a time zone"),
    ("timezone = 1", "timezone: expected text in quotes, got 1"),
    ("queue = 'a b'", "queue: invalid queue name 'a b'"),
    ("queue = '@'", "queue: invalid queue name ''"),
    ("queue = '@a b'", "queue: invalid queue name 'a b'"),
    ("body = { kind = 'daily' }", "body: expected text in quotes, got {'kind': 'daily'}"),
    ("catch_up = 'twice'", "catch_up: expected one of 'once', 'all', 'none', got 'twice'"),
    ("catch_up = true", "catch_up: expected one of 'once', 'all', 'none', got true"),
    ("catch_up = ['once']", "catch_up: expected one of 'once', 'all', 'none', got ['once']"),
    ("overlap = 'queue'", "overlap: expected one of 'skip', 'allow', got 'queue'"),
    ("crom = '* * * * *'", "crom: unknown key; did you mean 'cron'?"),
    ("timeout = '1s'", "timeout: unknown key here; it belongs in [defaults] or [workers.NAME]"),
]


@pytest.mark.parametrize(("line", "reason"), WRONG)
def test_a_wrong_line_of_a_schedule_is_named(line: str, reason: str) -> None:
    timing = "" if line.startswith(("cron", "every")) else "cron = '0 3 * * *'\n"
    [fault] = faults(f"[schedule.s]\n{timing}# a comment\n{line}\n")
    assert fault.startswith(f"workers.toml:{6 if timing else 5}: schedule.s.")
    assert reason in fault


WRONG_TABLES = [
    ("schedule.s]\nqueue = 'q'", ":3: schedule.s: missing key 'cron' or 'every': expected cron = "),
    ("schedule.s]\ncron = '0 3 * * *'\nevery = '1m'", ":3: schedule.s: expected one of the keys "),
    ("schedule]\ns = 3", ":4: schedule.s: expected a table, got 3"),
    ("schedule.'a b']\nevery = '1m'", "a schedule is named like a queue: invalid queue name 'a b'"),
    ("[schedule.s]]\nevery = '1m'", "schedule.s: expected a table, got [{'every': '1m'}]"),
    ("defaults]\ncatch_up = 'once'", "unknown key here; it belongs in [schedule.NAME]"),
    ("defaults]\nqueue = 'q'", "it belongs in [workers.NAME] or [schedule.NAME]"),
]


@pytest.mark.parametrize(("table", "reason"), WRONG_TABLES)
def test_a_wrong_table_of_schedules_is_named(table: str, reason: str) -> None:
    [fault] = faults(f"[{table}\n")
    assert reason in fault


def test_schedules_that_are_no_table_are_one_fault() -> None:
    Path("workers.toml").write_text(f"schedule = 3\n{WORKER}")
    [fault] = read("workers.toml").faults
    assert fault.text("f") == "f:1: schedule: expected a table, got 3"


def test_all_faults_come_at_once() -> None:
    found = faults("[schedule.s]\ncron = 'x'\ntimezone = 'y'\nqueue = ''\n[schedule.t]\nbody = 1\n")
    assert [fault.split(":")[1] for fault in found] == ["4", "5", "6", "7", "8"]


@given(st.text(alphabet="0123456789*/,-#LWlwmonSUNjan @²٣\t", max_size=25))
def test_whatever_a_cron_line_says_it_is_read_or_refused(text: str) -> None:
    try:
        SCHEDULE["cron"].parse(text, "")
    except ValueError as error:
        assert str(error).startswith("expected a line like ")  # noqa: PT017


def test_a_file_without_schedules_is_read_without_what_they_need() -> None:
    Path("workers.toml").write_text(WORKER)
    code = (
        "import sys; from brokerrun.supervisor.config import load; load('workers.toml');"
        "sys.exit(any(name in sys.modules for name in ('cronsim', 'zoneinfo')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
