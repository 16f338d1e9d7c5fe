"""Scripts that make every number in the README and in docs/. Their test helpers live in tests/support."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
