"""Does this version say what an earlier one said? Compare with folders that `confide demo` wrote.

    python -m benchmarks.quality.compare_versions OLD [NEW]

OLD is a demo folder of the earlier version. Its scored records are evaluated and calibrated again by the code at hand:
metrics must be equal to 1e-9, policies equal, and answers that the policy keeps the same. With NEW, a demo folder of
this version with the same settings, answers are compared token for token and confidences source by source.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import read_json
from confide.evaluation import evaluate
from confide.policies import Policy, calibrate_policy
from confide.policies.calibration_rows import in_split
from confide.policies.goals import MaxRisk
from confide.records import Record, read_records

TOLERANCE = 1e-9
TIMES = {"seconds", "cost"}
"""What a run took, not what it gave."""


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(where, old, new) of every value that differs by more than `TOLERANCE`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new} - TIMES):
            yield from differences(old.get(key), new.get(key), f"{place}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{place}/{number}")
    elif isinstance(old, float) and isinstance(new, float):
        if not math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield place, old, new
    elif old != new:
        yield place, old, new


def same(name: str, old: Any, new: Any) -> bool:
    """Whether two structures are equal; prints the first differences where they are not."""
    found = list(differences(old, new))
    print(f"{name}: {len(found)} values differ by more than {TOLERANCE:g}")
    for place, one, other in found[:10]:
        print(f"  {place}: {one!r} → {other!r}")
    return not found


def same_policy(scored: list[Record], path: Path) -> bool:
    """Whether calibrating as a saved policy was gives it again, and decides on all rows as it does."""
    old, before = read_json(path), Policy.load(path)
    goal = MaxRisk(old["guarantee"]["max_risk"], old["guarantee"]["level"])
    new = calibrate_policy(in_split(scored, "calibration"), before.source, goal)
    assert isinstance(new, Policy)
    values = [record.confidence[before.source] for record in scored]
    equal = sum(before.decide(value) == new.decide(value) for value in values)
    print(f"decisions: {equal} of {len(values)} equal")
    return same(path.name, old, json.loads(new.model_dump_json(by_alias=True))) and equal == len(values)


def same_answers(old: list[Record], new: list[Record]) -> bool:
    """Whether answers are equal token for token; prints the largest difference of each source's confidence."""
    pairs = list(zip(old, new, strict=True))
    equal = sum(a.id == b.id and a.answer_ids == b.answer_ids and a.correct == b.correct for a, b in pairs)
    print(f"answers: {equal} of {len(pairs)} equal token for token")
    for source in old[0].confidence:
        both = [(a.confidence[source], b.confidence.get(source)) for a, b in pairs]
        missing = sum((one is None) != (other is None) for one, other in both)
        gaps = [abs(one - other) for one, other in both if one is not None and other is not None]
        print(f"  {source}: largest difference {max(gaps, default=0.0):.2g}, missing on one side alone {missing}")
    return equal == len(pairs)


def main() -> None:
    """Exit code 0 where nothing differs."""
    old, *newer = map(Path, sys.argv[1:])
    scored = read_records(old / "scored.jsonl")
    found = json.loads(json.dumps(evaluate(scored, seed=0)))
    good = [same("results.json", read_json(old / "results.json"), found), same_policy(scored, old / "policy.json")]
    good += [same_answers(scored, read_records(new / "scored.jsonl")) for new in newer]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
