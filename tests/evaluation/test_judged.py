from collections import Counter

import numpy as np
import pytest

from confide.evaluation import evaluate
from confide.evaluation.agreement import Agreement
from confide.evaluation.figures import METRICS, SHOWN
from confide.evaluation.judged import Judged
from confide.evaluation.record_columns import select
from confide.metrics.bootstrap import Bootstrap
from confide.metrics.calibration_error import Binned
from confide.metrics.ranking import GroupPairs
from confide.metrics.routing import Escalated
from confide.metrics.selective import Answered
from confide.records import Cost, Record, Sample
from confide.sources import FAMILIES


def records(n, sources=("stack", "logprob_sum"), seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        z = rng.normal() * 1.7
        noisy = {s: float(1 / (1 + np.exp(-(z + rng.normal() * k / 2)))) for k, s in enumerate(sources)}
        out.append(
            Record(
                id=str(i),
                entity=f"entity {i // 2}",
                answer_ids=[1, 2],
                answered=f"candidate {i % 7}",
                finish="length" if i % 20 == 0 else "stop",
                consistency=int(rng.integers(0, 11)) / 10,
                samples=[Sample(answer="")] * 10,
                correct=bool(rng.random() < 1 / (1 + np.exp(-z))),
                confidence=noisy,
                cost={"stack": Cost(tokens=4)},
            )
        )
    return out


def agreement(rows, bootstrap):
    return Agreement(rows.consistency, rows.samples, bootstrap)


def repeated(rows, weights):
    """Every record as often as it was drawn, each copy a record of its own."""
    copies = [[row] * count for row, count in zip(rows, weights, strict=True)]
    return [row.model_copy(update={"id": f"{i}"}) for i, row in enumerate(row for same in copies for row in same)]


def test_every_draw_is_an_evaluation_of_the_drawn_rows():
    rows = select(records(120))
    expert = np.random.default_rng(1).random(120) < 0.8
    bootstrap = Bootstrap([r.cluster for r in rows.records], resamples=6, seed=3)
    judged = Judged(rows, "stack", bootstrap, expert.astype(float), agreement(rows, bootstrap))
    weights = np.concatenate(list(bootstrap.weights(np.arange(120))))
    compared = set(judged.sampled) - {"escalated"}
    assert compared >= set(METRICS) - {"within_question_auroc", "within_question_auroc_pooled", "aiq"}
    for draw, w in enumerate(weights, 1):
        again = select(repeated(rows.records, w))
        once = Bootstrap([r.id for r in again.records], resamples=0)
        naive = Judged(again, "stack", once, np.repeat(expert, w).astype(float), agreement(again, once))
        for name in compared:
            assert judged.sampled[name][draw] == pytest.approx(naive.sampled[name][0], abs=1e-9), name
        assert judged.sampled["escalated"][draw] == pytest.approx(naive.sampled["escalated"][0], abs=1e-9)


def test_an_expert_who_answered_some():
    rows = select(records(120))
    expert = np.where(np.arange(120) < 60, 1.0, np.nan)
    bootstrap = Bootstrap(range(120), resamples=4)
    some = Judged(rows, "stack", bootstrap, expert, agreement(rows, bootstrap)).sampled
    half = select(records(120)[:60])
    once = Bootstrap(range(60), resamples=0)
    alone = Judged(half, "stack", once, np.ones(60), agreement(half, once)).sampled
    for name in ("apgr", "cpt_80", "parity_share", "area"):
        assert some[name][0] == pytest.approx(alone[name][0])
    assert some["auroc"][0] != alone["auroc"][0]


def test_the_entry_of_a_source():
    entry = evaluate(records(200), resamples=20)["estimators"]["stack"]
    assert entry["ece"]["binning"] == "width"
    assert entry["ece_mass"]["binning"] == "mass"
    assert entry["ece_mass"]["bins"] == 10
    parts = [entry[f"brier_{name}"]["value"] for name in ("reliability", "resolution", "uncertainty", "within")]
    assert parts[0] - parts[1] + parts[2] + parts[3] == pytest.approx(entry["brier"]["value"])
    assert entry["brier_skill"]["value"] == pytest.approx(1 - entry["brier"]["value"] / parts[2])
    star = entry["cmfg_star"]
    assert 0 <= star["constant"] <= 1
    skill = (star["value"] - star["floor"]["value"]) / (star["ceiling"]["value"] - star["floor"]["value"])
    assert entry["cmfg_star_skill"]["value"] == star["skill"]["value"] == pytest.approx(skill)
    assert star["floor"]["low"] <= star["floor"]["value"] <= star["floor"]["high"] < star["ceiling"]["low"]
    assert star["counting_missing"]["value"] == star["value"]
    assert entry["distinct"] == 200
    assert entry["parity_share"]["margin"] == 0.01
    assert entry["aiq"]["expert_cost"] == 10


def test_reading_costs_tokens_of_an_answer():
    routing = evaluate(records(200), resamples=10, expert_cost=4)["routing"]
    assert routing["expert_cost"] == 4
    assert routing["expert_cost_given"]
    assert routing["sources"]["stack"]["overhead"] == 2  # 4 tokens read beside answers of 2
    assert routing["sources"]["stack"]["cost"][0] == 3
    assert routing["sources"]["stack"]["cost"][-1] == 7
    assert routing["sources"]["logprob_sum"]["overhead"] == 0


def test_metrics_of_a_source_share_their_curves(monkeypatch):
    curves = Counter()

    def counted(curve):
        make = curve.of.__func__

        def of(cls, *args, **kwargs):
            curves[cls.__name__] += 1
            return make(cls, *args, **kwargs)

        return classmethod(of)

    for curve in (Answered, Binned, Escalated, GroupPairs):
        monkeypatch.setattr(curve, "of", counted(curve))
    names = [name for group in ("learned", "asked", "sampled", "free", "prior") for name in FAMILIES[group]][:12]
    rows = select(records(1000, names))
    bootstrap = Bootstrap([r.cluster for r in rows.records], resamples=100, seed=0)
    evaluations = 1 + len(list(bootstrap.weights(np.arange(1000))))
    for name in names:
        Judged(rows, name, bootstrap, np.ones(1000), agreement(rows, bootstrap))
    # Bins of equal width and of equal mass; every other curve is computed once, whatever reads it.
    once = 12 * evaluations
    assert curves == {"Answered": once, "Binned": 2 * once, "Escalated": once, "GroupPairs": once}


def test_tables_show_twelve_metrics_and_results_hold_all():
    entry = evaluate(records(120), resamples=5)["estimators"]["stack"]
    assert len(SHOWN) == 12
    assert set(SHOWN) < set(METRICS) < set(entry)
