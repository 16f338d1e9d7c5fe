import numpy as np
import pytest

from confide.errors import ConfideError
from confide.evaluation import evaluate
from confide.records import Record


def records(n=400, seed=0):
    """`stack` is the truth, `answer_only` and `logprob_sum` two noisy parts of it."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        a, b, c = rng.normal(size=3)
        p = 1 / (1 + np.exp(-(a + b + c)))
        confidence = {
            "stack": float(p),
            "answer_only": float(1 / (1 + np.exp(-a))),
            "logprob_sum": float(1 / (1 + np.exp(-b))),
        }
        out.append(Record(id=str(i), entity=f"e{i // 2}", correct=bool(rng.random() < p), confidence=confidence))
    return out


def controls(rows, resamples=100):
    return evaluate(rows, resamples=resamples)["controls"]


def test_not_checked_without_their_sources():
    found = controls([Record(id=str(i), confidence=i / 100, correct=i % 3 == 0) for i in range(100)], resamples=10)
    for name in ("swapped", "privileged_access", "improves_log_loss", "shuffled_labels"):
        assert found[name]["verdict"] == "not checked"


def test_a_confidence_must_fall_with_the_question_exchanged():
    rows = records()
    for row in rows:
        row.confidence["stack_swapped"] = row.confidence["stack"] * 0.5
        row.confidence["reader"] = row.confidence["stack"]
        row.confidence["reader_swapped"] = row.confidence["stack"]
    found = controls(rows)["swapped"]
    mean = np.mean([row.confidence["stack"] for row in rows])
    assert found["sources"]["stack"]["fall"]["value"] == pytest.approx(mean / 2)
    assert found["sources"]["stack"]["share_falling"]["value"] == 1
    assert found["sources"]["reader"]["fall"]["value"] == 0
    assert found["verdict"] == "failed"
    assert "reader" in found["detail"]
    for row in rows:
        del row.confidence["reader_swapped"]
    results = evaluate(rows, resamples=50)
    assert results["controls"]["swapped"]["verdict"] == "ok"
    assert "stack_swapped" not in results["estimators"]


def test_a_free_source_that_stands_does_not_fail_the_others():
    rows = records()
    for row in rows:
        row.confidence["stack_swapped"] = row.confidence["stack"] * 0.5
        row.confidence["entropy"] = row.confidence["entropy_swapped"] = row.confidence["stack"]
    assert controls(rows)["swapped"]["verdict"] == "ok"


def test_what_is_read_before_the_answer_need_not_fall():
    rows = records()
    for row in rows:
        row.confidence["stack_swapped"] = row.confidence["stack"] * 0.5
        row.confidence["probe@prompt_end"] = row.confidence["probe@prompt_end_swapped"] = row.confidence["stack"]
    found = controls(rows)["swapped"]
    assert found["verdict"] == "ok"
    assert set(found["sources"]) == {"stack"}


def test_as_good_from_another_model_is_no_privileged_access():
    rows = records()
    rng = np.random.default_rng(1)
    for row in rows:
        row.confidence["probe"] = row.confidence["stack"]
        row.confidence["other_probe"] = row.confidence["stack"]
        row.confidence["other_stack"] = float(rng.random())
    results = evaluate(rows, resamples=100)
    found = results["controls"]["privileged_access"]
    assert found["verdict"] == "warning"
    assert "no privileged access" in found["sources"]["probe"]["sentence"]
    assert found["sources"]["probe"]["value"] == 0
    assert "it has privileged access" in found["sources"]["stack"]["sentence"]
    assert found["sources"]["stack"]["low"] > 0
    assert results["estimators"]["other_probe"]["family"] == "control"
    # A control never competes, and the verdict says what it found about the main source.
    assert not any(d["a"].startswith("other_") for d in results["differences"])
    assert found["sources"]["stack"]["sentence"] in results["verdict"]["sentences"]


def test_log_loss_over_what_text_and_tokens_know():
    rows = records(800)
    for row in rows:
        # All that it says follows from the other two.
        row.confidence["reader"] = row.confidence["answer_only"] * 0.8 + 0.1
    found = controls(rows)["improves_log_loss"]
    assert found["verdict"] == "ok"
    assert found["over"] == ["answer_only", "logprob_sum"]
    assert found["sources"]["stack"]["low"] > 0
    assert found["sources"]["reader"]["low"] < 0.005
    assert "stack" in found["detail"]
    assert "reader" not in found["detail"]
    gain = found["sources"]["stack"]["value"]
    for row in rows:
        row.confidence["option_probability"] = row.confidence["stack"]
    found = controls(rows)["improves_log_loss"]
    assert found["over"] == ["answer_only", "logprob_sum", "option_probability"]
    assert found["sources"]["stack"]["value"] < gain / 3  # the options had said as much
    for row in rows:
        del row.confidence["stack"], row.confidence["option_probability"]
    assert controls(rows)["improves_log_loss"]["verdict"] == "warning"


def test_folds_respect_entities():
    # A source that only knows its entity's outcome: with an entity in two folds it would gain.
    rng = np.random.default_rng(0)
    rows = []
    for i in range(200):
        mark = bool(rng.random() < 0.5)
        code = float(rng.random())
        for k in range(3):
            confidence = {"reader": code, "answer_only": float(rng.random()), "logprob_sum": float(rng.random())}
            rows.append(Record(id=f"{i}-{k}", entity=str(i), correct=mark, confidence=confidence))
    found = controls(rows)["improves_log_loss"]["sources"]["reader"]
    assert found["low"] < 0.002


def test_one_fit_to_shuffled_labels_is_one_draw():
    rows = records()
    for row in rows:
        row.confidence["reader_shuffled_labels_0"] = row.confidence["stack"]
        row.confidence["reader_shuffled_labels_0_calibrated"] = row.confidence["stack"]
    found = controls(rows)["shuffled_labels"]
    assert found["verdict"] == "warning"
    assert "reader 0." in found["detail"]
    assert "(1 shuffle)" in found["detail"]
    assert found["sources"]["reader"]["n"] == 1
    rng = np.random.default_rng(2)
    for row in rows:
        row.confidence["reader_shuffled_labels_0"] = float(rng.random())
    assert controls(rows)["shuffled_labels"]["verdict"] == "warning"


def test_training_on_shuffled_labels_gives_chance_over_several_shuffles():
    rows = records()
    rng = np.random.default_rng(2)
    for number in range(6):  # directions of either sign: each ranks, together they do not
        for row in rows:
            row.confidence[f"probe_shuffled_labels_{number}"] = abs(number % 2 - row.confidence["stack"])
    found = controls(rows)["shuffled_labels"]
    assert found["verdict"] == "ok"
    values = found["sources"]["probe"]
    assert values["n"] == 6
    assert values["value"] == pytest.approx(0.5)
    assert values["low"] < 0.4 < 0.6 < values["high"]
    for number in range(6):
        for row in rows:
            leaked = 0.8 * row.confidence["stack"] + 0.2 * float(rng.random())
            row.confidence[f"reader_shuffled_labels_{number}"] = leaked
    results = evaluate(rows, resamples=100)
    found = results["controls"]["shuffled_labels"]
    assert found["verdict"] == "failed"
    assert "reader" in found["detail"]
    assert set(found["sources"]) == {"probe", "reader"}
    assert "A control failed" in results["verdict"]["sentences"][-1]


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
