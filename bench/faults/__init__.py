"""What `bench/supervisor.py` measures, one module a kind of fault; the sites are those of tests/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
