import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from confide.errors import ConfideError
from confide.evaluation import evaluate
from confide.evaluation.record_columns import only
from confide.records import Cost, Message, Record, ScoreColumns
from confide.report.page import render


def records(n=300, seed=0, *, split="test", entities=None):
    """Records whose `stack` is the true probability, with a noisier free source beside it."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        z = rng.normal() * 1.7
        noisy = 1 / (1 + np.exp(-(z + rng.normal() * 2)))
        out.append(
            Record(
                id=f"{split}-{i}",
                domain="ab"[i % 2],
                entity=f"{split} entity {i % entities}" if entities else None,
                split=split,
                messages=[Message(role="user", content=f"{split} question {i}")],
                answer=f"answer {i}",
                answered=f"candidate {i % 7}",
                finish="length" if i % 50 == 0 else "stop",
                correct=bool(rng.random() < 1 / (1 + np.exp(-z))),
                model="tiny",
                confidence={
                    "stack": float(1 / (1 + np.exp(-z))),
                    "logprob_sum": float(noisy),
                    "logprob_mean": float(rng.random()),
                    "answer_length": -float(rng.integers(1, 5)),
                    "answer_only": float(rng.random()),
                    "constant": 0.4,
                    "shuffled": float(rng.random()),
                },
                cost={"stack": Cost(tokens=4, seconds=0.02)},
            )
        )
    return out


@pytest.fixture(scope="module")
def results():
    return evaluate(records(600), resamples=200)


def test_the_schema(results):
    assert results["schema"] == 1
    assert results["n"] == 600
    assert results["cut"] == pytest.approx(0.02)
    assert results["split"] == "test"
    stack = results["estimators"]["stack"]
    for metric in (
        "auroc",
        "auroc_ended",
        "within_answer_auroc",
        "brier",
        "brier_skill",
        "log_loss",
        "ece",
        "aurc",
    ):
        assert stack[metric]["low"] <= stack[metric]["value"] <= stack[metric]["high"] or metric == "ece"
    assert stack["ece"]["bins"] == 10
    assert stack["coverage_at_risk"]["risk"] == 0.1
    assert stack["spearman"] is None
    assert stack["n"] == 600
    assert stack["missing"] == 0
    assert stack["cost"] == {"tokens": 4, "seconds": pytest.approx(0.02)}
    assert results["estimators"]["logprob_sum"]["cost"] is None
    # What is written is read back: no NaN, no numpy types.
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_values_are_those_of_the_rows(results):
    rows = records(600)
    y = [r.correct for r in rows]
    x = [r.confidence["stack"] for r in rows]
    assert results["accuracy"] == pytest.approx(np.mean(y))
    assert results["estimators"]["stack"]["auroc"]["value"] == pytest.approx(roc_auc_score(y, x))
    ended = [i for i, r in enumerate(rows) if r.finish == "stop"]
    expected = roc_auc_score([y[i] for i in ended], [x[i] for i in ended])
    assert results["estimators"]["stack"]["auroc_ended"]["value"] == pytest.approx(expected)


def test_learned_against_best_free_and_priors(results):
    pairs = {(d["a"], d["b"]) for d in results["differences"] if d["metric"] == "auroc"}
    assert pairs == {("stack", "logprob_sum"), ("stack", "answer_only")}
    found = next(d for d in results["differences"] if d["b"] == "logprob_sum")
    stack, free = (results["estimators"][s]["auroc"]["value"] for s in ("stack", "logprob_sum"))
    assert found["value"] == pytest.approx(stack - free)
    assert 0 < found["low"] < found["value"] < found["high"]
    # Paired draws: the interval of the difference is narrower than that of either side.
    auroc = results["estimators"]["logprob_sum"]["auroc"]
    assert found["high"] - found["low"] < auroc["high"] - auroc["low"]


def test_a_source_against_its_copy_differs_by_nothing():
    rows = records()
    for row in rows:
        row.confidence["reader"] = row.confidence["logprob_sum"]
    found = [d for d in evaluate(rows, resamples=50)["differences"] if d["a"] == "reader" and d["b"] == "logprob_sum"]
    assert found
    assert all(d["value"] == d["low"] == d["high"] == 0 for d in found)


def test_verdict_in_words(results):
    verdict = results["verdict"]
    assert (verdict["status"], verdict["source"], verdict["baseline"]) == ("ahead", "stack", "logprob_sum")
    words = " ".join(verdict["sentences"])
    assert "stack ranks right above wrong with AUROC 0." in words
    assert "The best free source, logprob_sum, reaches" in words
    assert "0.8 means" in words
    assert "always right moves accuracy" in words


def test_behind_a_free_source():
    rows = records(600)
    for row in rows:
        row.confidence = {"reader": row.confidence["logprob_sum"], "logprob_sum": row.confidence["stack"]}
    verdict = evaluate(rows, resamples=100)["verdict"]
    assert verdict["status"] == "behind"
    assert "use the free source" in verdict["sentences"][1]


def test_the_same_seed_gives_the_same_results():
    rows = records()
    assert evaluate(rows, resamples=30, seed=5) == evaluate(rows, resamples=30, seed=5)
    assert evaluate(rows, resamples=30, seed=5) != evaluate(rows, resamples=30, seed=6)


def test_only_graded_test_rows_count():
    ungraded = records(10, seed=9)
    for row in ungraded:
        row.id, row.correct = "u" + row.id, None
    rows = records(200) + records(50, split="train") + ungraded
    results = evaluate(rows, resamples=10)
    assert results["n"] == 200
    assert results["left_out"] == {"other_splits": 50, "ungraded": 10, "without_answer": 0}
    assert results["controls"]["ungraded"]["verdict"] == "warning"


def test_foreign_records():
    rng = np.random.default_rng(0)
    rows = [Record(id=str(i), confidence=(p := rng.random()), correct=bool(rng.random() < p)) for i in range(200)]
    results = evaluate(rows, resamples=50)
    assert list(results["estimators"]) == ["given"]
    assert results["split"] is None
    assert results["estimators"]["given"]["within_answer_auroc"] is None
    assert results["verdict"]["status"] == "alone"
    assert results["controls"]["domains"]["verdict"] == "not checked"


def test_missing_values_are_left_out_and_counted():
    rows = records()
    for row in rows[:40]:
        row.confidence["stack"] = None
    for row in rows[40:50]:
        row.confidence["logprob_sum"] = float("nan")
    del rows[60].confidence["answer_only"]
    results = evaluate(rows, resamples=50)
    assert results["estimators"]["stack"]["missing"] == 40
    assert results["estimators"]["stack"]["n"] == 260
    found = {d["b"]: d["n"] for d in results["differences"] if d["metric"] == "auroc"}
    assert found == {"logprob_sum": 250, "answer_only": 259}
    control = results["controls"]["missing"]
    assert control["sources"] == {"stack": 40, "logprob_sum": 10, "answer_only": 1}
    kept = rows[50:]
    pair = [roc_auc_score([r.correct for r in kept], [r.confidence[s] for r in kept]) for s in ("stack", "logprob_sum")]
    value = next(d["value"] for d in results["differences"] if d["b"] == "logprob_sum" and d["metric"] == "auroc")
    assert value == pytest.approx(pair[0] - pair[1])


def test_a_source_without_any_value():
    rows = records()
    for row in rows:
        row.confidence["verifier"] = None
    entry = evaluate(rows, resamples=10)["estimators"]["verifier"]
    assert entry["auroc"] is None
    assert (entry["n"], entry["missing"]) == (0, 300)


def test_values_outside_the_unit_interval_have_a_ranking_only(results):
    entry = results["estimators"]["answer_length"]
    assert entry["brier"] is entry["ece"] is entry["log_loss"] is None
    assert entry["auroc"]["value"] is not None
    control = results["controls"]["outside_unit_interval"]
    assert control["verdict"] == "warning"
    assert control["sources"] == {"answer_length": 600}


def test_consistency_brings_a_rank_correlation():
    rows = records()
    for i, row in enumerate(rows):
        row.consistency = None if i < 5 else row.confidence["stack"] ** 2
    assert evaluate(rows, resamples=20)["estimators"]["stack"]["spearman"]["value"] == pytest.approx(1)


def test_constant_and_shuffled_floors(results):
    assert results["controls"]["constant_sources"] == {
        "verdict": "ok",
        "detail": "0 sources with the same value throughout, floors aside",
        "sources": ["constant"],
    }
    assert results["controls"]["shuffled"]["verdict"] == "ok"
    rows = records()
    for row in rows:
        row.confidence["shuffled"] = row.confidence["stack"]
        row.confidence["reader"] = 0.5
    failed = evaluate(rows, resamples=50)
    assert failed["controls"]["shuffled"]["verdict"] == "failed"
    assert failed["controls"]["constant_sources"]["verdict"] == "warning"
    assert "A control failed" in failed["verdict"]["sentences"][-1]


def test_leaks_between_splits_are_named():
    train, test = records(100, split="train", entities=50), records(200, entities=50)
    clean = evaluate(train + test, resamples=10)["controls"]
    assert clean["split_entities"]["verdict"] == clean["leaked_prompts"]["verdict"] == "ok"
    test[3].entity = train[0].entity
    test[4].messages = train[1].messages
    test[6].messages = test[5].messages
    controls = evaluate(train + test, resamples=10)["controls"]
    assert controls["split_entities"]["verdict"] == "failed"
    assert controls["split_entities"]["examples"] == ["train entity 0"]
    assert controls["leaked_prompts"]["examples"] == ["test-4"]
    assert controls["duplicate_prompts"] == {
        "verdict": "warning",
        "detail": "1 test prompt more than once in the test rows",
        "count": 1,
    }


def test_a_test_row_written_twice_is_named():
    rows = records(200)
    assert evaluate(rows, resamples=10)["controls"]["duplicate_rows"]["verdict"] == "ok"
    rows[7].messages, rows[7].answer = rows[3].messages, rows[3].answer
    found = evaluate(rows, resamples=10)["controls"]["duplicate_rows"]
    assert (found["verdict"], found["count"], found["examples"]) == ("failed", 1, ["test-7"])
    # Cities may share a name: the same question with another reference is another row.
    rows[7].reference = "another country"
    assert evaluate(rows, resamples=10)["controls"]["duplicate_rows"]["verdict"] == "ok"
    # As two fields of an answer may hold the same.
    rows[7].reference, rows[7].part = rows[3].reference, "/city"
    controls = evaluate(rows, resamples=10)["controls"]
    assert controls["duplicate_rows"]["verdict"] == controls["duplicate_prompts"]["verdict"] == "ok"


def test_several_models_and_cut_answers_are_warned_of():
    rows = records(200)
    rows[0].model = "another"
    for row in rows[:50]:
        row.finish = "length"
    controls = evaluate(rows, resamples=10)["controls"]
    assert controls["models"]["models"] == ["another", "tiny"]
    assert controls["models"]["counts"] == {"another": 1, "tiny": 199}
    assert "another (1 rows), tiny (199 rows)" in controls["models"]["detail"]
    assert controls["models"]["verdict"] == controls["cut"]["verdict"] == "warning"


def test_domains(results):
    domains = results["controls"]["domains"]["domains"]
    assert set(domains) == {"a", "b"}
    assert sum(d["n"] for d in domains.values()) == 600
    rows = [r for r in records(600) if r.domain == "a"]
    expected = roc_auc_score([r.correct for r in rows], [r.confidence["stack"] for r in rows])
    assert domains["a"]["auroc"]["stack"] == pytest.approx(expected)
    few = records(200)
    few[0].domain = "rare"
    found = evaluate(few, resamples=10)["controls"]["domains"]
    assert found["verdict"] == "warning"
    assert found["domains"]["rare"]["auroc"]["stack"] is None


def test_too_few_rows_or_entities_refuse_a_verdict():
    few = evaluate(records(60), resamples=20)
    assert few["verdict"]["status"] == "refused"
    assert "60 graded rows are too few" in few["verdict"]["sentences"][0]
    assert few["controls"]["rows"]["verdict"] == "failed"
    assert evaluate(records(60), resamples=20, min_rows=50)["verdict"]["status"] != "refused"
    entities = evaluate(records(200, entities=5), resamples=20)
    assert entities["verdict"]["status"] == "refused"
    assert "5 entities only" in entities["verdict"]["sentences"][0]


def test_routing_to_a_recorded_expert():
    rows = records(200)
    expert = [Record(id=r.id, correct=i % 4 != 0) for i, r in enumerate(rows[:150])]
    routing = evaluate(rows, expert=expert, resamples=10)["routing"]
    assert (routing["expert"], routing["n"], routing["missing"]) == ("records", 150, 50)
    curve = routing["sources"]["stack"]
    assert curve["accuracy"][0] == pytest.approx(np.mean([r.correct for r in rows[:150]]))
    assert curve["accuracy"][-1] == routing["expert_accuracy"] == pytest.approx(112 / 150)
    perfect = evaluate(rows, resamples=10)["routing"]
    assert perfect["expert"] == "perfect"
    assert perfect["sources"]["stack"]["area"] > perfect["sources"]["constant"]["area"]


def test_no_intervals_without_resamples():
    entry = evaluate(records(200), resamples=0)["estimators"]["stack"]
    assert entry["auroc"]["value"] is not None
    assert entry["auroc"]["low"] is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.clear(), "no records"),
        (lambda rows: [setattr(r, "correct", None) for r in rows], "none of the 150 records says whether"),
        (
            lambda rows: [setattr(r, "correct", True) for r in rows],
            "all answers are right .150 right, 0 wrong.",
        ),
        (
            lambda rows: [setattr(r, "correct", False) for r in rows],
            "all answers are wrong .0 right, 150 wrong.",
        ),
        (lambda rows: [setattr(r, "split", "train") for r in rows], "no record is in the split 'test'"),
        (lambda rows: [setattr(r, "confidence", {}) for r in rows], "no record holds a confidence"),
        (
            lambda rows: [setattr(r, "confidence", {"stack": None}) for r in rows],
            "no record holds a confidence",
        ),
    ],
)
def test_bad_input(spoil, message):
    rows = records(150)
    spoil(rows)
    with pytest.raises(ConfideError, match=message):
        evaluate(rows, resamples=10)


def test_an_expert_without_the_same_questions():
    with pytest.raises(ConfideError, match="no graded record of the expert"):
        evaluate(records(150), expert=records(150, split="train"), resamples=10)


def test_progress_names_every_source():
    seen = []
    evaluate(records(150), resamples=5, progress=seen.append)
    assert seen == [
        "stack",
        "logprob_sum",
        "logprob_mean",
        "answer_length",
        "answer_only",
        "constant",
        "shuffled",
    ]


def test_sources_by_name():
    rows = records(150)
    rows[0].confidence["stack@prompt_end"] = rows[0].confidence["stack_swapped"] = 0.1
    kept = only(rows, ["stack", "logprob_sum"])
    assert set(kept[0].confidence) == {"stack", "logprob_sum", "stack@prompt_end", "stack_swapped"}
    assert set(kept[1].confidence) == {"stack", "logprob_sum"}
    assert len(rows[1].confidence) == 7
    with pytest.raises(ConfideError, match="no record has a confidence of the source 'reader'; there are: answer_"):
        only(rows, ["stack", "reader"])


def test_the_probability_among_options_is_a_free_rival_and_no_winner():
    rows = records(300)
    for row in rows:
        row.confidence["option_probability"] = row.confidence["stack"]
    found = evaluate(rows, resamples=20)
    assert found["verdict"]["baseline"] == "option_probability"
    assert found["verdict"]["status"] == "level"
    assert "option_probability" not in {d["a"] for d in found["differences"]}


def test_expert_cost_must_be_positive():
    with pytest.raises(ConfideError, match="more than 0, not -1"):
        evaluate(records(150), expert_cost=-1, resamples=5)


def test_labels_about_a_signal_are_named_and_not_mixed() -> None:
    draw = np.random.default_rng(0)
    rows = [
        Record(
            id=str(i), correct=bool(i % 3), signal="red_flag",
            confidence={"red_flag": float(draw.random() * 0.5 + 0.5 * bool(i % 3))},
        )
        for i in range(120)
    ]  # fmt: skip
    results = evaluate(rows, resamples=20)
    assert results["signal"] == {"name": "red_flag", "fine": "harmless", "flagged": "harmful"}
    page = render(results, rows)
    assert "right means harmless, wrong harmful" in page
    rows[0].signal = ""
    with pytest.raises(ConfideError, match="are about being right and red_flag"):
        evaluate(rows, resamples=20)


def test_without_a_free_source_the_best_stands_against_every_other_one():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(300):
        p = rng.random()
        rows.append(Record(id=str(i), confidence={"noise": rng.random(), "p": p, "q": 1 - p}, correct=rng.random() < p))
    results = evaluate(rows, resamples=50)
    assert {(d["a"], d["b"]) for d in results["differences"]} == {("p", "noise"), ("p", "q")}
    verdict = results["verdict"]
    assert (verdict["status"], verdict["baseline"], verdict["rival"]) == ("ahead", None, "noise")
    assert "No source is free; the next best, noise, reaches" in " ".join(verdict["sentences"])


def test_the_columns_of_the_file_stand_in_the_results():
    columns = ScoreColumns("stack,logprob_sum", id_column="my id")
    found = evaluate(records(), file="s.csv", columns=columns, resamples=5)["records"]
    assert found == {"file": "s.csv", "columns": {"confidence_column": "stack,logprob_sum", "id_column": "my id"}}
    assert evaluate(records(), file="s.csv", resamples=5)["records"] == {"file": "s.csv"}
