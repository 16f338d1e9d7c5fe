"""What the demo says at its end: how good its confidences are, and what its policy promises, in a newcomer's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SHOWN = {
    "stack": "with the model opened (stack)",
    "portable": "without opening it (portable)",
    "logprob_sum": "by the answer's own probability (logprob_sum)",
}
"""The confidences that the summary compares, in words."""

_VERDICTS = {
    "holds": "the promise holds",
    "broken": "the promise is broken",
    "undecided": "too few to tell whether the promise holds",
}


def how_good(results: Path) -> str:
    """How often each confidence puts a right answer above a wrong one, from ``results.json``."""
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    told = [f"{_share(found['estimators'][name]['auroc'])} {words}" for name, words in SHOWN.items()]
    return (
        f"of pairs of a right and a wrong answer, the right one has more confidence in {', '.join(told)}; by "
        f"chance in 50% ({found['n']} answers that were not learned from, {found['accuracy']:.0%} right)."
    )


def what_is_promised(path: Path, scored: Path, seed: int = 0) -> str:
    """The promise of a policy of largest risk, or of a budget, and what the rows of the test split show of it.

    Args:
        path: the policy.
        scored: the records.
        seed: that of `confide validate`, so that both say the same.
    """
    from confide.policies.calibration_rows import in_split
    from confide.policies.guarantees import BudgetGuarantee, Guarantee
    from confide.policies.policy import Policy
    from confide.policies.validation import validate_policy
    from confide.records import read_records

    policy = Policy.load(path)
    promise = policy.guarantee
    (check,) = validate_policy(policy, in_split(read_records(scored), "test"), seed=seed).checks.values()
    fresh = ""
    if check.observed is not None:
        seen = f"{check.observed:.0%} [{check.lower:.0%}, {check.upper:.0%}]"
        seen = f"{seen} were handed on" if isinstance(promise, BudgetGuarantee) else f"it kept, {seen} were wrong"
        fresh = f" Of fresh answers {seen}: {_VERDICTS[check.verdict]}."
    if isinstance(promise, BudgetGuarantee):
        return (
            f"it hands on at most {promise.budget:.0%} of such questions, with {promise.level:.0%} certainty, and "
            f"answers those of which it is surest; how many of these answers are wrong is not promised.{fresh}"
        )
    assert isinstance(promise, Guarantee)
    return (
        f"it answers {promise.coverage:.0%} of such questions itself and hands on the rest; at most "
        f"{promise.max_risk:.0%} of its own answers are wrong, with {promise.level:.0%} certainty.{fresh}"
    )


def _share(entry: dict[str, float]) -> str:
    return f"{entry['value']:.0%} [{entry['low']:.0%}, {entry['high']:.0%}]"
