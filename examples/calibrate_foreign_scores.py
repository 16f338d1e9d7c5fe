"""Turn another system's scores into decisions with a bound on the risk: no model, no torch.

Run:
    python examples/calibrate_foreign_scores.py

Reads a CSV with one row an answer: a score from 0 to 1, and a label that says whether the answer was right. Half of
the rows make a policy, which is written to policy.json; the other half are decided as new answers would be.
Prints the policy in words, how many of the fresh answers it keeps and how many of these are wrong, and what it does
with three scores.
"""

import csv
from pathlib import Path

from confide.policies import MaxRisk, Unmet, calibrate_policy
from confide.records import Record

SCORES = Path(__file__).parent / "data" / "scores.csv"

with SCORES.open(encoding="utf-8", newline="") as file:
    records = [
        Record(id=row["id"], confidence={"given": float(row["score"])}, correct=row["label"] == "1")
        for row in csv.DictReader(file)
    ]
for_calibration, fresh = records[::2], records[1::2]

# Of the answers that are kept, at most 25 % are wrong; the policy says so with probability 0.95.
policy = calibrate_policy(for_calibration, "given", MaxRisk(0.25, level=0.95))
if isinstance(policy, Unmet):
    raise SystemExit(policy.explain("given"))  # says what would help: more rows, or another limit
policy.save(Path("policy.json"))
print(policy.explain())

kept = [record for record in fresh if policy.decide(record.confidence["given"]) == "answer"]
wrong = sum(not record.correct for record in kept)
print(f"\nFresh rows: {len(kept)} of {len(fresh)} kept, {wrong / len(kept):.1%} of these wrong.")

for score in (0.95, 0.6, 0.2):
    print(f"A score of {score}: {policy.decide(score)}, right with probability {policy.probability(score):.2f}.")
