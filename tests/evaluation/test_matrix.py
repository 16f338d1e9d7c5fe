import json

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.evaluation import evaluate
from confide.evaluation.matrix import guessing
from confide.records import Record


def scored(trained, skill, *, seed=0, n=200, accuracy=0.6, choices=None, extra=None):
    """Test rows of the domains a and b, read with a skill each by what was trained on ``trained``."""
    rows = []
    for domain in skill:
        questions = np.random.default_rng(ord(domain))
        reading = np.random.default_rng(seed)
        for i in range(n):
            right = bool(questions.random() < accuracy)
            free = float(right + questions.normal()) - 20
            rows.append(
                Record(
                    id=f"{domain}{i}",
                    domain=domain,
                    split="test",
                    choices=choices,
                    reference=f"answer {i % 50}",
                    correct=right,
                    confidence={
                        "stack": float(right * skill[domain] + reading.normal()),
                        "logprob_sum": free,
                        "logprob_min": float(questions.random()),
                    },
                    **({"trained_on": trained} | (extra or {})),
                )
            )
    return rows


def cell(found, trained, tested):
    return next(c for c in found["cells"] if (c["trained_on"], c["tested_on"]) == (trained, tested))


@pytest.fixture(scope="module")
def found():
    a, b = scored("a", {"a": 3, "b": 0}), scored("b", {"a": 0.1, "b": 3}, seed=1)
    return evaluate(a, trained={"a": a, "b": b}, resamples=200)["matrix"]


def test_rows_and_columns(found):
    assert (found["rows"], found["columns"], found["source"]) == (["a", "b"], ["a", "b"], "stack")
    assert cell(found, "a", "a")["in_domain"]
    assert not cell(found, "a", "b")["in_domain"]
    assert cell(found, "a", "a")["n"] == 200
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_drop_is_paired_on_the_same_questions(found):
    entry = cell(found, "a", "b")["sources"]["stack"]
    home = cell(found, "b", "b")["sources"]["stack"]
    assert entry["drop"]["paired"]
    assert entry["drop"]["against"] == "trained on b"
    assert entry["drop"]["value"] == pytest.approx(home["auroc"]["value"] - entry["auroc"]["value"])
    assert entry["drop"]["low"] > 0.3
    assert home["drop"] is None


def test_against_the_best_free_source(found):
    at_home, away = cell(found, "a", "a"), cell(found, "a", "b")
    assert at_home["free"] == "logprob_sum"
    assert at_home["sources"]["stack"]["against_free"]["low"] > 0
    assert away["sources"]["stack"]["against_free"]["high"] < 0
    assert away["free_validation"] is None
    assert away["sources"]["stack"]["against_free_validation"] is None
    worse = next(s for s in found["sentences"] if "significantly worse" in s)
    assert "in 2 of 4 measurable cells (a → b; b → a) and significantly better in 2" in worse


def test_the_free_source_may_be_chosen_on_validation():
    rows = scored("a", {"a": 3})
    for row in scored("a", {"a": 3}):
        row.id, row.split = "v" + row.id, "validation"
        row.confidence["logprob_min"] = float(row.correct)
        rows.append(row)
    found = cell(evaluate(rows, resamples=50)["matrix"], "a", "a")
    assert (found["free"], found["free_validation"]) == ("logprob_sum", "logprob_min")
    both = found["sources"]["stack"]
    assert both["against_free_validation"]["value"] > both["against_free"]["value"]


def test_another_training_is_the_fallback_of_the_drop():
    rows = scored("a", {"a": 3, "b": 0})
    found = evaluate(rows, resamples=100)["matrix"]
    drop = cell(found, "a", "b")["sources"]["stack"]["drop"]
    assert not drop["paired"]
    assert drop["against"] == "tested on a"
    values = [cell(found, "a", c)["sources"]["stack"]["auroc"]["value"] for c in "ab"]
    assert drop["value"] == pytest.approx(values[0] - values[1])


def test_several_domains_may_be_trained_on():
    found = evaluate(scored(["a", "b"], {"a": 1, "b": 1, "c": 1}), resamples=20)["matrix"]
    assert found["rows"] == ["a+b"]
    assert [c["in_domain"] for c in found["cells"]] == [True, True, False]


def test_the_training_split_of_the_same_file():
    rows = scored("a", {"a": 1, "b": 1})
    train = scored("a", {"a": 1}, n=20)
    for row in train:
        row.id, row.split = "t" + row.id, "train"
    for row in (both := rows + train):
        del row.__pydantic_extra__["trained_on"]
    found = evaluate(both, resamples=20)["matrix"]
    assert found["rows"] == ["training split"]
    assert [c["in_domain"] for c in found["cells"]] == [True, False]
    assert evaluate(rows, resamples=5)["matrix"] is None


def test_columns_are_tasks_where_there_are_several():
    rows = scored("law", {"a": 1}) + scored("law", {"b": 1})
    for row in rows:
        row.task = "law" if row.domain == "a" else "medicine"
    found = evaluate(rows, resamples=20)["matrix"]
    assert found["columns"] == ["law", "medicine"]
    assert cell(found, "law", "law")["in_domain"]


def test_at_guessing_nothing_can_be_measured():
    rows = scored("a", {"a": 3, "b": 3}, accuracy=0.26, choices=["w", "x", "y", "z"])
    found = evaluate(rows, resamples=100)["matrix"]
    for entry in found["cells"]:
        assert entry["guessing"] == 0.25
        assert not entry["measurable"]
        assert "not significantly above guessing" in entry["reason"]
    assert found["sentences"] == ["Not measurable, so no claim: a → a; a → b."]


def test_few_rows_or_one_kind_cannot_be_measured_either():
    few = evaluate(scored("a", {"a": 3}, n=60), resamples=20)["matrix"]["cells"][0]
    assert "60 rows" in few["reason"]
    rows = scored("a", {"a": 3})
    for row in rows[:195]:
        row.correct = True
    assert "right and" in evaluate(rows, resamples=20)["matrix"]["cells"][0]["reason"]


def test_guessing_by_hand():
    chosen = [Record(id="1", choices=["x", "y"]), Record(id="2", choices=["x", "y", "z", "w"])]
    opened = [Record(id=str(i), reference=["Paris"] if i < 5 else f"r{i}") for i in range(3, 7)]
    assert guessing(chosen) == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert guessing(opened) == pytest.approx(2 / 4)
    assert guessing(chosen + opened) == pytest.approx((3 / 4 + 2) / 6)


def test_a_row_without_test_records():
    rows = scored("a", {"a": 1})
    with pytest.raises(ConfideError, match="what was trained on b"):
        evaluate(rows, trained={"b": [Record(id="x", split="train", correct=True)]}, resamples=5)
