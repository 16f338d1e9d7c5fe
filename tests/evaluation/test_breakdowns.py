import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from confide.evaluation import evaluate
from confide.records import Record


def sums(n=300, seed=0):
    """Sums with named errors; carries are told from right answers, digit slips are not."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        kind = ("carry", "digit", None)[i % 3]
        x = float(rng.random() * (0.5 if kind == "carry" else 1))
        confidence = {"stack": x, "question_only": float(rng.random())}
        rows.append(Record(id=str(i), correct=kind is None, error_kind=kind, confidence=confidence))
    return rows


def test_confidence_and_auroc_by_kind():
    rows = sums()
    found = evaluate(rows, resamples=50)["error_kinds"]
    assert found["right"]["n"] == 100
    carry = found["kinds"]["carry"]
    inside = [r for r in rows if r.correct or r.error_kind == "carry"]
    assert carry["n"] == 100
    expected = roc_auc_score([r.correct for r in inside], [r.confidence["stack"] for r in inside])
    assert carry["auroc"]["stack"]["value"] == pytest.approx(expected)
    mean = np.mean([r.confidence["stack"] for r in rows if r.error_kind == "carry"])
    assert carry["confidence"]["stack"]["value"] == pytest.approx(mean)
    assert carry["auroc"]["stack"]["low"] > found["kinds"]["digit"]["auroc"]["stack"]["value"]
    assert set(carry["auroc"]) == {"stack", "question_only"}


def test_rare_kinds_have_no_auroc():
    rows = sums()
    rows[0].error_kind = "sign"
    del rows[1].__pydantic_extra__["error_kind"]
    found = evaluate(rows, resamples=10)["error_kinds"]
    assert found["kinds"]["sign"]["n"] == 1
    assert found["kinds"]["sign"]["auroc"]["stack"] is None
    assert found["unnamed"] == 1


def spelled(n=300, seed=0):
    """Answers of three tokens whose log-probability tells at the second token."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        right = bool(rng.random() < 0.5)
        logs = [-float(rng.random()), -float(rng.random()) - 2 * (not right), -float(rng.random()) / 10]
        confidence = {"probe@prompt_end": float(rng.random()), "probe@turn_end": float(right + rng.random())}
        confidence |= {"probe@3": 0.1 * i, "logprob_sum": float(np.exp(sum(logs)))}
        entropies = [float(rng.random())] * 3
        rows.append(Record(id=str(i), correct=right, logprobs=logs, entropies=entropies, confidence=confidence))
    return rows


def test_when_the_signal_appears():
    rows = spelled()
    results = evaluate(rows, resamples=50)
    series = results["auroc_by_position"]
    assert [point["position"] for point in series["logprob_sum"]] == ["prompt end", "1", "2", "end"]
    start, first, second, end = (point["value"] for point in series["logprob_sum"])
    assert max(start, first) < 0.6 < 0.9 < min(second, end)
    y = [r.correct for r in rows]
    assert second == pytest.approx(roc_auc_score(y, [sum(r.logprobs[:2]) for r in rows]))
    assert end == pytest.approx(results["estimators"]["logprob_sum"]["auroc"]["value"])
    assert start == pytest.approx(roc_auc_score(y, [-r.entropies[0] for r in rows]))
    assert [point["position"] for point in series["probe"]] == ["prompt_end", "3", "turn_end"]
    assert series["probe"][2]["low"] > 0.9
    # What only serves this table is not judged as a source.
    assert set(results["estimators"]) == {"logprob_sum"}


def test_controls_are_no_positions():
    rows = spelled()
    for row in rows:
        row.confidence |= {"probe@3_swapped": 0.3, "probe@3_shuffled_labels_0": 0.3}
    series = evaluate(rows, resamples=5)["auroc_by_position"]
    assert [point["position"] for point in series["probe"]] == ["prompt_end", "3", "turn_end"]


def test_ended_answers_keep_their_sum():
    rows = spelled()
    for row in rows[:150]:
        row.logprobs = row.logprobs[:1]
    second = evaluate(rows, resamples=10)["auroc_by_position"]["logprob_sum"][2]
    assert second["n"] == 300
    assert second["value"] == pytest.approx(
        roc_auc_score([r.correct for r in rows], [sum(r.logprobs[:2]) for r in rows])
    )


def test_nothing_where_records_do_not_say():
    rows = [Record(id=str(i), confidence=i / 100, correct=i % 3 == 0) for i in range(100)]
    results = evaluate(rows, resamples=5)
    assert results["error_kinds"] is None
    assert results["auroc_by_position"] is None


def rejecting(n=200, seed=0):
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
    rows = rejecting()
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
    results = evaluate(rejecting(), resamples=5)
    assert results["n"] == 100
    assert results["left_out"]["without_answer"] == 100


def test_too_few_or_none():
    rows = rejecting()
    for row in rows[11:]:
        row.has_answer = True
    assert "takes 10" in evaluate(rows, resamples=5)["rejection"]["sentence"]
    for row in rows:
        row.has_answer = True
    assert evaluate(rows, resamples=5)["rejection"] is None
