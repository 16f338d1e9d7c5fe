from __future__ import annotations

import pytest
from scipy.stats import binom

from confide.errors import ConfideError
from confide.policies import Guarantee, Policy, Rule, validate_policy
from confide.policies.calibrators import PlattParameters, PlattState
from confide.policies.rows import (
    data_sha256,
    fingerprint,
    in_split,
    labelled_rows,
    models_of,
    pick_source,
    seen_again,
    sketch,
)
from confide.policies.validation import kept_rows_that_decide
from confide.records import Record


def rows(right: int, wrong: int, low: int = 0, start: int = 0, **more) -> list[Record]:
    """Rows above the threshold of 0.5, right or wrong, then ``low`` rows under it."""
    plan = [(0.9, True)] * right + [(0.9, False)] * wrong + [(0.1, False)] * low
    return [Record(id=f"r{start + i}", confidence={"given": c}, correct=y, **more) for i, (c, y) in enumerate(plan)]


def policy(**more) -> Policy:
    return Policy(
        source="given",
        calibrator=PlattState(parameters=PlattParameters(transform="logit", slope=1, intercept=0)),
        thresholds={"*": [Rule(below=0.5, decision="escalate")]},
        guarantee=Guarantee(
            max_risk=0.1, level=0.95, method="m", n=500, observed_risk=0.05, upper_bound=0.09, coverage=0.5
        ),
        data_sha256="",
        **more,
    )


def test_holds_broken_and_undecided():
    # 5 % one-sided bounds: 0 of 29 is below 0.0982; 4 of 100 below 0.0892; 17 of 100 above 0.1110.
    for right, wrong, verdict, code in [
        (29, 0, "holds", 0), (28, 0, "undecided", 3), (96, 4, "holds", 0), (95, 5, "undecided", 3),
        (83, 17, "broken", 1), (86, 14, "undecided", 3),
    ]:  # fmt: skip
        found = validate_policy(policy(), rows(right, wrong, low=10))
        assert (found.verdict, found.exit_code) == (verdict, code), (right, wrong)
        assert (found.n, found.kept, found.wrong) == (right + wrong + 10, right + wrong, wrong)


def test_rows_that_would_decide():
    found = validate_policy(policy(), rows(38, 2, low=40))  # 5 % wrong, half kept
    assert found.verdict == "undecided"
    kept = kept_rows_that_decide(0.05, 0.1, 0.95)
    assert kept is not None
    assert found.rows_needed == 2 * kept
    assert 100 < kept < 400
    # With that many rows the promise is shown with probability 0.8, by the definition of power.
    most = max(k for k in range(kept) if binom.cdf(k, kept, 0.1) <= 0.05)
    assert binom.cdf(most, kept, 0.05) >= 0.8
    assert kept_rows_that_decide(0.1, 0.1, 0.95) is None
    assert kept_rows_that_decide(0.2, 0.1, 0.95) < kept_rows_that_decide(0.12, 0.1, 0.95)


def test_no_kept_row_falls_back_on_calibration():
    found = validate_policy(policy(), rows(0, 0, low=30))
    assert (found.verdict, found.kept, found.observed_risk) == ("undecided", 0, None)
    assert found.rows_needed == 2 * kept_rows_that_decide(0.05, 0.1, 0.95)


def test_missing_confidence_escalates_and_missing_labels_are_left_out():
    extra = [
        Record(id="x", confidence={"given": None}, correct=False),
        Record(id="y", confidence={"given": 0.9}),
    ]
    found = validate_policy(policy(), rows(30, 0) + extra)
    assert (found.n, found.kept, found.left_out) == (31, 30, 1)


def test_rows_of_one_entity_count_once():
    records = [record for i in range(40) for record in rows(3, 0, start=3 * i, entity=f"e{i}")]
    assert validate_policy(policy(), records).n == 40


