"""The README's one table: what confidences are worth on the same questions, and what they keep at a promised risk.

After `increments` and `trained_tokens`, whose work folders it reads.

One draw of geography's standard split (`cells.partition`), the first whose reader `trained_tokens` has left in this
pool of answers. All sources learn from the same 2,000 rows, and are judged on the same test rows; the promise is made
on calibration rows that nothing else has seen, by what `confide calibrate` runs.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, Json, Work, parser, write_result
from benchmarks.quality import front_page_tables
from benchmarks.quality.cells import Parts, partition
from benchmarks.quality.increments import RESAMPLES, judge, train
from benchmarks.quality.proper_scores import Readings
from benchmarks.quality.study import geography_records, geography_states
from benchmarks.quality.trained_tokens import RISK, ROWS, TEST, pool_of
from confide.methods.method import labels
from confide.policies import MaxRisk, Policy, calibrate_policy
from confide.records import Record

SEED = 1
LEVEL = 0.95


def main() -> None:
    options = parser(__doc__, "front_page")
    options.add_argument("--quality", type=Path, default=Path("runs/quality"), help="geography's records and states")
    options.add_argument("--trained", type=Path, default=Path("runs/trained_tokens"), help="where the reader's run is")
    arguments = options.parse_args()
    work, quality = Work(arguments.work), Work(arguments.quality)
    records = geography_records(quality)
    parts, _ = partition(records, "standard", SEED)
    parts = parts | {"train": np.sort(parts["train"][:ROWS]), "test": parts["test"][:TEST]}
    found = cell(quality, arguments.trained, records, parts)
    made = {"machine": work.machine(), "resamples": RESAMPLES, "promise": {"max_risk": RISK, "level": LEVEL}}
    result = write_result(arguments.out, "quality/front_page.py", made | {"cell": found})
    if arguments.out.parent == RESULTS:
        front_page_tables.write(result)


def cell(quality: Work, trained: Path, records: list[Record], parts: Parts) -> Json:
    """Every source on the test rows, and what it keeps of them by a policy from the calibration rows."""
    learned = train(records, geography_states(quality, records), parts, SEED)
    reader = np.load(trained / f"standard-{SEED}-reader.npy")

    def readings(part: str) -> Readings:
        rows = parts[part]
        some = learned.readings(rows)
        values = {name: some.values[name] for name in ("logprob_sum", "portable", "stack")} | {"reader": reader[rows]}
        return Readings(some.records, values)

    held, tested = readings("calibration"), readings("test")
    pairs = [(name, rival) for name in tested.values for rival in ("logprob_sum", "portable") if name != rival]
    judged = judge(tested.records, tested.values, SEED, pairs)
    kept = {name: promise(held, tested, name) for name in tested.values}
    return judged | {
        "seed": SEED,
        "pool": pool_of(records),
        "train": len(parts["train"]),
        "calibration": len(held.records),
        "kept": kept,
    }


def promise(held: Readings, tested: Readings, source: str) -> Json | None:
    """The share of the test rows that a policy from the calibration rows keeps, and how often these are wrong.

    Every entity counts once, in the policy and here: some have a dozen rows.

    None: the calibration rows do not show the goal at any threshold.
    """
    policy = calibrate_policy(given(held, source), source, MaxRisk(RISK, level=LEVEL, per="entity"), hints=False)
    if not isinstance(policy, Policy):
        return None
    decisions = [policy.decide(record.confidence[source], record.domain) for record in given(tested, source)]
    kept = np.array([decision == "answer" for decision in decisions])
    sizes = Counter(record.cluster for record in tested.records)
    weights = np.array([1 / sizes[record.cluster] for record in tested.records])
    wrong = weights @ (kept & ~labels(tested.records))
    share = {"share": float(weights @ kept / weights.sum())}
    return share | {"wrong": float(wrong / (weights @ kept)) if kept.any() else None}


def given(some: Readings, source: str) -> list[Record]:
    """The records with what a source says of them and nothing else."""
    values = [None if np.isnan(value) else float(value) for value in some.values[source]]
    return [r.model_copy(update={"confidence": {source: v}}) for r, v in zip(some.records, values, strict=True)]


if __name__ == "__main__":
    main()
