import numpy as np
import pytest

from confide.errors import ConfideError
from confide.evaluation import evaluate
from confide.records import Record


def models(n=200, seed=0):
    """The current model's records and the original's; `stack` follows the current one, `reader` the original."""
    rng = np.random.default_rng(seed)
    current, original = [], []
    for i in range(n):
        before, now = (bool(rng.random() < 0.5) for _ in range(2))
        confidence = {
            "stack": float(np.clip(0.3 * rng.normal() + now, 0, 1)),
            "reader": float(np.clip(0.3 * rng.normal() + before, 0, 1)),
            "logprob_sum": float(rng.random()),
        }
        current.append(Record(id=str(i), correct=now, confidence=confidence))
        original.append(Record(id=str(i), correct=before))
    return current, original


def test_whom_the_confidence_follows():
    current, original = models()
    found = evaluate(current, original=original, resamples=100)["coupling"]
    differ = [(c, o) for c, o in zip(current, original, strict=True) if c.correct != o.correct]
    assert (found["n"], found["differ"]) == (200, len(differ))
    stack, reader = found["sources"]["stack"], found["sources"]["reader"]
    assert stack["auroc"]["difference"]["low"] > 0.5
    assert reader["auroc"]["difference"]["high"] < -0.5
    assert stack["auroc"]["current"]["value"] + stack["auroc"]["original"]["value"] == pytest.approx(1)
    c = np.array([row.confidence["stack"] for row, _ in differ])
    now = np.array([row.correct for row, _ in differ])
    expected = np.mean((c - ~now) ** 2) - np.mean((c - now) ** 2)
    assert stack["brier"]["difference"]["value"] == pytest.approx(expected)
    assert "the current model: stack" in found["sentence"]
    assert "the original one: reader" in found["sentence"]
    assert "neither: logprob_sum" in found["sentence"]


def test_an_untouched_model_shows_nothing():
    current, _ = models()
    found = evaluate(current, original=current, resamples=10)["coupling"]
    assert found["sources"] == {}
    assert "nothing can be compared" in found["sentence"]
    changed = [row.model_copy(update={"correct": not row.correct}) for row in current[:5]]
    few = evaluate(current, original=changed + current[5:], resamples=10)["coupling"]
    assert "differ on 5 questions; a comparison takes 20" in few["sentence"]


def test_without_shared_questions():
    current, _ = models()
    with pytest.raises(ConfideError, match="no graded record of the original model"):
        evaluate(current, original=[Record(id="other", correct=True)], resamples=5)
    assert evaluate(current, resamples=5)["coupling"] is None
