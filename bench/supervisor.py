"""The figures of the supervisor."""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from faults import control, costs, deaths, loads, stops
from faults.figure import Figure

import brokerrun

# What is measured, and how many rounds it has where nobody says otherwise.
FIGURES: dict[str, tuple[Callable[[int], Iterator[Figure]], int]] = {
    "kill-supervisor": (deaths.kill_supervisor, 20),
    "kill-worker": (deaths.kill_worker, 50),
    "term-anytime": (deaths.term_anytime, 200),
    "hung": (deaths.hung, 5),
    "boot-hang": (deaths.boot_hang, 5),
    "poison": (deaths.poison, 10),
    "bad-handler": (deaths.bad_handler, 5),
    "crash-loop": (deaths.crash_loop, 1),
    "stop": (stops.stop, 5),
    "group-term": (stops.group_term, 5),
    "grandchildren": (stops.grandchildren, 5),
    "reload": (loads.reload, 20),
    "soak": (loads.soak, 200),
    "autoscale": (loads.autoscale, 1),
    "control-storm": (control.control_storm, 3),
    "status-down": (control.status_down, 20),
    "two-supervisors": (control.two_supervisors, 5),
    "cron": (control.cron, 20),
    "stack": (control.stack, 5),
    "cli-speed": (control.cli_speed, 20),
    "startup": (costs.startup, 5),
    "memory": (costs.memory, 1),
    "idle": (costs.idle, 20),
    "size": (costs.size, 1),
}


def tell(name: str, rounds: int | None) -> bool:
    """Measure one, and print each figure when it is there; tell whether all hold."""
    measure, usual = FIGURES[name]
    begun, holds = time.monotonic(), True
    try:
        for figure in measure(rounds or usual):
            print(figure, flush=True)
            holds = holds and figure.holds
    except Exception:
        traceback.print_exc()
        print(f"{name}: FAILED", flush=True)
        holds = False
    print(f"     ({name}: {time.monotonic() - begun:.1f} s)", flush=True)
    return holds


def compile_ours() -> None:
    """Let each start find compiled modules, as it does where the package is installed."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(Path(brokerrun.__file__).parent, quiet=1)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what the supervisor promises.")
    parser.add_argument("name", choices=["all", *FIGURES])
    parser.add_argument("--rounds", type=int, help="default: each its own number")
    given = parser.parse_args()
    compile_ours()
    names = list(FIGURES) if given.name == "all" else [given.name]
    held = [tell(name, given.rounds) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
