from itertools import combinations
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from confide.metrics.metric import Weighted
from confide.metrics.routing import Escalated
from confide.report import plots
from confide.report.threshold_counts import Counts

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.random(500)
CORRECT = RNG.random(500) < CONFIDENCE


def found(svg, kind):
    return [e for e in ElementTree.fromstring(str(svg)).iter() if kind in e.get("class", "").split()]


def test_reliability_has_a_dot_a_bar_and_a_count_for_every_bin():
    svg = plots.reliability_diagram(CONFIDENCE, CORRECT, kind="main", name="stack")
    assert len(found(svg, "dot")) == len(found(svg, "bar")) == 10
    first = CONFIDENCE < 0.1
    n, right = int(first.sum()), float(CORRECT[first].mean())
    title = found(svg, "dot")[0].find("title").text
    assert title.startswith(f"confidence 0.0 to 0.1: {n} rows")
    assert f"and {100 * right:.1f}% are right" in title
    assert str(n) in [e.text for e in found(svg, "tick")]
    assert len(found(svg, "band")) == 1
    assert "Reliability diagram of stack" in str(svg)


def test_one_filled_bin():
    svg = plots.reliability_diagram(np.full(5, 0.5), np.array([True, True, False, False, True]), kind="main", name="s")
    assert len(found(svg, "dot")) == 1


def test_histogram_counts_every_answer():
    svg = plots.histogram(CONFIDENCE, CORRECT, name="stack", cut=0.3)
    titles = [e.find("title").text for e in found(svg, "bar") if "right" in e.get("class")]
    right = sum(int(t.split(": ")[1].split(" right")[0].replace(",", "")) for t in titles)
    assert right == CORRECT.sum()
    (cut,) = found(svg, "cut")
    assert cut.get("d").startswith(f"M{46 + 0.3 * 316:.1f} ")


def test_a_histogram_of_one_value_and_of_no_probabilities():
    plots.histogram(np.full(4, 7.0), np.array([True, False, True, False]), name="s", cut=7.0)
    svg = plots.histogram(10 * CONFIDENCE - 20, CORRECT, name="s", cut=-15.0)
    assert sum("wrong" in e.get("class") for e in found(svg, "bar")) > 10


def test_risk_coverage_draws_every_source_and_shows_two():
    sources = {name: Counts.of(RNG.random(500), CORRECT) for name in "abc"}
    svg = plots.risk_coverage_plot(sources, "b", "a")
    kinds = [e.get("class") for e in found(svg, "curve")]
    assert kinds == ["curve other", "curve main", "curve chosen"]
    assert [e.get("data-source") for e in found(svg, "curve")] == ["0", "1", "2"]


def test_risk_coverage_where_all_that_is_kept_is_right():
    Counts.of(np.array([0.2, 0.9]), np.array([False, True]))
    plots.risk_coverage_plot({"a": Counts.of(np.array([0.9]), np.array([True]))}, "a", None)


def test_routing():
    accuracy = Escalated.of(Weighted(CONFIDENCE, CORRECT.astype(float), np.ones((1, 500))), np.ones(500)).accuracy()[0]
    routing = {"accuracy": float(CORRECT.mean()), "expert_accuracy": 1.0}
    routing["sources"] = {"stack": {"share": list(np.linspace(0, 1, 21)), "accuracy": list(accuracy)}}
    svg = plots.routing_plot(routing, ["stack"])
    assert len(found(svg, "main")) == 1
    assert f"{100 * accuracy[4]:.0f}% right when 20% are escalated" in str(svg)


def entry(value, seconds, tokens=0.0):
    auroc = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {"auroc": auroc, "cost": {"seconds": seconds, "tokens": tokens}}


def test_quality_against_cost():
    estimators = {"stack": entry(0.9, 0.004), "p_true": entry(0.55, 0.06), "logprob_sum": entry(0.85, 0.0)}
    estimators |= {"unpriced": entry(0.8, 0.0) | {"cost": None}}
    svg = plots.quality_cost_plot(estimators, "seconds", "stack", "logprob_sum")
    stack, p_true, free = (float(e.get("cx")) for e in found(svg, "dot"))
    assert free < stack < p_true
    assert [e.text for e in found(svg, "name")] == ["stack", "logprob_sum", "p_true"]
    assert plots.quality_cost_plot({"a": estimators["unpriced"]}, "seconds", "a", None) is None
    everything_free = plots.quality_cost_plot({"a": entry(0.8, 0.0)}, "tokens", "a", None)
    assert "free" in [e.text for e in found(everything_free, "tick")]


@given(st.lists(st.floats(0, 300), min_size=1, max_size=15), st.randoms())
def test_names_do_not_overlap(wanted, random):
    wanted = sorted(wanted)
    n = len(wanted)
    meet = [[False] * n for _ in range(n)]
    for i, j in combinations(range(n), 2):
        meet[i][j] = meet[j][i] = random.random() < 0.7
    rows = plots.spread(wanted, meet, low=10, high=290)
    assert min(rows) >= 10
    for i, j in combinations(range(n), 2):
        if meet[i][j]:
            assert rows[j] - rows[i] >= 13 - 1e-9


def test_positions():
    points = [{"position": p, "value": v, "low": None, "high": None, "n": 9} for p, v in (("1", 0.6), ("end", 0.8))]
    missing = [{"position": "end", "value": None, "low": None, "high": None, "n": 0}]
    svg = plots.positions_plot({"logprob_sum": points, "stack": points, "gone": missing}, "stack")
    assert len(found(svg, "dot")) == 4
    assert "stack: 1 0.60, end 0.80" in str(svg)


def test_positions_stand_in_the_order_of_the_answer_whoever_names_them():
    def at(*names):
        return [{"position": name, "value": 0.6, "low": None, "high": None, "n": 9} for name in names]

    free, probe = at("prompt end", "1", "end"), at("prompt_end", "answer_last")
    svg = plots.positions_plot({"logprob_sum": free, "probe": probe}, "probe")
    ticks = [e.text for e in found(svg, "tick") if not e.text.startswith("0.") and e.text != "1.0"]
    assert ticks == ["prompt end", "prompt_end", "1", "answer_last", "end"]


def test_no_bar_of_a_histogram_reaches_its_words():
    """The words "right answers" and "wrong answers" once stood on bars of their own colour."""
    lopsided = np.arange(500) > 20
    for confidence, correct in ((CONFIDENCE, CORRECT), (np.full(500, 0.5), lopsided), (np.full(500, 0.5), ~lopsided)):
        svg = plots.histogram(confidence, correct, name="stack", cut=0.3)
        (above,), (below,) = ([e for e in found(svg, kind) if e.tag.endswith("text")] for kind in ("right", "wrong"))
        bars = found(svg, "bar")
        tops = [float(e.get("y")) for e in bars]
        ends = [float(e.get("y")) + float(e.get("height")) for e in bars]
        assert float(above.get("y")) <= min(tops)
        assert float(below.get("y")) - 9 >= max(ends)
