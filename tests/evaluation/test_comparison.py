import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from confide.errors import ConfideError
from confide.evaluation.comparison import better, compare, unpaired
from confide.evaluation.pairs import Pairs
from two_runs import a_run

A, B = a_run(1, sharp=0.6), a_run(2, sharp=1.6, bias=0.15)


@pytest.fixture(scope="module")
def found():
    return compare(Pairs.of(A, B), resamples=200)


def test_values_are_those_of_each_run_on_the_common_rows(found):
    for which, rows in (("a", A), ("b", B)):
        y, p = [r.correct for r in rows], [r.confidence["stack"] for r in rows]
        entry = found["sources"]["stack"]
        assert entry["auroc"][which]["value"] == pytest.approx(roc_auc_score(y, p))
        assert entry["brier"][which]["value"] == pytest.approx(brier_score_loss(y, p))
        assert found["accuracy"][which]["value"] == pytest.approx(np.mean(y))
    assert found["main"] == "stack"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_difference_is_b_minus_a(found):
    for entry in (found["accuracy"], found["sources"]["stack"]["auroc"], found["sources"]["logprob_sum"]["auroc"]):
        assert entry["difference"]["value"] == pytest.approx(entry["b"]["value"] - entry["a"]["value"])
        assert entry["difference"]["low"] <= entry["difference"]["value"] <= entry["difference"]["high"]


def test_the_better_run_is_called_better_and_the_other_way_round_worse(found):
    assert (found["verdict"]["answers"], found["verdict"]["confidence"]) == ("better", "better")
    back = compare(Pairs.of(B, A), resamples=200)
    assert (back["verdict"]["answers"], back["verdict"]["confidence"]) == ("worse", "worse")
    same, other = found["sources"]["stack"]["brier"]["difference"], back["sources"]["stack"]["brier"]["difference"]
    assert same["value"] == pytest.approx(-other["value"])
    assert (better("brier", same), better("brier", other)) == ("better", "worse")


def test_a_run_is_level_with_itself():
    found = compare(Pairs.of(A, A), resamples=50)
    assert (found["verdict"]["answers"], found["verdict"]["confidence"]) == ("level", "level")
    assert found["answers"]["gained"] == found["answers"]["lost"] == found["answers"]["reworded"] == 0
    assert found["accuracy"]["difference"] == {"value": 0, "low": 0, "high": 0}


def test_pairing_narrows_the_interval():
    """The same questions are drawn for both: their luck goes out, as it does not with questions of one's own."""
    found = compare(Pairs.of(A, A[:1] + a_run(1, sharp=0.6, bias=0.02)[1:]), resamples=300)["accuracy"]
    paired = found["difference"]["high"] - found["difference"]["low"]
    alone = np.hypot(*(found[w]["high"] - found[w]["low"] for w in "ab"))
    assert paired < 0.7 * alone


def test_few_rows_and_few_entities_refuse_a_verdict_but_not_the_numbers():
    for rows in (a_run(1, n=30), a_run(1, n=200, entity="France")):
        found = compare(Pairs.of(rows, rows), resamples=20)
        assert found["verdict"]["answers"] is None
        assert "too few for a verdict" in found["verdict"]["sentences"][0]
        assert found["sources"]["stack"]["auroc"]["a"]["value"] is not None


def test_a_source_counts_where_both_have_it_and_is_named_where_one_has_it_alone():
    b = [r.model_copy(update={"confidence": r.confidence | {"stack": None}}) for r in B[:200]] + B[200:]
    b = [r.model_copy(update={"confidence": r.confidence | {"reader": 0.5}}) for r in b]
    found = compare(Pairs.of(A, b), resamples=20)
    assert found["sources"]["stack"]["n"] == 100
    assert "reader" not in found["sources"]
    assert "Only B has the source reader." in unpaired(found)


def test_without_a_common_source_answers_are_compared():
    bare = [r.model_copy(update={"confidence": {}}) for r in B]
    found = compare(Pairs.of(A, bare), resamples=20)
    assert found["sources"] == {}
    assert found["verdict"]["confidence"] is None
    assert "only the answers can be compared" in found["verdict"]["sentences"][-1]


def test_what_is_no_probability_has_no_brier_score():
    wild = [r.model_copy(update={"confidence": {"stack": 3.0 * i}}) for i, r in enumerate(B)]
    entry = compare(Pairs.of(A, wild), resamples=20)["sources"]["stack"]
    assert entry["brier"] is entry["ece"] is None
    assert entry["auroc"]["difference"]["value"] is not None


@pytest.mark.parametrize("risk", [0.0, 1.0, -0.2])
def test_a_risk_lies_between_0_and_1(risk):
    with pytest.raises(ConfideError, match="between 0 and 1"):
        compare(Pairs.of(A, B), max_risk=risk)


def under(rows, **names):
    """The rows with sources of other names."""
    return [r.model_copy(update={"confidence": {new: r.confidence[old] for new, old in names.items()}}) for r in rows]


def test_a_single_source_of_each_is_compared_under_both_names():
    found = compare(Pairs.of(under(A, old="stack"), under(B, new="stack")), resamples=20)
    same = compare(Pairs.of(under(A, stack="stack"), under(B, stack="stack")), resamples=20)
    assert found["main"] == "old / new"
    assert found["sources"]["old / new"]["auroc"] == same["sources"]["stack"]["auroc"]
    assert found["only_sources"] == {"a": [], "b": []}


def test_without_a_common_source_it_says_which_each_has_and_what_to_do():
    a, b = under(A, x="stack", y="logprob_sum"), under(B, z="stack")
    (said,) = [s for s in compare(Pairs.of(a, b), resamples=20)["verdict"]["sentences"] if "No source" in s]
    assert "A has x, y, B has z; to compare one of each, name both, as in --source x,z." in said
    gaps = [r.model_copy(update={"confidence": {"stack": None}}) for r in B]
    assert "no common row has a value" in " ".join(compare(Pairs.of(A, gaps), resamples=20)["verdict"]["sentences"])
