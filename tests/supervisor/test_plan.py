"""What a changed file means for a fleet that runs: two files in, a plan out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brokerrun.supervisor.config import load
from brokerrun.supervisor.keys import INSTANCE, OWN, SHARED, Cost
from brokerrun.supervisor.plan import Action, changes, fixed_keys
from brokerrun.supervisor.spec import Config

TWO = """
[workers.a]
handler = "m:f"
[workers.b]
handler = "m:g"
"""
# For each key a value that is not its default, nor what TWO says.
OTHER: dict[str, str] = {
    "processes": "{ min = 0, max = 3 }",
    "paused": "true",
    "mode": '"move"',
    "in_process": '"elsewhere"',
    "prefetch": "3",
    "max_attempts": "9",
    "crashes": "9",
    "backoff": '["1s"]',
    "dead_letter": "false",
    "timeout": '"9s"',
    "grace": '"9s"',
    "boot_timeout": '"9s"',
    "cwd": '"sub"',
    "env": '{ A = "b" }',
    "env_file": '"env"',
    "user": '"root"',
    "group": '"root"\nuser = "root"',
    "nice": "9",
    "umask": '"0077"',
    "limits": "{ files = 99 }",
    "max_messages": "9",
    "max_age": '"9h"',
    "max_rss": '"9GB"',
    "recycle_share": "0.9",
    "output": '"json"',
    "handler": '"m:h"',
    "queue": '"elsewhere"',
    "after": '["a"]',
    "queues": '["here", "there"]',
    "database": '"b.db"',
    "name": '"second"',
    "preload": '["json"]',
    "crash_limit": '"9/9s"',
    "crash_backoff": '"9s..9m"',
    "on_crash_loop": '"exit"',
    "start": '"spawn"',
    "log": '"json"',
    "log_level": '"debug"',
    "runtime_dir": '"run"',
    "control_mode": '"0660"',
    "history": '"9d"',
}
CODES = {"a": "1", "b": "1"}


def config(tmp_path: Path, text: str) -> Config:
    (tmp_path / "sub").mkdir(exist_ok=True)
    (tmp_path / "workers.toml").write_text(text)
    return load(str(tmp_path / "workers.toml"))


def plan(old: Config, new: Config, codes: dict[str, str] = CODES, *, roll: bool = False) -> Any:
    found = changes(old, new, (CODES, codes), roll=roll)
    return {change.worker: (change.action, change.keys, change.code) for change in found}


@pytest.mark.parametrize("key", [*OWN, *SHARED])
def test_each_key_of_a_worker_costs_what_its_table_says_and_its_worker_only(
    tmp_path: Path, key: str
) -> None:
    old = config(tmp_path, TWO)
    text = TWO.replace('handler = "m:g"\n', "") if key == "handler" else TWO
    found = plan(old, config(tmp_path, f"{text}{key} = {OTHER[key]}\n"))
    assert found["a"] == (Action.SAME, (), False)
    action, keys, _ = found["b"]
    cost = (OWN | SHARED)[key].cost
    assert action is {Cost.LIVE: Action.LIVE, Cost.WORKER: Action.ROLL}[cost]
    assert keys == (("queues",) if key == "queue" else (key,)) or key == "group"


@pytest.mark.parametrize("key", INSTANCE)
def test_each_key_of_the_instance_costs_what_its_table_says(tmp_path: Path, key: str) -> None:
    old = config(tmp_path, TWO)
    new = config(tmp_path, f"[brokerrun]\n{key} = {OTHER[key]}\n{TWO}")
    assert fixed_keys(old, new) == ([key] if INSTANCE[key].cost is Cost.INSTANCE else [])


def test_workers_come_and_go(tmp_path: Path) -> None:
    old = config(tmp_path, TWO)
    new = config(tmp_path, TWO.replace("[workers.b]", "[workers.c]"))
    assert {name: entry[0] for name, entry in plan(old, new, {"a": "1", "c": "1"}).items()} == {
        "a": Action.SAME,
        "c": Action.START,
        "b": Action.STOP,
    }


def test_other_code_replaces_the_workers_that_have_it(tmp_path: Path) -> None:
    old = config(tmp_path, TWO)
    found = plan(old, old, {"a": "1", "b": "2"})
    assert found == {"a": (Action.SAME, (), False), "b": (Action.ROLL, (), True)}


def test_all_are_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    old = config(tmp_path, TWO)
    assert {entry[0] for entry in plan(old, old, roll=True).values()} == {Action.ROLL}
