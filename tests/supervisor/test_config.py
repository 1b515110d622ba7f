from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import tomli

from brokerrun.core.retry import Backoff
from brokerrun.errors import ConfigError
from brokerrun.supervisor.config import SCOPES, Reading, keys, load, read
from brokerrun.supervisor.keys import WORKER_KEYS
from brokerrun.supervisor.limits import Limits
from brokerrun.supervisor.schedules import ScheduleSpec
from brokerrun.supervisor.spec import Config, InstanceSpec, Mode, WorkerSpec

EXAMPLE = Path(__file__).parents[2] / "workers.toml.example"
WORKER = "[workers.a]\nhandler = 'x:y'\n"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BROKERRUN_")]:
        monkeypatch.delenv(name)
    return tmp_path


def reading(text: str | bytes) -> Reading:
    Path("workers.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read("workers.toml")


def config(text: str) -> Config:
    found = reading(text)
    assert found.faults == []
    assert found.config is not None
    return found.config


def worker(text: str = "") -> WorkerSpec:
    return config(WORKER + text).workers[0]


def faults(text: str | bytes) -> list[str]:
    found = reading(text)
    assert found.config is None
    return [fault.text("workers.toml") for fault in found.faults]


# ------------------------------------------------------------------------------- what is right


def test_two_lines_suffice(tmp_path: Path) -> None:
    whole = config("[workers.emails]\nhandler = 'app.mail:send'\n")
    (spec,) = whole.workers
    assert (whole.path, whole.folder) == (str(tmp_path / "workers.toml"), str(tmp_path))
    assert (spec.name, spec.handler, spec.queue) == ("emails", "app.mail:send", "emails")
    assert spec.queues == ("emails",)
    assert spec.dead_letters("emails") == "emails.dlq"


def test_what_is_not_said_is_as_documented(tmp_path: Path) -> None:
    spec, instance = worker(), config(WORKER).instance
    assert (spec.processes, spec.mode, spec.prefetch) == (1, Mode.PEEK, None)
    assert (spec.max_attempts, spec.crashes, spec.backoff) == (4, 2, Backoff(1.0, 600.0))
    assert (spec.timeout, spec.grace, spec.boot_timeout) == (None, 30.0, 30.0)
    assert (spec.env, spec.cwd) == ({}, str(tmp_path))
    assert spec.output == "inherit"
    assert (spec.max_messages, spec.max_age, spec.max_rss) == (None, None, None)
    assert spec.recycle_share == 0.25
    assert (spec.env_file, spec.user, spec.group) == (None, None, None)
    assert (spec.nice, spec.umask, spec.limits) == (None, None, Limits())
    assert (instance.database, instance.name) == (str(tmp_path / ".broker.db"), "default")
    assert (instance.crash_limit, instance.crash_backoff) == ((5, 30.0), (1.0, 60.0))
    assert (instance.log, instance.log_level, instance.preload) == ("auto", "info", ())
    assert (instance.runtime_dir, instance.control_mode) == ("auto", 0o600)
    assert instance.history == 7 * 86_400.0


def test_workers_keep_the_order_of_the_file() -> None:
    text = "".join(f"[workers.{name}]\nhandler = 'x:y'\n" for name in "cab")
    assert [spec.name for spec in config(text).workers] == ["c", "a", "b"]


def test_defaults_hold_for_each_worker_that_says_nothing_else() -> None:
    text = "[defaults]\ngrace = '5s'\ndead_letter = '{queue}.dead'\n"
    text += WORKER + "[workers.b]\nhandler = 'x:y'\ngrace = '9s'\nqueue = 'q'\n"
    first, second = config(text).workers
    assert (first.grace, first.dead_letters("a")) == (5.0, "a.dead")
    assert (second.grace, second.dead_letters("q")) == (9.0, "q.dead")


def test_a_queue_holds_what_runs_only_in_move_mode() -> None:
    assert worker().hold("a") is None
    assert worker("mode = 'move'").hold("a") == "a.in-process"
    assert worker("mode = 'move'\nin_process = 'busy'").hold("a") == "busy"


def test_the_policy_of_a_worker_is_what_its_table_says() -> None:
    (policy,) = worker("max_attempts = 7\ncrashes = 3\nbackoff = ['1s', '5s']").policies().values()
    assert (policy.max_attempts, policy.crashes, policy.dead_letter) == (7, 3, "a.dlq")
    assert policy.backoff == Backoff(steps=(1.0, 5.0))


def test_false_switches_off() -> None:
    spec = worker("dead_letter = false\ntimeout = false")
    assert spec.dead_letters("a") is None
    assert spec.timeout is None


def test_processes_are_a_number_or_a_share_of_the_cpus_this_process_may_use() -> None:
    usable = len(os.sched_getaffinity(0))
    assert worker("processes = 3").processes == 3
    assert worker("processes = 'cpu'").processes == usable
    assert worker("processes = 'cpu/2'").processes == max(1, usable // 2)
    assert worker("processes = 'cpu/9999'").processes == 1


def test_paths_start_at_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    (site / "app").mkdir(parents=True)
    elsewhere.mkdir()
    (site / "w.toml").write_text(
        f"[brokerrun]\ndatabase = 'data/q.db'\nruntime_dir = 'run'\n{WORKER}cwd = 'app'\n"
    )
    monkeypatch.chdir(elsewhere)
    found = load("../site/w.toml")
    assert (found.path, found.folder) == (str(site / "w.toml"), str(site))
    assert found.instance.database == str(site / "data/q.db")
    assert found.instance.runtime_dir == str(site / "run")
    assert found.workers[0].cwd == str(site / "app")


def test_a_file_of_output_starts_at_the_folder_of_the_file(tmp_path: Path) -> None:
    output = worker("output = 'file:log/{worker}.{slot}.log'\n").output
    assert output == f"file:{tmp_path}/log/{{worker}}.{{slot}}.log"


@pytest.mark.parametrize("written", ["/srv/q.db", "sqlite:///srv/q.db"])
def test_a_database_may_be_written_with_its_scheme(written: str) -> None:
    assert config(f"brokerrun.database = '{written}'\n{WORKER}").instance.database == "/srv/q.db"


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    text = b"\xef\xbb\xbf[workers.a]\r\nhandler = 'x:y'\r\n"
    assert reading(text).config is not None
    assert faults(text + b"nope = 1\r\n")[0].startswith("workers.toml:3: workers.a.nope: ")


def test_a_good_file_is_read_without_tomlkit() -> None:
    Path("workers.toml").write_text(WORKER)
    code = (
        "import sys; from brokerrun.supervisor.config import load; load('workers.toml');"
        "sys.exit(any(name in sys.modules for name in ('tomlkit', 'difflib', 'sqlite3')))"
    )
    root = str(EXAMPLE.parent)
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 0


# ------------------------------------------------------------------------------ the environment


def test_a_text_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE", "urgent")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("COUNT", "3")
    spec = worker(
        "queue = '${QUEUE}'\nprocesses = '${COUNT}'\ncrashes = '${NOBODY:-5}'\n"
        "env = { A = '${EMPTY}', B = '${EMPTY:-b}', C = 'x${COUNT}y${NOBODY:-z}', D = '$QUEUE' }"
    )
    assert (spec.queue, spec.processes, spec.crashes) == ("urgent", 3, 5)
    assert spec.env == {"A": "", "B": "b", "C": "x3yz", "D": "$QUEUE"}


def test_a_list_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODULE", "app")
    text = "[brokerrun]\npreload = ['${MODULE}.mail']\n"
    assert config(text + WORKER).instance.preload == ("app.mail",)


INSTEAD = {
    "database": "/q.db",
    "name": "n",
    "log": "json",
    "log_level": "debug",
    "runtime_dir": "/r",
}


@pytest.mark.parametrize("key", INSTEAD)
def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    text = "[brokerrun]\ndatabase = 'q'\nname = 'm'\nlog = 'pretty'\nlog_level = 'error'\n"
    text += "runtime_dir = 's'\n" + WORKER
    monkeypatch.setenv(f"BROKERRUN_{key.upper()}", "")
    assert getattr(config(text).instance, key) != INSTEAD[key]
    monkeypatch.setenv(f"BROKERRUN_{key.upper()}", INSTEAD[key])
    assert getattr(config(text).instance, key) == INSTEAD[key]


def test_a_bad_value_in_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERRUN_LOG", "loud")
    (fault,) = faults(WORKER)
    assert fault.startswith("workers.toml: BROKERRUN_LOG: expected one of 'auto', 'pretty', ")


# ------------------------------------------------------------------------------- what is wrong

WRONG_INSTANCE = [
    ("databas = 'x'", "brokerrun.databas: unknown key; did you mean 'database'?"),
    ("timeout = '3s'", "it belongs in [defaults] or [workers.NAME]"),
    ("handler = 'x:y'", "it belongs in [workers.NAME]"),
    ("start = 'thread'", "brokerrun.start: expected one of 'auto', 'fork', 'spawn'"),
    ("database = ''", "brokerrun.database: expected a path, got ''"),
    ("database = 3", "brokerrun.database: expected text in quotes, got 3"),
    ("database = 'postgresql://u:secret@h/d'", "got the address of an engine 'postgresql'"),
    ("name = ''", "brokerrun.name: an instance is named like a queue: invalid queue name ''"),
    (f"name = '{'n' * 65}'", "brokerrun.name: expected at most 64 characters"),
    ("preload = 'app'", "brokerrun.preload: expected a list of module names, got 'app'"),
    ("preload = ['app/mail']", "expected a module name like 'app.mail', got 'app/mail'"),
    ("crash_limit = 5", "expected a count in a duration like '5/30s', got 5"),
    ("crash_backoff = '1m..1s'", "expected a range from above 0s up"),
    ("log = 'loud'", "expected one of 'auto', 'pretty', 'logfmt', 'json', got 'loud'"),
    ("log_level = 10", "expected one of 'debug', 'info', 'warning', 'error', got 10"),
    ("runtime_dir = ''", "brokerrun.runtime_dir: expected a path"),
    ("control_mode = 600", "expected a mode like '0600', in quotes, got 600"),
    ("control_mode = '0888'", "expected a mode like '0600', in quotes, got '0888'"),
    ("history = 7", "expected a duration like '30s', got 7: write the unit"),
]
WRONG_WORKER = [
    ("proceses = 2", "workers.a.proceses: unknown key; did you mean 'processes'?"),
    ("Timeout = '1s'", "did you mean 'timeout'?"),
    ("preload = []", "workers.a.preload: unknown key here; it belongs in [brokerrun]"),
    ("crash_limt = '1/1s'", "unknown key; did you mean 'crash_limit' in [brokerrun]?"),
    ("max_rss = 512", "expected a size like '512MB' or '1GiB', got 512: write the unit"),
    ("max_rss = '512mb'", "expected a size like '512MB' or '1GiB', got '512mb'"),
    ("max_messages = 0", "workers.a.max_messages: expected a whole number from 1"),
    ("max_age = '0s'", "expected a duration above 0s, got '0s'"),
    ("recycle_share = 0", "workers.a.recycle_share: expected a share above 0 and up to 1"),
    ("recycle_share = 1.5", "like 0.25, got 1.5"),
    ("processes = 0", "workers.a.processes: expected 'cpu', 'cpu/2' or a whole number from 1 to"),
    ("processes = '2'", "got '2'"),
    ("processes = 'cpu/0'", "got 'cpu/0'"),
    ("processes = { min = 1 }", "workers.a.processes: expected max in a table like"),
    (
        "processes = { max = 2, top = 3 }",
        "expected the keys min, max, backlog, up, down, got 'top'",
    ),
    ("processes = { min = 3, max = 2 }", "workers.a.processes: expected min up to max = 2, got 3"),
    ("processes = { max = 2, up = 5 }", "expected a duration like '30s', got 5: write the unit"),
    ("processes = { max = 0 }", "expected max as a whole number from 1 to 1000, got 0"),
    ("paused = 'yes'", "workers.a.paused: expected true or false, got 'yes'"),
    ("mode = 'pop'", "workers.a.mode: expected 'peek' or 'move', got 'pop'"),
    ("prefetch = 65", "expected 'auto' or a whole number from 1 to 64, got 65"),
    ("prefetch = 0", "got 0"),
    ("max_attempts = 0", "workers.a.max_attempts: expected a whole number from 1"),
    ("max_attempts = true", "got true"),
    ("max_attempts = 1.0", "got 1.0"),
    ("crashes = 'many'", "workers.a.crashes: expected a whole number"),
    ("backoff = '1s'", "expected a range like '1s..10m', got '1s'"),
    ("backoff = []", "expected at least one duration in the list"),
    ("backoff = ['1s', 2]", "expected a duration like '30s', got 2: write the unit"),
    ("dead_letter = true", "workers.a.dead_letter: expected text in quotes, got true"),
    ("dead_letter = 0", "workers.a.dead_letter: expected text in quotes, got 0"),
    ("dead_letter = '{worker}.dlq'", "invalid queue name '{worker}.dlq'"),
    ("dead_letter = 'a'", "expected another queue than the worker's own, got 'a'"),
    ("in_process = '{queue}'", "expected another queue than the worker's own, got 'a'"),
    ("timeout = 0", "expected a duration like '30s', got 0: write the unit"),
    ("timeout = '0s'", "expected a duration above 0s, got '0s'"),
    ("timeout = '5 parsecs'", "expected a duration like '30s', got '5 parsecs'"),
    ("grace = 2020-01-01", "workers.a.grace: expected a duration"),
    ("boot_timeout = false", "workers.a.boot_timeout: expected a duration"),
    ("queue = '@alias'", "workers.a.queue: invalid queue name '@alias'"),
    ("queue = ''", "workers.a.queue: invalid queue name ''"),
    ("queue = '${NOBODY}'", "workers.a.queue: NOBODY is not set in the environment"),
    ("queue = '${NOBODY:x}'", "expected ${VAR} or ${VAR:-default}, got '${NOBODY:x}'"),
    ("env = { A = 1 }", "workers.a.env: expected a table of texts"),
    ("env = { '' = 'x' }", "expected a variable name without '=' and NUL, got ''"),
    ("env = { 'A=B' = 'x' }", "expected a variable name without '=' and NUL, got 'A=B'"),
    ('env = { A = "\\u0000" }', "expected a value without NUL for 'A'"),
    ("cwd = 'nowhere'", "workers.a.cwd: expected a folder that exists, got "),
    ("cwd = 'workers.toml'", "workers.a.cwd: expected a folder that exists, got "),
    ("env_file = 3", "workers.a.env_file: expected text in quotes, got 3"),
    ("env_file = 'workers.toml'", "workers.toml:1: expected KEY=VALUE, KEY of letters"),
    (
        "user = 'no-such-user'",
        "workers.a.user: expected a user of this machine, got 'no-such-user'",
    ),
    ("user = 0", "workers.a.user: expected a name in quotes, got 0"),
    ("group = 'root'", "workers.a.group: expected a user beside it"),
    ("group = 'no-such-group'", "expected a group of this machine, got 'no-such-group'"),
    ("nice = 20", "workers.a.nice: expected a whole number from -20 to 19, got 20"),
    ("nice = true", "got true"),
    ("umask = 77", "workers.a.umask: expected bits like '0077', in quotes, got 77"),
    ("limits = 3", "workers.a.limits: expected a table like { memory = '1GiB' }, got 3"),
    ("limits = { disk = '1GB' }", "workers.a.limits: expected memory, cpu, files, got 'disk'"),
    (
        "limits = { memory = 512 }",
        "expected a size like '512MB' or '1GiB', got 512: write the unit",
    ),
    ("limits = { memory = '1MiB' }", "expected memory of at least '32MiB', got '1MiB'"),
    ("limits = { cpu = 0.5 }", "expected cpu like '50%', of one processor, got 0.5"),
    ("limits = { cpu = '0%' }", "got '0%'"),
    ("limits = { files = '1024' }", "expected files from 32 to 1000000000, got '1024'"),
    ("limits = { files = 3 }", "got 3"),
    ("output = 'loud'", "workers.a.output: expected 'inherit', 'prefix', 'json' or 'file:PATH'"),
    ("output = 'file'", "expected 'inherit', 'prefix', 'json' or 'file:PATH', got 'file'"),
    ("output = 'file:'", "workers.a.output: expected a path, got ''"),
    ("output = 'file:log/'", "with {worker} and {slot} at most, got 'log/'"),
    ("output = 'file:{pid}.log'", "with {worker} and {slot} at most, got '{pid}.log'"),
]
HANDLERS = ["", "x", "x:", ":y", "x.y", "x:y:z", "x y:z", "x/y.py:z", "x..y:z", "x:y()", "1:y"]


@pytest.mark.parametrize(("line", "reason"), WRONG_INSTANCE)
def test_a_wrong_line_of_the_instance_is_named(line: str, reason: str) -> None:
    (fault,) = faults(f"{WORKER}[brokerrun]\n\n{line}\n")
    assert fault.startswith("workers.toml:5: brokerrun.")
    assert reason in fault


@pytest.mark.parametrize(("line", "reason"), WRONG_WORKER)
def test_a_wrong_line_of_a_worker_is_named(line: str, reason: str) -> None:
    (fault,) = faults(f"{WORKER}# a comment\n{line}\n")
    assert fault.startswith("workers.toml:4: workers.a.")
    assert reason in fault


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_is_a_module_and_a_function(handler: str) -> None:
    (fault,) = faults(f"[workers.a]\nhandler = '{handler}'\n")
    assert fault.endswith(f":2: workers.a.handler: expected 'module:function', got {handler!r}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "workers.toml: workers: no worker: write [workers.NAME] and in it its handler"),
        ("[workers]\n", "workers.toml:1: workers: no worker: "),
        ("\nworkers = 3\n", "workers.toml:2: workers: no worker: "),
        ("[workers.a]\n", "workers.toml:1: workers.a: missing key 'handler'"),
        ("[workers]\na = 3\n", "workers.toml:2: workers.a: expected a table, got 3"),
        ("[[workers.a]]\nhandler = 'x:y'\n", "workers.a: expected a table, got "),
        (f"brokerrun = 3\n{WORKER}", "workers.toml:1: brokerrun: expected a table, got 3"),
        (f"{WORKER}[worker.b]\n", "workers.toml:3: worker: unknown table; did you mean [workers]?"),
        (f"{WORKER}[b]\nhandler = 'x:y'\n", "b: unknown table; did you mean [workers.b]?"),
        (
            f"foo = 1\n{WORKER}",
            "workers.toml:1: foo: unknown key; here are only tables: [brokerrun], ",
        ),
        (f"{WORKER}[other.b]\n", "workers.toml:3: other: unknown table; known are "),
        (f"{WORKER}[b]\nevery = '1m'\n", "b: unknown table; did you mean [schedule.b]?"),
        (f"{WORKER}[schedules.b]\n", "schedules: unknown table; did you mean [schedule]?"),
        (f"log = 'json'\n{WORKER}", "workers.toml:1: log: unknown key here; it belongs in [bro"),
        (f"{WORKER}[defaults]\nqueue = 'q'\n", "defaults.queue: unknown key here; it belongs in"),
        (f"{WORKER}[defaults]\ngrace = 1\n", "workers.toml:4: defaults.grace: expected a duration"),
        ('[workers."a b"]\nhandler = "x:y"\n', "a worker is named like a queue: invalid"),
        ('[workers.""]\nhandler = "x:y"\n', 'workers.toml:1: workers."": a worker is named like'),
    ],
)
def test_a_wrong_table_is_named(text: str, expected: str) -> None:
    (fault,) = faults(text)
    assert expected in fault


def test_a_name_with_a_dot_needs_quotes() -> None:
    found = faults("[workers.a.b]\nhandler = 'x:y'\n")
    assert any('did you mean [workers."a.b"]?' in fault for fault in found)
    assert config("[workers.'a.b']\nhandler = 'x:y'\n").workers[0].queue == "a.b"


def test_a_queue_that_is_too_long_only_with_its_suffix_is_refused() -> None:
    (fault,) = faults(f"{WORKER}queue = '{'q' * 505}'\n")
    assert fault.startswith("workers.toml:1: workers.a.in_process: invalid queue name")


def test_two_workers_never_take_from_one_queue() -> None:
    (fault,) = faults(WORKER + "[workers.b]\nhandler = 'x:y'\nqueue = 'a'\n")
    assert fault == "workers.toml:5: workers.b.queue: queue 'a' is taken by workers.a already"


def test_a_worker_of_several_queues_has_for_each_what_one_has_for_its_own() -> None:
    spec = worker("queues = ['urgent', 'normal']\nmode = 'move'\ndead_letter = 'dead.{queue}'")
    assert (spec.queues, spec.queue) == (("urgent", "normal"), "urgent,normal")
    assert [spec.hold(queue) for queue in spec.queues] == [
        "urgent.in-process",
        "normal.in-process",
    ]
    assert {queue: policy.dead_letter for queue, policy in spec.policies().items()} == {
        "urgent": "dead.urgent",
        "normal": "dead.normal",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("queues = []", "workers.a.queues: expected at least one queue in the list, got none"),
        ("queues = ['q', 'r', 'q']", "workers.a.queues: expected each queue once, got 'q' twice"),
        ("queues = 'q'", "expected a list of queues like ['urgent', 'normal'], got 'q'"),
        ("queues = ['-q']", "workers.a.queues: invalid queue name"),
        ("queue = 'q'\nqueues = ['r']", "workers.a.queues: expected queue or queues, got both"),
        ("queues = ['q', 'r']\ndead_letter = 'r'", "another queue than the worker's own, got 'r'"),
        ("queues = ['q', 'r']\nin_process = 'q'", "another queue than the worker's own, got 'q'"),
    ],
)
def test_a_list_of_queues_is_refused_with_a_reason(text: str, reason: str) -> None:
    (fault,) = faults(WORKER + text)
    assert reason in fault


