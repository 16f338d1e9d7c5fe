"""A confidence of your own, judged beside those of the package by the same protocol.

Run:
    confide demo --quick
    python examples/custom_source.py

The source is called `hesitation`: how unsure the model was at its first token and at its least sure one, weighed by a
logistic regression on the train rows. It needs records with log-probabilities and no model.
Prints the AUROC of each source on the test rows with a 95 % interval, and how far the new one is above the best that
costs nothing, on the same rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from confide.evaluation import evaluate
from confide.methods import Column, Method, Scope, add_method, labels, score
from confide.records import Record, read_records

RECORDS = Path("confide-demo") / "records.jsonl"


class Hesitation(Method):
    """How unsure the model was at its first token and at its least sure one."""

    name = "hesitation"
    sources = ("hesitation",)

    def available(self, scope: Scope) -> Sequence[str]:
        """Wherever tokens have log-probabilities and there are graded rows to learn from."""
        return self.sources if scope.has("train") and all(r.logprobs for r in scope.records) else ()

    def fit(self, scope: Scope) -> None:
        """Learn from the train rows; scoring leaves their own confidences out."""
        train = scope.graded("train")
        self.model_ = LogisticRegression().fit(self.features(train), labels(train))

    def read(self, records: Sequence[Record]) -> Mapping[str, Column]:
        """One number in [0, 1] a record."""
        return {"hesitation": Column(self.model_.predict_proba(self.features(records))[:, 1])}

    def features(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """Log-probabilities of the first and the least likely token, shape [n, 2]."""
        return np.array([(record.logprobs[0], min(record.logprobs)) for record in records])


add_method(Hesitation())
scored = score(read_records(RECORDS), ["hesitation", "logprob_sum", "logprob_min"])
results = evaluate(scored)

for source, found in results["estimators"].items():
    auroc = found["auroc"]
    print(f"{source:12} AUROC {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]")
for paired in results["differences"]:
    if paired["metric"] == "auroc":
        interval = f"[{paired['low']:+.3f}, {paired['high']:+.3f}]"
        print(f"{paired['a']} above {paired['b']}: {paired['value']:+.3f} {interval} on {paired['n']} rows")
