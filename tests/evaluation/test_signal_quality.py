import json

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.evaluation.signal_quality import Answers, signal_quality
from confide.metrics import ranking
from confide.records import Message, Record, Sample


def records(n=120, samples=6, *, strength=0.5, prompt=0.2, seed=0, greedy=False):
    """Rollouts: `f_pred` and `p_true` follow `f_gold` so far, `hardness` is the question's, `noise` nobody's."""
    rng = np.random.default_rng(seed)

    def answer(hardness):
        gold = float(rng.random() < hardness)
        said = {
            "f_pred": strength * gold + rng.normal() * 0.4,
            "p_true": prompt * gold + rng.normal() * 0.4,
            "hardness": hardness,
            "noise": rng.random(),
        }
        return {"answer": f"a{rng.integers(4)}", "confidence": said, "correct": gold > 0.5, "f_gold": gold}

    out = []
    for i in range(n):
        hardness = float(rng.random())
        rolled = [Sample(**answer(hardness)) for _ in range(samples)]
        own = answer(hardness) if greedy else {"answer": "greedy"}
        out.append(Record(id=str(i), entity=f"entity {i // 2}", samples=rolled, **own))
    return out


def verdicts(rows, **options):
    found = signal_quality(rows, resamples=200, **options)["signals"]
    return {name: entry["verdict"] for name, entry in found.items()}


def test_verdicts_in_both_directions():
    assert verdicts(records()) == {
        "f_pred": "worth training on",
        "hardness": "no evidence",
        "noise": "no evidence",
        "p_true": "worth training on",
    }
    assert verdicts(records(strength=-0.5))["f_pred"] == "inverted"
    assert verdicts(records(strength=0.3, prompt=1.0))["f_pred"] == "prompting is better"
    assert verdicts(records(n=80))["f_pred"] == "cannot say"


def test_the_entry_of_a_signal():
    results = signal_quality(records(), resamples=200)
    assert (results["target"], results["n"], results["questions"]) == ("f_gold", 720, 120)
    assert results["left_out"] == {"without_target": 120, "train": 0}
    entry = results["signals"]["f_pred"]
    for found in (
        *(entry["within"][k] for k in ("spearman", "kendall", "kendall_by_pairs")),
        entry["against_prompting"],
    ):
        assert found["low"] < found["value"] < found["high"]
    assert entry["against_prompting"]["baseline"] == "p_true"
    assert entry["pooled"]["spearman"]["value"] > 0.4
    assert "ahead of p_true" in entry["sentence"]
    # Knowing hard questions is seen in the pooled correlation alone.
    hardness = results["signals"]["hardness"]
    assert hardness["pooled"]["spearman"]["low"] > 0.2
    assert hardness["within"]["spearman"]["value"] == 0
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_shuffled_signals_are_no_evidence_as_often_as_promised():
    rows = records(n=240)
    rng = np.random.default_rng(1)
    for sample in (s for row in rows for s in row.samples):
        sample.confidence = {f"random {k}": float(rng.random()) for k in range(300)}
    answers = Answers.of(rows, "f_gold")
    assert len(answers.signals) == 300
    found = verdicts(rows)
    wrong = sum(status != "no evidence" for status in found.values())
    # One in twenty is promised; 300 draws of that stay below 8 % but for one time in a hundred.
    assert 0 < wrong <= 24
    assert {"worth training on", "inverted"} <= set(found.values())


def test_shuffling_within_questions_leaves_no_evidence():
    rng = np.random.default_rng(0)
    worth = 0
    for seed in range(30):
        rows = records(n=160, seed=seed)
        for row in rows:
            said = [s.confidence for s in row.samples]
            for sample, other in zip(row.samples, rng.permutation(len(said)), strict=True):
                sample.confidence = {"f_pred": said[other]["f_pred"]}
        worth += verdicts(rows)["f_pred"] == "worth training on"
    assert worth <= 3


def test_greedy_answers_count_with_the_samples_to_the_same_question():
    with_greedy = signal_quality(records(greedy=True), resamples=5)
    assert with_greedy["n"] == 120 * 7
    assert with_greedy["left_out"]["without_target"] == 0


def test_records_with_the_same_messages_are_one_question():
    asked = [Message(role="user", content="the same")]
    rows = [
        Record(id=f"{q}-{k}", messages=[Message(role="user", content=f"question {q}")], correct=k % 2 == 0,
               confidence={"f_pred": float(k % 2 == 0) + q})
        for q in range(40) for k in range(4)
    ]  # fmt: skip
    found = signal_quality(rows, resamples=20)
    assert (found["target"], found["questions"]) == ("correct", 40)
    assert found["signals"]["f_pred"]["within"]["spearman"]["value"] == pytest.approx(1)
    other = [row.model_copy(update={"messages": asked, "reference": row.id}) for row in rows]
    assert signal_quality(other, resamples=5)["signals"]["f_pred"]["verdict"] == "cannot say"


