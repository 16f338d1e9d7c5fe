import numpy as np
import pytest

from confide.evaluation import evaluate
from confide.evaluation.record_columns import select
from confide.evaluation.samples import Samples
from confide.metrics.bootstrap import Bootstrap
from confide.records import Record, Sample


def sample(answered, correct, confidence, **extra):
    given = {"stack": confidence} if isinstance(confidence, float) else confidence
    return Sample(answer=answered or "?", answered=answered, correct=correct, confidence=given, **extra)


def record(name, samples, *, correct=True, confidence=0.5):
    return Record(id=name, correct=correct, answer="greedy", samples=samples, confidence={"stack": confidence})


def found(records):
    rows = select(records)
    samples = Samples.of(rows)
    return samples, samples.summary(rows, Bootstrap([r.cluster for r in rows.records], resamples=30))


def by_hand():
    return [
        # Right .9 over wrong .2 and .95: one of two pairs.
        record("a", [sample("x", True, 0.9), sample("y", False, 0.2), sample("z", False, 0.95)]),
        # Right .6 over wrong .3: the one pair.
        record("b", [sample("x", True, 0.6), sample("y", False, 0.3)], correct=False),
        # Only right answers: no pair.
        record("c", [sample("x", True, 0.7), sample("w", True, 0.1)]),
    ]


def test_by_hand():
    _, block = found(by_hand())
    entry = block["sources"]["stack"]
    assert entry["averaged"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert entry["pooled"]["value"] == pytest.approx(2 / 3)
    assert (block["questions"], block["mixed"], entry["mixed"], entry["pairs"]) == (3, 2, 2, 3)


def test_the_greedy_answer_is_listed_apart():
    # a: greedy right .5 over wrong .2 and .95: half; b: greedy wrong .5 under right .6: all. c has no pair.
    _, block = found(by_hand())
    assert block["sources"]["stack"]["greedy"]["value"] == pytest.approx((1 / 2 + 1) / 2)


def test_duplicates_are_merged_and_what_names_nothing_is_left_out():
    rows = by_hand()
    rows[0].samples += [
        sample("y", False, 0.4),  # y again: its confidence is now the mean .3
        sample(None, False, 0.99),
        sample("x", None, 0.0),
    ]
    samples, block = found(rows)
    assert (block["samples"], block["merged"], block["unnamed"], block["ungraded"]) == (10, 1, 1, 1)
    assert block["sources"]["stack"]["pairs"] == 3
    assert 0.3 in samples.confidence["stack"].round(6)


def test_without_a_grader_that_names_answers_their_text_counts():
    rows = by_hand()
    for row in rows:
        for one in row.samples:
            one.answer, one.answered = one.answered, None
    rows[0].samples = [
        Sample(answer="Paris.", correct=True, confidence={"stack": 0.9}),
        Sample(answer=" paris", correct=True, confidence={"stack": 0.5}),
        Sample(answer="Rome", correct=False, confidence={"stack": 0.2}),
        Sample(answer="...", correct=False, confidence={"stack": 0.1}),
    ]
    _, block = found(rows)
    assert (block["merged"], block["unnamed"]) == (1, 1)
    # Paris, .7 on average, over Rome; and the pair of the second question.
    assert block["sources"]["stack"]["pairs"] == 2
    assert block["sources"]["stack"]["pooled"]["value"] == 1


def many(n=200, seed=0):
    """Hard and easy questions; `own` reads the answer, `difficulty` only the question."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        p = rng.random()
        marks = rng.random(6) < p
        samples = [
            sample(f"{mark}{k}", bool(mark), {"own": float(rng.random() + mark), "difficulty": float(p)})
            for k, mark in enumerate(marks)
        ]
        confidence = {"own": float(p), "difficulty": float(p), "logprob_sum": float(rng.random())}
        rows.append(Record(id=str(i), correct=bool(rng.random() < p), samples=samples, confidence=confidence))
    return rows


def test_sensing_hard_questions_scores_half():
    results = evaluate(many(), resamples=100)
    sources = results["within_question"]["sources"]
    assert sources["difficulty"]["averaged"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert results["estimators"]["difficulty"]["auroc"]["value"] > 0.7
    assert sources["own"]["averaged"]["low"] > 0.8
    entry = results["estimators"]["own"]["within_question_auroc"]
    assert entry["value"] == sources["own"]["averaged"]["value"]
    assert entry["questions"] == sources["own"]["mixed"] == results["within_question"]["mixed"]
    assert results["estimators"]["logprob_sum"]["within_question_auroc"] is None


def test_differences_are_paired_over_questions():
    rows = many()
    for row in rows:
        for one in row.samples:
            one.confidence["logprob_sum"] = one.confidence["own"]
    differences = evaluate(rows, resamples=50)["differences"]
    found = next(d for d in differences if d["metric"] == "within_question_auroc" and d["a"] == "own")
    assert found["b"] == "logprob_sum"
    assert found["value"] == found["low"] == found["high"] == 0
    behind = next(d for d in differences if d["metric"] == "within_question_auroc_pooled" and d["a"] == "difficulty")
    assert behind["high"] < 0


def test_a_question_drawn_twice_brings_its_pairs_twice():
    rows = select(many(30))
    samples = Samples.of(rows)
    pairs = samples.pairs("own")
    bootstrap = Bootstrap(range(30), resamples=8)
    averaged, pooled = pairs.sampled(bootstrap, "auroc").values()
    weights = np.concatenate(list(bootstrap.weights(pairs.groups)))
    concordant = pairs.auroc * pairs.pairs
    for draw, w in enumerate(weights, 1):
        assert averaged[draw] == pytest.approx(np.repeat(pairs.auroc, w).mean())
        expected = np.repeat(concordant, w).sum() / np.repeat(pairs.pairs, w).sum()
        assert pooled[draw] == pytest.approx(expected)


def test_nothing_without_confidences_of_samples():
    rows = [record("a", [sample("x", True, {})]), record("b", None, correct=False)]
    assert found(rows)[1] is None
    assert evaluate(rows, resamples=5)["within_question"] is None


def test_merged_log_probabilities_have_the_mean_of_their_probabilities():
    def told(*values):
        return [sample("x", True, {"logprob_sum": v}) for v in values]

    rows = [
        record("a", [*told(np.log(0.2), np.log(0.6)), sample("y", False, {"logprob_sum": -9.0})]),
        record("b", [*told(-2000.0, -2001.0), sample("y", False, {"logprob_sum": -2500.0})], correct=False),
    ]
    samples, _ = found(rows)
    assert samples.confidence["logprob_sum"] == pytest.approx(
        [np.log(0.4), -9.0, -2000 + np.log((1 + np.exp(-1)) / 2), -2500]
    )
