"""What `bench/supervisor.py` measures, by kind of fault; its sites are those of the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
