"""A policy on the portable confidence of a trained model knows that model again, beside its stack."""

from __future__ import annotations

from pathlib import Path

import confide
from confide.methods.scoring import score
from confide.policies.identities import common_identity, identity_parts, same_model
from confide.records import read_records

SAVED = Path(__file__).parents[1] / "saved"


def test_a_trained_model_says_what_gives_each_of_its_confidences() -> None:
    model = confide.load(SAVED / "reader")
    assert model.portable is not None
    (weights,) = model.answerers
    rows = [row.model_copy(update={"identity": weights}) for row in read_records(SAVED / "reader.jsonl")]
    scored = score(rows, ["stack", "portable"], model=model)
    made = {source: identity_parts(common_identity(scored, source)) for source in ("stack", "portable")}
    ours = identity_parts(model.identity)
    assert made["portable"] == {"weights": ours["weights"], "portable": model.portable.scored_by}
    assert made["stack"] == {"weights": ours["weights"], "confidence": model.scored_by}
    assert ours == made["stack"] | made["portable"]
    assert same_model(common_identity(scored, "portable"), model.identity)