def test_no_queue_of_several_is_another_workers() -> None:
    (fault,) = faults(WORKER + "[workers.b]\nhandler = 'x:y'\nqueues = ['b', 'a']\n")
    assert fault == "workers.toml:5: workers.b.queues: queue 'a' is taken by workers.a already"


def ordered(**after: str) -> str:
    return "".join(
        f"[workers.{name}]\nhandler = 'x:y'\nafter = {others}\ngrace = '10s'\n"
        for name, others in after.items()
    )


def test_workers_that_stop_one_after_the_other_have_the_grace_of_all() -> None:
    assert config(ordered(a="[]", b="['a']", c="['a', 'b']", d="[]")).grace == 30.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ordered(a="['b', 'a1']", b="[]"), "3: workers.a.after: expected one of a, b, got 'a1'"),
        (ordered(a="['a']"), "3: workers.a.after: workers wait for each other: a -> a"),
        (
            ordered(a="[]", b="['c']", c="['d']", d="['b', 'a']"),
            "7: workers.b.after: workers wait for each other: b -> c -> d -> b",
        ),
        (ordered(a="'b'", b="[]"), "expected a list of workers like ['emails'], got 'b'"),
    ],
)
def test_an_order_that_cannot_be_is_refused(text: str, reason: str) -> None:
    (fault,) = faults(text)
    assert reason in fault


