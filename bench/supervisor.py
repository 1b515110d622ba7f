"""The figures of the supervisor: how fast and how surely it does what it promises.

    python bench/supervisor.py NAME [--rounds N]
    python bench/supervisor.py all

Each starts real fleets in temporary folders ($TMPDIR says where) and prints a line a figure: its
row, what it is, how many rounds, median, 95th percentile and worst, the target, and whether it
holds. The status is 0 where all hold. Sites and some measures are those of the tests, so it needs
pytest; where rich is installed too (import-linter brings it), structlog imports it, and S27, S28
are not those of brokerrun. The machine should have nothing else to do. What a round is stands at
each function.

row  NAME                row  NAME                 row  NAME               row  NAME
S1   kill-supervisor     S8   poison               S15  reload             S28  memory
S2   kill-worker         S9   bad-handler          S17  control-storm      S29  idle
S5   term-anytime        S10  crash-loop           S18  status-down        S30  autoscale
S6   hung                S11  stop                 S19  two-supervisors    S31  stack
S7   boot-hang           S12  group-term           S23  cron               S33  cli-speed
                         S13  grandchildren        S25  soak               S38  size
                                                   S27  startup

S5, S6, S10 and the second TERM of S11 are the measures of tests, with other rounds; S13 and S31
have their handlers. These rows are not here, since tests say all there is to say of them:

S3   crash/test_real_tree.py             S22  supervisor/test_systemd.py
S4   crash/test_forks.py                 S24  supervisor/test_output.py, test_recycling.py
S14  supervisor/test_pid_one.py          S26  supervisor/test_recycling.py
S16  supervisor/test_reload.py           S32  supervisor/test_doctor.py
S21  supervisor/test_schedule_runs.py    S34, S35  supervisor/test_config.py
                                         S36  supervisor/test_export.py

S20, S37 and S39 are measured nowhere.
"""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=["all", *FIGURES])
    parser.add_argument("--rounds", type=int, help="default: each its own number")
    given = parser.parse_args()
    compile_ours()
    if find_spec("rich"):
        print("     rich is installed, and structlog imports it: start-up and memory show that")
    names = list(FIGURES) if given.name == "all" else [given.name]
    held = [tell(name, given.rounds) for name in names]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
