import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from confide.evaluation import evaluate
from confide.records import Record


def records(n=200, seed=0):
    """Half of the questions lost their right option; `stack` tells which."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        kept = i % 2 == 0
        confidence = {"stack": float(rng.random() * (1 if kept else 0.5)), "constant": 0.5}
        correct = bool(kept and rng.random() < 0.7)
        rows.append(Record(id=str(i), has_answer=kept, correct=correct, confidence=confidence))
    return rows


def test_which_answers_must_be_wrong():
    rows = records()
    results = evaluate(rows, resamples=50)
    found = results["rejection"]
    assert (found["n"], found["without_answer"]) == (200, 100)
    entry = found["sources"]["stack"]
    expected = roc_auc_score([r.has_answer for r in rows], [r.confidence["stack"] for r in rows])
    assert entry["auroc"]["value"] == pytest.approx(expected)
    order = sorted(rows, key=lambda r: r.confidence["stack"])
    rejected = order[: len(rows) // 4]
    assert entry["caught"][5] == pytest.approx(sum(not r.has_answer for r in rejected) / 100)
    assert entry["refused"][5] == pytest.approx(sum(r.has_answer for r in rejected) / 100)
    assert entry["caught"][-1] == entry["refused"][-1] == pytest.approx(1)
    shares = np.interp(0.8, entry["caught"], entry["share"])
    assert entry["share_to_catch_80"]["value"] == pytest.approx(shares, abs=0.05)
    assert found["sources"]["constant"]["auroc"]["value"] == 0.5
    assert found["sources"]["constant"]["share_to_catch_80"]["value"] == pytest.approx(0.8)
    assert "stack tells best which of 200 questions" in found["sentence"]


def test_such_questions_count_for_nothing_else():
    results = evaluate(records(), resamples=5)
    assert results["n"] == 100
    assert results["left_out"]["without_answer"] == 100


def test_too_few_or_none():
    rows = records()
    for row in rows[11:]:
        row.has_answer = True
    assert "takes 10" in evaluate(rows, resamples=5)["rejection"]["sentence"]
    for row in rows:
        row.has_answer = True
    assert evaluate(rows, resamples=5)["rejection"] is None
