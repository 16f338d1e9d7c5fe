import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.errors import ConfideError
from confide.evaluation import evaluate, judge_faithfulness
from confide.evaluation.agreement import FAITHFUL, Agreement
from confide.metrics import cmfg_star, estimate, mfg
from confide.metrics.bootstrap import Bootstrap
from confide.records import Record, Sample


def drawn(n=400, samples=20, seed=0):
    """Latent rates [n] and indicators of agreement [n, samples]."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, (rng.random((n, samples)) < p[:, None]).astype(float)


def test_knowing_the_rates_has_skill_one_and_a_constant_none():
    p, agrees = drawn()
    found = judge_faithfulness(p, agrees, resamples=100)
    for name in FAITHFUL:
        assert found[name]["skill"]["value"] == pytest.approx(1, abs=0.06)
        assert found[name]["floor"]["low"] <= found[name]["floor"]["value"] <= found[name]["floor"]["high"]
        assert found[name]["ceiling"]["low"] <= found[name]["ceiling"]["value"] <= found[name]["ceiling"]["high"]
    assert found["cmfg_star"]["value"] == pytest.approx(cmfg_star(p, agrees.mean(axis=1)))
    assert found["spearman"]["value"] > 0.9
    constant = judge_faithfulness(np.full(400, found["cmfg_star"]["constant"]), agrees, resamples=20)
    assert constant["cmfg_star"]["skill"]["value"] == pytest.approx(0, abs=1e-9)
    assert constant["distinct"] == 1
    assert constant["spearman"]["value"] is None


def test_the_interval_of_the_skill_covers_the_skill_of_many_rows():
    rng = np.random.default_rng(1)
    p, agrees = drawn(60_000)
    noisy = np.clip(p + rng.normal(0, 0.2, len(p)), 0, 1)
    wanted = judge_faithfulness(noisy, agrees, resamples=0)["cmfg_star"]["skill"]["value"]
    covered = 0
    for start in range(0, 40 * 300, 300):
        part = slice(start, start + 300)
        skill = judge_faithfulness(noisy[part], agrees[part], resamples=200)["cmfg_star"]["skill"]
        covered += skill["low"] <= wanted <= skill["high"]
    assert covered >= 34


def test_rows_of_a_cluster_are_drawn_together():
    p, agrees = drawn(200)
    alone = judge_faithfulness(p, agrees, resamples=200)["mfg"]
    twice = judge_faithfulness(np.tile(p, 2), np.tile(agrees, (2, 1)), [*map(str, range(200))] * 2, resamples=200)[
        "mfg"
    ]
    assert twice["value"] == pytest.approx(alone["value"])
    assert twice["high"] - twice["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.3)


def test_two_models_on_the_same_questions_are_compared_by_pairs():
    p, agrees = drawn(300)
    _, others = drawn(300, seed=1)
    bootstrap = Bootstrap(range(300), resamples=200)
    k = np.full(300, 20.0)
    better = Agreement(agrees.mean(axis=1), k, bootstrap).judge(p).skill("cmfg_star")
    worse = Agreement(others.mean(axis=1), k, bootstrap).judge(p).skill("cmfg_star")
    found = estimate(better - worse)
    assert 0.5 < found["low"] < found["value"] < found["high"]


def test_a_missing_confidence_counts_as_the_worst_number():
    c, agrees = np.array([0.5, np.nan, np.nan, 0.9]), np.zeros((4, 5))
    agrees[1, 0] = agrees[2, :4] = agrees[3] = 1  # g = 0, 0.2, 0.8, 1
    found = judge_faithfulness(c, agrees, resamples=0)
    assert found["mfg"]["value"] == pytest.approx(1 - (0.5 + 0.1) / 2)
    assert found["mfg"]["counting_missing"]["value"] == pytest.approx(1 - (0.5 + 0.8 + 0.8 + 0.1) / 4)
    assert (found["n"], found["missing"], found["agreement"]["n"]) == (2, 2, 4)


numbers = arrays(np.float64, 30, elements=st.floats(0, 1, width=32))
masks = arrays(np.bool_, 30).filter(lambda m: not m.all())


@given(numbers, masks, masks)
def test_leaving_out_answers_never_raises_what_counts_them(c, dropped, more):
    g = np.random.default_rng(0).integers(0, 11, 30) / 10
    agreement = Agreement(g, np.full(30, 10.0), Bootstrap(range(30), resamples=0))
    some = agreement.judge(np.where(dropped, np.nan, c))
    both = dropped | more
    if both.all():
        return
    fewer = agreement.judge(np.where(both, np.nan, c))
    for name in FAITHFUL:
        least, less = (found.counting_missing or found for found in (fewer, some))
        assert least.scores[name][0] <= less.scores[name][0] + 1e-9


def test_without_the_number_of_samples_there_is_no_ceiling_and_no_skill():
    p, agrees = drawn(200)
    g = agrees.mean(axis=1)
    bootstrap = Bootstrap(range(200), resamples=0)
    k = np.full(200, 20.0)
    assert Agreement(g, k, bootstrap).judge(p).skill("cmfg_star") is not None
    k[3] = np.nan
    found = Agreement(g, k, bootstrap).judge(p)
    assert found.skill("cmfg_star") is None
    assert found.beside("cmfg_star")["ceiling"] is found.beside("cmfg_star")["skill"] is None
    few = judge_faithfulness(p, agrees[:, :4], resamples=0)
    assert few["cmfg_star"]["ceiling"] is None
    assert few["cmfg_star"]["floor"]["value"] > 0.5


def test_draws_without_a_row_whose_agreement_is_known_are_left_out():
    g = np.where(np.arange(50) < 2, 0.2, np.nan)
    agreement = Agreement(g, np.full(50, 10.0), Bootstrap(range(50), resamples=100))
    found = agreement.judge(np.full(50, 0.5)).beside("cmfg_star")
    assert found["floor"] == {"value": 1, "low": 1, "high": 1}
    assert found["counting_missing"]["value"] == pytest.approx(0.7)
    assert agreement.summary()["n"] == 2


def test_how_the_agreement_is_spread():
    even = judge_faithfulness(np.full(100, 0.5), np.arange(100)[:, None] / 10 % 1 > np.arange(10) / 10, resamples=20)
    assert even["agreement"]["entropy"]["value"] == pytest.approx(1, abs=0.03)
    assert even["agreement"]["samples"] == {"low": 10, "high": 10}
    sure = judge_faithfulness(np.full(100, 0.5), np.ones((100, 10)), resamples=20)["agreement"]
    assert sure["entropy"]["value"] == sure["spread"]["value"] == 0
    assert sure["mean"]["value"] == 1
    assert sure["distinct"] == 1
    assert sure["cmfg_star"]["floor"]["value"] == 1


def records(n=150, *, samples=True):
    p, agrees = drawn(n, 10)
    rng = np.random.default_rng(2)
    return [
        Record(
            id=str(i),
            correct=bool(rng.random() < p[i]),
            consistency=float(agrees[i].mean()),
            samples=[Sample(answer="") for _ in range(10)] if samples else None,
            confidence={"graded": float(p[i]) if i % 10 else None, "logprob_sum": float(rng.random())},
            **({} if i % 10 else {"parsed": False}),
        )
        for i in range(n)
    ]


def test_in_the_results():
    results = evaluate(records(), resamples=20)
    star = results["estimators"]["graded"]["cmfg_star"]
    assert star["skill"]["value"] == results["estimators"]["graded"]["cmfg_star_skill"]["value"]
    assert star["skill"]["value"] > 0.8
    assert star["counting_missing"]["value"] < star["value"] - 0.03
    assert star["skill_counting_missing"]["value"] < star["skill"]["value"]
    assert results["estimators"]["logprob_sum"]["cmfg_star"]["counting_missing"]["value"] == pytest.approx(
        results["estimators"]["logprob_sum"]["cmfg_star"]["value"]
    )
    block = results["agreement"]
    assert (block["n"], block["unparsed"], block["samples"]) == (150, 15, {"low": 10, "high": 10})
    assert results["estimators"]["graded"]["distinct"] == 135
    bare = evaluate(records(samples=False), resamples=5)
    assert bare["estimators"]["graded"]["cmfg_star_skill"] is None
    assert bare["estimators"]["graded"]["cmfg_star"]["floor"] is not None
    assert bare["agreement"]["samples"] is None


def test_no_agreement_no_block():
    rows = records()
    for row in rows:
        row.consistency = None
    results = evaluate(rows, resamples=5)
    assert results["agreement"] is None
    assert results["estimators"]["graded"]["mfg"] is None


@pytest.mark.parametrize(
    ("c", "agrees", "clusters", "message"),
    [
        ([0.5], np.ones((2, 5)), None, "agreements of shape"),
        ([0.5, 0.5], np.ones((2, 5)), ["a"], "but 1 clusters"),
        ([np.nan], np.ones((1, 5)), None, "no row has both"),
        ([1.5], np.ones((1, 5)), None, "must lie in"),
        ([0.5], np.full((1, 5), 2.0), None, "agreements must lie"),
    ],
)
def test_bad_input(c, agrees, clusters, message):
    with pytest.raises(ConfideError, match=message):
        judge_faithfulness(c, agrees, clusters)


def test_half_agreements_and_absent_samples():
    agrees = np.array([[1, 0.5, 0, np.nan, 1, 1], [0, 0, 0, 0, 0, 1]])
    found = judge_faithfulness([0.7, 1 / 6], agrees, resamples=0)
    assert found["mfg"]["value"] == pytest.approx(mfg([0.7, 1 / 6], [3.5 / 5, 1 / 6]))
    assert found["agreement"]["samples"] == {"low": 5, "high": 6}
