from __future__ import annotations

import sys
from pathlib import Path

# The simulated shapes belong to the benchmark; the tests hold the code to its promise on the same ones.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
