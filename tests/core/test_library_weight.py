"""What a program pays for importing the library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import brokerrun

DOORS = [f"brokerrun{door}" for door in ("", ".aio", ".db", ".ext", ".sqqueue", ".watcher")]
NAMES = sorted(set(brokerrun.__all__) - {"__version__"})
HEAVY = {"asyncio", "click", "dataclasses", "inspect", "json", "logging", "typing", "tomllib"}
IMPORT_MS = 15


def fresh(code: str, **environment: str) -> str:
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(statement: str) -> set[str]:
    """List the modules that a statement loads into a new interpreter."""
    before, after = "before = set(sys.modules)", "print(*set(sys.modules) - before)"
    return set(fresh(f"import sys\n{before}\n{statement}\n{after}").split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_needs_nothing_but_the_standard_library(door: str) -> None:
    found = packages(loaded_by(f"from {door} import *"))
    assert found - set(sys.stdlib_module_names) == {"brokerrun"}


def test_every_name_can_be_imported_alone_and_first() -> None:
    """Each in a child of its own: a cycle of imports shows only in some orders."""
    assert (
        fresh(
            "import os, brokerrun\n"
            f"for name in {NAMES}:\n"
            "    if os.fork() == 0:\n"
            "        os._exit(getattr(brokerrun, name).__name__ != name)\n"
            "    if os.wait()[1]:\n"
            "        print(name)\n"
        )
        == ""
    )


def test_importing_the_package_loads_nothing_of_it_yet() -> None:
    ours = {name for name in loaded_by("import brokerrun") if name.startswith("brokerrun")}
    assert ours == {"brokerrun", "brokerrun.values"}


def test_a_queue_loads_no_heavy_module() -> None:
    assert loaded_by("from brokerrun import Queue") & HEAVY == set()


def test_a_queue_costs_at_most_15_ms_over_sqlite3(tmp_path: Path) -> None:
    """By the processor time of the fastest of some: other work on the machine is not ours."""
    code = (
        "import sqlite3, time\n"
        "before = time.process_time()\n"
        "from brokerrun import Queue\n"
        "print((time.process_time() - before) * 1000)\n"
    )
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    fresh(code, **cached)  # compiles
    assert any(float(fresh(code, **cached)) <= IMPORT_MS for _ in range(40))
