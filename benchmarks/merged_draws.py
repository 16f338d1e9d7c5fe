"""How far intervals move where draws of the bootstrap see cells of rows: ``python -m benchmarks.merged_draws``."""

from __future__ import annotations

import platform
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.common import RESULTS, Json, put, read_json, write_result
from benchmarks.large_files import write_rows
from confide.evaluation import evaluate
from confide.records import read_record_table

ROWS = 100_000


def measure() -> Json:
    """How far the ends of intervals move where draws see cells, in widths of the interval without them."""
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder, "rows.parquet"), ROWS)
        records = read_record_table(Path(folder, "rows.parquet"))
        merged = evaluate(records)["estimators"]
        never = partial(patch, new=ROWS)
        with never("confide.metrics.bootstrap.MERGED"), never("confide.evaluation.judged.MERGED"):
            exact = evaluate(records)["estimators"]
    moved = {}
    for source, entry in exact.items():
        for name, figure in entry.items():
            if isinstance(figure, dict) and figure.get("low") is not None and figure["high"] > figure["low"]:
                other, width = merged[source][name], figure["high"] - figure["low"]
                moved[f"{name} of {source}"] = max(abs(other[end] - figure[end]) for end in ("low", "high")) / width
    order = sorted(moved, key=lambda name: -moved[name])
    shown = {name: moved[name] for name in order[:3]}
    return {"rows": ROWS, "figures": len(moved), "median": float(np.median([*moved.values()])), "largest": shown}


def told(found: Json) -> str:
    """What was found, in words."""
    moved = ", ".join(f"{share:.1%} ({name})" for name, share in found["largest"].items())
    return (
        f"Of more than 20,000 rows the draws of the bootstrap see rows of about one confidence together; values stay "
        f"those of all rows. On {found['rows']:,} rows the ends of {found['figures']} intervals moved, against draws "
        f"of every row, by {found['median']:.2%} of their width in the median, at most by {moved}."
    )


def write(found: Json) -> None:
    """Put the sentence into the page."""
    put("docs/results/policies.md", {"merged draws": told(found)})


def main() -> None:
    """Measure, and write result and sentence; ``--tables`` writes the sentence alone."""
    out = RESULTS / "merged_draws.json"
    if "--tables" in sys.argv:
        return write(read_json(out))
    facts = {"python": platform.python_version(), "numpy": np.__version__}
    return write(write_result(out, "merged_draws.py", {"versions": facts, "seed": 0, **measure()}))


if __name__ == "__main__":
    main()
