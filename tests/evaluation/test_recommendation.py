import re
from itertools import pairwise

import numpy as np
import pytest

from confide.evaluation import evaluate
from confide.evaluation.recommendation import recommendation
from confide.records import Record, ScoreColumns

ORDER = (
    *("logprob_mean", "portable", "stack_served", "stack", "self_ref", "p_true", "self_consistency", "verifier"),
    "in_house",
)
"""One source of each cost, from cheap to dear."""


def world(n, noise, *, seed=0, split="validation", of_entity=1):
    """Rows whose sources are the log-odds of a right answer under so much noise each [n]."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n) * 1.7
    right = rng.random(n) < 1 / (1 + np.exp(-z))
    seen = {source: 1 / (1 + np.exp(-(z + rng.normal(size=n) * sd))) for source, sd in noise.items()}
    return [
        Record(
            id=f"{split}-{i}",
            entity=f"entity {i // of_entity}",
            split=split,
            correct=bool(right[i]),
            confidence={source: float(values[i]) for source, values in seen.items()},
        )
        for i in range(n)
    ]


def recommend(rows, *, resamples=300, min_rows=50):
    return recommendation(rows, resamples=resamples, seed=0, min_rows=min_rows)


def test_of_two_that_rank_alike_the_cheaper_is_taken():
    found = recommend(world(1500, {"stack": 0, "portable": 0.15, "logprob_mean": 2}))
    assert (found["source"], found["best"], found["n"]) == ("portable", "stack", 1500)
    loss = found["loss"]
    assert loss["low"] < loss["value"] < loss["high"] < 0.01
    assert loss["value"] > 0
    assert found["reason"].startswith("Take portable: it costs less than stack, the best on 1,500 validation rows")
    assert "--source portable --max-risk" in found["next"]


def test_a_dear_one_that_is_clearly_better_is_taken():
    found = recommend(world(1500, {"stack": 0, "portable": 2, "logprob_mean": 3}))
    assert (found["source"], found["best"]) == ("stack", "stack")
    assert found["loss"] == {"value": 0, "low": 0, "high": 0}
    assert "portable comes nearest" in found["reason"]
    assert "--source stack " in found["next"]


def test_the_cheapest_is_taken_where_it_is_clearly_the_best():
    found = recommend(world(1500, {"stack": 3, "logprob_mean": 0}))
    assert (found["source"], found["best"]) == ("logprob_mean", "logprob_mean")
    assert "none costs less" in found["reason"]


def test_few_rows_tell_nothing_and_how_many_would():
    found = recommend(world(60, {"stack": 0.3, "portable": 0.6}))
    assert (found["source"], found["loss"], found["next"]) == (None, None, None)
    assert found["best"] in ("stack", "portable")
    wanted = re.search(r"60 validation rows are too few .* about ([\d,]+) would do", found["reason"])
    assert wanted is not None
    assert int(wanted[1].replace(",", "")) > 300


def test_as_many_rows_as_it_asks_for_do():
    noise = {"stack": 0, "portable": 1}
    few = recommend(world(150, noise, seed=5))
    assert few["source"] is None
    wanted = int(re.search(r"about ([\d,]+) would", few["reason"])[1].replace(",", ""))
    low, high = map(float, re.search(r"\[(.*), (.*)\]", few["reason"]).groups())
    assert wanted == pytest.approx(150 * ((high - low) / 0.02) ** 2, rel=0.05)
    assert recommend(world(wanted, noise, seed=6))["source"] == "stack"


def test_an_interval_that_passes_the_limit_does_not_qualify():
    """The loss itself lies below the limit: that chance is not enough."""
    found = recommend(world(500, {"stack": 0.3, "portable": 0.5}))
    value = float(re.search(r"portable loses (\S+) ", found["reason"])[1])
    assert 0 < value < 0.01
    assert found["source"] is None


def test_a_narrow_interval_around_the_limit_is_precise_enough():
    found = recommend(world(6000, {"stack": 0, "portable": 0.4}))
    low, high = map(float, re.search(r"portable comes nearest and loses \S+ \[(.*), (.*)\]", found["reason"]).groups())
    assert low < 0.01 <= high < low + 0.02
    assert found["source"] == "stack"


def test_a_dearer_source_that_may_be_better_leaves_the_cheap_best_open():
    """Where the cheapest happens to be ahead on few rows, that is no reason to take it."""
    rows = world(120, {"logprob_mean": 0.3, "stack": 0.6})
    found = recommend(rows)
    assert found["best"] == "logprob_mean"
    assert found["source"] is None
    assert "(stack loses 0.0" in found["reason"]


def test_no_fewer_rows_than_a_verdict_takes():
    rows = world(80, {"portable": 0})
    for row in rows:
        row.confidence["stack"] = row.confidence["portable"]
    assert recommend(rows)["source"] == "portable"
    found = recommend(rows, min_rows=100)
    assert found["source"] is None
    assert found["reason"].endswith("80 validation rows are too few to tell the sources apart; about 100 would do.")


def test_no_fewer_rows_where_the_best_is_dearer():
    rows = world(80, {"stack": 0})
    for row in rows:
        row.confidence["portable"] = row.confidence["stack"]
    # One right row passes one wrong row: better, and hardly so.
    low = min((row for row in rows if row.correct), key=lambda row: row.confidence["stack"])
    passed = (row.confidence["stack"] for row in rows if not row.correct)
    low.confidence["stack"] = min(x for x in passed if x > low.confidence["stack"]) + 1e-9
    found = recommend(rows)
    assert (found["source"], found["best"]) == ("portable", "stack")
    found = recommend(rows, min_rows=100)
    assert (found["source"], found["best"]) == (None, "stack")
    assert found["reason"].endswith("about 100 would do.")


def test_more_draws_than_it_takes_are_not_made():
    rows = world(1500, {"stack": 0, "portable": 0.15})
    assert recommend(rows, resamples=800) == recommend(rows, resamples=500)
    assert recommend(rows, resamples=100) != recommend(rows, resamples=500)


def test_rows_of_one_entity_are_drawn_together():
    """The same few questions over and over are no more evidence than once."""
    once = world(60, {"stack": 0.3, "portable": 0.6})
    copies = [row.model_copy(update={"id": f"{row.id}-{k}"}) for row in once for k in range(60)]
    assert recommend(copies)["source"] is None
    apart = [row.model_copy(update={"entity": row.id}) for row in copies]
    assert recommend(apart)["source"] is not None


@pytest.mark.parametrize(("cheap", "dear"), list(pairwise(ORDER)))
def test_of_equal_columns_the_cheaper_is_named(cheap, dear):
    rows = world(200, {dear: 0.5})
    for row in rows:
        row.confidence[cheap] = row.confidence[dear]
    found = recommend(rows)
    assert (found["source"], found["best"]) == (cheap, cheap)
    assert found["loss"] == {"value": 0, "low": 0, "high": 0}


def test_of_one_cost_the_better_comes_first():
    found = recommend(world(2000, {"logprob_mean": 0.1, "entropy": 0}, seed=1))
    assert (found["source"], found["best"]) == ("entropy", "entropy")


def test_what_is_no_choice_never_competes():
    rows = world(1500, {"portable": 1, "stack": 1.2})
    for row in rows:
        cheats = ("question_only", "answer_only", "constant", "shuffled", "other_stack", "stack_shuffled_labels_1")
        row.confidence |= dict.fromkeys([*cheats, "stack_swapped", "probe@closing", "stack_calibrated"], row.correct)
    found = recommend(rows)
    assert found["best"] == "portable"
    assert "Left out" not in found["reason"]


@pytest.mark.parametrize("absent", [4, 16])
def test_a_source_that_lacks_rows(absent):
    rows = world(1000, {"portable": 0, "stack": 0.1, "logprob_mean": 3})
    for row in rows[:absent]:
        row.confidence["portable"] = None
    found = recommend(rows)
    if absent == 4:
        assert (found["source"], found["n"]) == ("portable", 996)
        assert "Left out" not in found["reason"]
    else:
        assert (found["source"], found["n"]) == ("stack", 1000)
        assert found["reason"].endswith("Left out, missing on more than 1% of these rows: portable.")


def test_a_source_of_the_test_rows_alone_is_left_out_by_name():
    test = world(20, {"verifier": 0, "portable": 0.1}, split="test")
    found = recommend(world(500, {"portable": 0, "logprob_mean": 3}) + test)
    assert (found["source"], found["n"]) == ("portable", 500)
    assert "rows: verifier." in found["reason"]


def test_without_graded_validation_rows_none_is_recommended():
    noise = {"portable": 0, "stack": 1}
    ungraded = [row.model_copy(update={"correct": None}) for row in world(300, noise)]
    for rows in (world(300, noise, split="test"), world(300, noise, split=None), ungraded):
        found = recommend(rows)
        assert (found["source"], found["best"], found["n"]) == (None, None, 0)
        assert "no row of the split 'validation' is graded" in found["reason"]


def test_questions_that_lost_their_right_option_do_not_count():
    rows = world(1000, {"portable": 3, "stack": 0})
    without = [Record.model_validate(row.model_dump() | {"has_answer": False, "id": f"{row.id}-no"}) for row in rows]
    assert recommend(rows + without)["n"] == 1000


@pytest.mark.parametrize("kind", [True, False])
def test_two_entities_of_each_kind_are_needed(kind):
    rows = [row.model_copy(update={"correct": kind}) for row in world(200, {"portable": 0, "stack": 1}, of_entity=2)]
    odd = [row.model_copy(update={"correct": not kind}) for row in rows[:2]]
    word = "wrong" if kind else "right"
    assert f"1 entity of the validation rows has {word} answers" in recommend(odd + rows[2:])["reason"]
    assert f"0 entities of the validation rows have {word} answers" in recommend(rows)["reason"]


def test_few_entities_have_no_intervals():
    found = recommend(world(1900, {"portable": 0, "stack": 3}, of_entity=100))
    assert found["source"] is None
    assert "19 entities only" in found["reason"]


def test_one_source_has_nothing_to_be_compared_with():
    assert "nothing to compare given with" in recommend(world(300, {"given": 0}))["reason"]
    assert "no source to compare" in recommend(world(300, {"constant": 0}))["reason"]


def test_answers_of_two_models_are_not_compared():
    rows = world(1000, {"portable": 3, "stack": 0})
    mixed = [row.model_copy(update={"identity": f"weights={i % 2}{i % 2}"}) for i, row in enumerate(rows)]
    found = recommend(mixed)
    assert found["source"] is None
    assert "different models" in found["reason"]


def test_without_draws_there_is_no_interval():
    found = recommend(world(300, {"portable": 3, "stack": 0}), resamples=0)
    assert (found["source"], found["best"]) == (None, "stack")
    assert "no interval" in found["reason"]


def test_a_name_is_quoted_for_the_shell():
    found = recommend(world(1500, {"portable": 3, "odd name; rm": 0}))
    assert "--source 'odd name; rm' --max-risk" in found["next"]


def test_an_evaluation_recommends_on_validation_rows_alone():
    """The test rows, on which the dear source is no better, have no say."""
    noise, alike = {"portable": 2, "stack": 0}, {"portable": 0, "stack": 0}
    rows = world(1000, noise) + world(300, alike, split="test", seed=1)
    found = evaluate(rows, resamples=100)["recommendation"]
    assert (found["source"], found["n"]) == ("stack", 1000)
    assert found == recommendation(rows, resamples=100, seed=0, min_rows=100)


def test_the_next_command_names_the_columns_of_the_file():
    rows, columns = world(1500, {"stack": 3, "logprob_mean": 0}), ScoreColumns("stack,logprob_mean", id_column="my id")
    found = recommendation(rows, resamples=100, seed=0, min_rows=50, file="my s.csv", columns=columns)
    flags = "--confidence-column stack,logprob_mean --id-column 'my id'"
    assert f"confide calibrate 'my s.csv' {flags} --source logprob_mean --max-risk" in found["next"]