def test_a_sample_is_compared_with_the_others_only():
    samples = [Sample(answer=a, answered=b) for a, b in (("x", "1"), ("y", "1"), ("z", "2"), ("Z!", None), ("z", None))]
    answers = Answers.of([Record(id="a", consistency=0.4, samples=samples)], "consistency")
    assert answers.target.tolist() == [0.4, 0.25, 0.25, 0, 0.25, 0.25]


def test_samples_of_signs_alone_are_compared_as_written():
    samples = [Sample(answer=answer) for answer in ("👍", "👍", "👎")]
    answers = Answers.of([Record(id="a", consistency=0.5, samples=samples)], "consistency")
    assert answers.target.tolist() == [0.5, 0.5, 0.5, 0]


def test_what_is_made_of_the_samples_is_no_signal_for_their_agreement():
    rows = records()
    for row in rows:
        for sample in row.samples:
            sample.confidence["self_consistency"] = float(len(sample.answer) + np.random.default_rng(0).random())
    assert "self_consistency" not in signal_quality(rows, target="consistency", resamples=5)["signals"]


def test_named_signals_stand_beside_prompting():
    assert set(verdicts(records(), signals=["noise"])) == {"noise", "p_true"}
    assert set(verdicts(records(), signals=["p_true"])) == {"p_true"}


def test_missing_values_are_counted():
    rows = records()
    for row in rows[:10]:
        row.samples[0].confidence["f_pred"] = None
        del row.samples[1].confidence["f_pred"]
    entry = signal_quality(rows, resamples=5)["signals"]["f_pred"]
    assert (entry["n"], entry["missing"]) == (700, 20)


def test_training_rows_are_left_out_where_there_are_others():
    rows = [r.model_copy(update={"split": "train" if i < 60 else "validation"}) for i, r in enumerate(records())]
    found = signal_quality(rows, resamples=5)
    assert (found["questions"], found["left_out"]["train"]) == (60, 60)
    alone = signal_quality(rows[:60], resamples=5)
    assert (alone["questions"], alone["left_out"]["train"]) == (60, 0)


def every(rows, **values):
    for sample in (s for row in rows for s in row.samples):
        for name, value in values.items():
            setattr(sample, name, value)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda rows: rows.clear(), {}, "no records"),
        (lambda rows: every(rows, f_gold=1.0), {}, "f_gold is 1 for every answer"),
        (lambda rows: every(rows, f_gold="high"), {}, "must be a number in .0, 1., not 'high'"),
        (lambda rows: every(rows, f_gold=True), {}, "not True"),
        (lambda rows: every(rows, correct=None), {"target": "correct"}, "no answer carries the target correct"),
        (lambda rows: None, {"target": "wrong"}, "not 'wrong'"),
        (lambda rows: None, {"signals": ["f"]}, "no answer has the signal 'f'; there are: f_pred"),
        (lambda rows: every(rows, confidence={"f_pred": 0.5}), {"signals": ["f_pred"]}, "'f_pred' never changes"),
        (lambda rows: every(rows, confidence={}), {}, "no signal to judge"),
        (lambda rows: rows.__delitem__(slice(1, None)), {}, "a single question"),
    ],
)
def test_bad_input(spoil, options, message):
    rows = records()
    spoil(rows)
    with pytest.raises(ConfideError, match=message):
        signal_quality(rows, resamples=5, **options)


def test_without_resamples_there_is_no_verdict():
    found = signal_quality(records(), resamples=0)["signals"]["f_pred"]
    assert found["verdict"] == "cannot say"
    assert found["within"]["spearman"]["value"] > 0.3


def test_the_work_grows_with_the_answers_to_a_question_and_not_with_questions(monkeypatch):
    rng = np.random.default_rng(0)
    calls = []

    def sums(*args):
        calls.append(args)
        return summed(*args)

    summed = ranking._sums
    monkeypatch.setattr(ranking, "_sums", sums)

    def work(questions, answers):
        rows = []
        for i in range(questions):
            said = [{f"signal {k}": float(rng.random()) for k in range(12)} for _ in range(answers)]
            rolled = [Sample(answer="", correct=k % 2 == 0, confidence=c) for k, c in enumerate(said)]
            rows.append(Record(id=str(i), samples=rolled))
        calls.clear()
        assert len(signal_quality(rows, resamples=10)["signals"]) == 12
        return len(calls)

    assert work(20, 8) == work(1250, 8)
    assert work(20, 8) < 12 * 4 * 8


def test_the_work_of_one_long_list_of_answers_is_not_that_of_its_pairs(monkeypatch):
    rows = []

    def sums(values, *args):
        rows.append(len(values))
        return summed(values, *args)

    summed = ranking._sums
    monkeypatch.setattr(ranking, "_sums", sums)

    def work(answers):
        rng = np.random.default_rng(0)
        rows.clear()
        ranking.GroupCorrelations.of(rng.random(answers), rng.random(answers), np.zeros(answers, dtype=np.int64))
        return sum(rows)

    # n log n: every doubling of the answers adds a step.
    assert work(8_000) / work(1_000) < 8 * 1.5