def test_dead_letters_never_come_back_to_where_they_died() -> None:
    text = "".join(
        f"[workers.{name}]\nhandler = 'x:y'\nqueue = 'q{name}'\ndead_letter = 'q{to}'\n"
        for name, to in [("start", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("end", "nobody")]
    )
    (fault,) = faults(text)
    assert fault == (
        "workers.toml:8: workers.a.dead_letter: dead letters go round and round: "
        "qa -> qb -> qc -> qa"
    )


def test_a_worker_may_take_what_another_buried() -> None:
    text = WORKER + "[workers.b]\nhandler = 'x:y'\nqueue = 'a.dlq'\n"
    assert [*config(text).policies()] == ["a", "a.dlq"]


def test_a_faulty_queue_makes_no_fault_of_its_consequences() -> None:
    text = "".join(f"[workers.{name}]\nhandler = 'x:y'\nqueue = 'b c'\n" for name in "ab")
    assert len(faults(text)) == 2


def test_every_fault_comes_at_once_and_by_line() -> None:
    found = faults(
        "[defaults]\nenv = {\n  A = 1,\n}\nbackoff = [\n  '1s',\n  '2',\n]\n"
        "[workers.thumbs]\nproceses = 2\nhandler = '''\nx'''\ntimeout = 5\n"
        "[workers.mail.env]\nA = 1\n[workers.mail]\nlog = 'x'\n"
    )
    places = [":".join(re.findall(r"^workers.toml:(\d+): ([^:]+): ", fault)[0]) for fault in found]
    assert " ".join(places) == (
        "2:defaults.env 5:defaults.backoff 10:workers.thumbs.proceses 11:workers.thumbs.handler "
        "13:workers.thumbs.timeout 14:workers.mail.env 16:workers.mail 17:workers.mail.log"
    )


def test_dotted_and_inline_tables_have_lines_too() -> None:
    found = faults("workers.a.handler = 'x:y'\nworkers.a.nope = 1\nworkers.b = { nope = 2 }\n")
    assert [fault.split(": ")[0] for fault in found] == ["workers.toml:2"] + ["workers.toml:3"] * 2


# ------------------------------------------------------------------------------ the file itself


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[workers\n", r"workers.toml:1: Expected '\]' .* \(column 9\)"),
        (b"a = 1\na = 2\n", r"workers.toml:2: Cannot overwrite a value \(column \d+\)"),
        (b"a = 1\n\xff", r"workers.toml: cannot be read: byte 6 is not UTF-8"),
        (b"#" * 1_000_001, r"workers.toml: cannot be read: is larger than 1000000 bytes"),
        (b"a = " + b"[" * 5_000, r"workers.toml: cannot be read: TOML inline arrays"),
        (b"a = " + b"9" * 5_000, r"workers.toml: cannot be read: Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault(content: bytes, reason: str) -> None:
    (fault,) = faults(content)
    assert re.fullmatch(reason + ".*", fault)


def test_a_missing_file_says_how_to_make_one() -> None:
    with pytest.raises(ConfigError, match=r"^workers.toml: .*; run 'brokerrun init' to make one$"):
        load("workers.toml")


def test_a_folder_and_a_pipe_are_no_file(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    for path in (str(tmp_path), "pipe", "no\0thing"):
        (fault,) = read(path).faults
        assert fault.reason.startswith("cannot be read: ")


def test_load_raises_all_faults_under_the_name_that_was_given() -> None:
    Path("bad.toml").write_text(WORKER + "nope = 1\ngrace = 3\n")
    with pytest.raises(ConfigError) as caught:
        load("./bad.toml")
    places = [fault.split(": ")[0] for fault in caught.value.faults]
    assert places == ["./bad.toml:3", "./bad.toml:4"]


# -------------------------------------------------------------------------------- what to import


def test_handlers_are_found_beside_other_faults(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    found = reading(
        "[brokerrun]\npreload = ['app.models']\nlog = 3\n[defaults]\ncwd = 'app'\n"
        "[workers.a]\nnope = 1\nhandler = 'x:y'\nenv = { A = 'b' }\n"
        "[workers.b]\nhandler = 'broken'\n"
        "[workers.c]\nhandler = 'v:w'\ncwd = 'nowhere'\nenv = 3\n"
    )
    assert found.config is None
    assert found.preload == ("app.models",)
    assert [(h.worker, h.handler, h.cwd, h.env) for h in found.handlers] == [
        ("a", "x:y", str(tmp_path / "app"), {"A": "b"}),
        ("c", "v:w", str(tmp_path), {}),
    ]
    assert [found.line_of(h.worker, "handler") for h in found.handlers] == [8, 13]


def test_a_key_that_is_not_written_has_the_line_of_its_table() -> None:
    found = reading("\n" + WORKER)
    assert (found.line_of("a", "handler"), found.line_of("a", "queue")) == (3, 2)
    assert found.line_of("nobody", "queue") == 2
    assert read("missing.toml").line_of("a", "handler") == 0


# ------------------------------------------------------------------------- one place for each key


def test_a_spec_has_a_field_for_each_key() -> None:
    assert {field.name for field in fields(WorkerSpec)} == {"name", *WORKER_KEYS}
    assert {field.name for field in fields(InstanceSpec)} == {*SCOPES["brokerrun"]}
    assert {field.name for field in fields(ScheduleSpec)} == {"name", *SCOPES["schedule"]}


def test_the_example_is_a_file_without_faults() -> None:
    assert reading(EXAMPLE.read_text()).faults == []


def test_the_example_lists_each_key_once_with_its_default() -> None:
    text = EXAMPLE.read_text()
    document = tomli.loads(text)
    (document["workers"],) = document["workers"].values()
    (document["schedule"],) = document["schedule"].values()
    assert '# or every = "' in text  # beside cron it would be a fault
    assert '; or queues = ["' in text  # beside queue, too
    document["workers"]["queues"] = None
    document["schedule"] = {"cron": None, "every": None} | document["schedule"]
    assert sorted((scope, key) for scope in SCOPES for key in document[scope]) == sorted(keys())
    for scope, key in keys():
        if scope in ("brokerrun", "defaults") or key in ("timezone", "body", "catch_up", "overlap"):
            assert document[scope][key] == SCOPES[scope][key].default, key
    for variable in (known.variable for known in SCOPES["brokerrun"].values() if known.variable):
        assert f"${variable}" in text
