"""What an idle fleet costs: CPU of the whole tree, and the memory of each worker.

python bench/idle.py [WORKERS] [SECONDS]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HANDLER = "def nothing(message):\n    pass\n"


def measure(workers: int, seconds: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.py").write_text(HANDLER)
        tables = [f'[workers.w{n}]\nhandler = "jobs:nothing"\n' for n in range(workers)]
        Path(folder, "workers.toml").write_text("\n".join(tables))
        command = [sys.executable, "-m", "brokerrun", "up"]
        supervisor = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            root = psutil.Process(supervisor.pid)
            while len(fleet := root.children(recursive=True)) < workers + 1:
                time.sleep(0.05)
            time.sleep(2)  # until all have settled down: this is a measurement, not a test
            tree = [root, *fleet]
            before = sum(sum(process.cpu_times()[:2]) for process in tree)
            time.sleep(seconds)
            used = sum(sum(process.cpu_times()[:2]) for process in tree) - before
            ours = [p.memory_full_info() for p in fleet if p.name() != "brokerrun: temp"]
            pss = sum(info.pss for info in ours) / len(ours) / 1e6
            uss = sum(info.uss for info in ours) / len(ours) / 1e6
            whole = sum(p.memory_full_info().pss for p in tree) / 1e6
        finally:
            supervisor.terminate()
            supervisor.wait()
    return (
        f"{workers} idle workers, {seconds:g} s: {used / seconds * 100:.2f} % of a core; a worker "
        f"{pss:.1f} MB PSS, {uss:.1f} MB USS; the whole tree {whole:.0f} MB PSS"
    )


if __name__ == "__main__":
    arguments = sys.argv[1:] + ["8", "60"][len(sys.argv) - 1 :]
    print(measure(int(arguments[0]), float(arguments[1])))