def test_warnings_for_stale_rows_and_another_model():
    used = rows(30, 5, model="small")
    made = policy(rows_seen=sketch(used, "given"), model="small")
    stale = validate_policy(made, used[:10] + rows(30, 0, start=100, model="small"))
    assert stale.warnings == ["10 of the 40 rows were used in calibration: they are not fresh"]
    other = validate_policy(made, rows(30, 0, start=100, model="big"))
    assert other.warnings == ["the policy was made for small, these rows were answered by big"]


def test_no_labels_or_no_source_is_an_error():
    with pytest.raises(ConfideError, match="none of the 2 fresh rows"):
        validate_policy(policy(), [Record(id="a", confidence={"given": 1.0}), Record(id="b")])
    with pytest.raises(ConfideError, match="no fresh row has a confidence from given; there are: reader"):
        validate_policy(policy(), [Record(id="a", confidence={"reader": 1.0}, correct=True)])


# The rows behind it


def test_splits():
    plain = [Record(id="a"), Record(id="b")]
    assert in_split(plain, "test") == plain
    mixed = [Record(id="a", split="test"), Record(id="b", split="train"), Record(id="c")]
    assert [r.id for r in in_split(mixed, "test")] == ["a"]
    with pytest.raises(ConfideError, match=r"no row belongs to the calibration split; .*test \(1\)"):
        in_split(mixed, "calibration")


def test_source():
    given = [Record(id="a", confidence={"given": 0.5})]
    both = [Record(id="a", confidence={"given": 0.5, "reader": 0.1})]
    assert pick_source(given, "stack") == "given"
    assert pick_source(both, "reader") == "reader"
    with pytest.raises(ConfideError, match="from stack; there are: given, reader"):
        pick_source(both, "stack")
    with pytest.raises(ConfideError, match="from reader; there are: given"):
        pick_source(given, "reader")
    with pytest.raises(ConfideError, match="no row has a confidence"):
        pick_source([Record(id="a")], "stack")


def test_left_out_rows_are_counted():
    records = [
        *rows(2, 1),
        Record(id="n", confidence={"given": None}, correct=True),
        Record(id="o", confidence={"given": float("nan")}, correct=True),
        Record(id="p", confidence={"given": 0.4}),
        Record(id="q", correct=False),
    ]
    chosen = labelled_rows(records, "given")
    assert chosen.confidence.tolist() == [0.9] * 3
    assert chosen.correct.tolist() == [True, True, False]
    assert (chosen.without_confidence, chosen.without_label) == (3, 1)
    assert chosen.clusters == ["r0", "r1", "r2"]


def test_data_hash_ignores_order_and_sees_labels():
    one = labelled_rows(rows(5, 5), "given")
    assert data_sha256(one) == data_sha256(labelled_rows(rows(5, 5)[::-1], "given"))
    assert data_sha256(one) != data_sha256(labelled_rows(rows(6, 4), "given"))


def test_fingerprints_do_not_confuse_files_that_number_their_rows():
    asked = {"messages": [{"role": "user", "content": "Where is Rome?"}]}
    first = Record(id="1", confidence={"given": 0.5}, correct=True)
    assert fingerprint(first, "given") != fingerprint(Record(id="1", confidence={"given": 0.6}, correct=True), "given")
    scored_again = Record(id="1", confidence={"given": 0.7}, **asked)
    assert fingerprint(Record(id="1", confidence={"given": 0.5}, **asked), "given") == fingerprint(
        scored_again, "given"
    )


def test_sketch_stays_small_and_still_sees_overlap():
    many = rows(3000, 0)
    stored = sketch(many, "given")
    assert len(stored) == 512 * 10
    again, complete = seen_again(stored, many[:300], "given")
    assert again > 0
    assert not complete
    assert seen_again(stored, rows(300, 0, start=10_000), "given")[0] == 0
    assert seen_again("", many, "given") == (0, True)


def test_models():
    assert models_of([Record(id="a", model="b"), Record(id="c", model="a"), Record(id="d")]) == "a, b"
