from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import binom

from confide.errors import ConfideError
from confide.metrics.confidence_sequences import lower_sequence, upper_sequence
from confide.policies import Guarantee, Policy, Rule, validate_policy
from confide.policies.anytime_bounds import counted_rows_needed
from confide.policies.calibration_rows import sketch
from confide.policies.calibrators import PlattCalibrator, PlattParameters
from confide.policies.policy_part import NEVER
from confide.policies.profiles import profile_of
from confide.policies.thresholds.binomial_bound import affordable_bad
from confide.policies.validation import Check, Validation
from confide.records import Record


def rows(right: int, wrong: int, low: int = 0, start: int = 0, **more) -> list[Record]:
    """Rows above the threshold of 0.5, right or wrong, then ``low`` rows under it."""
    plan = [(0.9, True)] * right + [(0.9, False)] * wrong + [(0.1, False)] * low
    return [Record(id=f"r{start + i}", confidence={"given": c}, correct=y, **more) for i, (c, y) in enumerate(plan)]


def policy(**more) -> Policy:
    return Policy(
        source="given",
        calibrator=PlattCalibrator(parameters=PlattParameters(transform="logit", slope=1, intercept=0)),
        thresholds={"*": [Rule(below=0.5, decision="escalate")]},
        guarantee=Guarantee(
            max_risk=0.1, level=0.95, method="m", n=500, observed_risk=0.05, upper_bound=0.09, coverage=0.5
        ),
        data_sha256="",
        **more,
    )


def only(found: Validation) -> Check:
    assert list(found.checks) == ["*"]
    return found.checks["*"]


def test_holds_broken_and_undecided():
    # Bounds that hold at all looks: 0 of 36 and 2 of 100 are just below 0.1, 22 of 100 just above.
    for right, wrong, verdict in [
        (36, 0, "holds"), (35, 0, "undecided"), (98, 2, "holds"), (97, 3, "undecided"), (78, 22, "broken"),
        (79, 21, "undecided"),
    ]:  # fmt: skip
        found = validate_policy(policy(), rows(right, wrong, low=10))
        assert found.verdict == verdict, (right, wrong)
        check = only(found)
        assert (check.n, check.kept) == (right + wrong + 10, right + wrong)
        assert check.observed == pytest.approx(wrong / (right + wrong))


def test_rows_that_would_decide():
    found = validate_policy(policy(), rows(38, 2, low=40))  # 5 % wrong, half kept
    assert found.verdict == "undecided"
    kept = counted_rows_needed(0.05, 0.1, 0.95)
    assert kept is not None
    assert only(found).rows_needed == 2 * kept
    assert 100 < kept < 600


def test_no_kept_row_falls_back_on_calibration():
    found = validate_policy(policy(), rows(0, 0, low=30))
    assert (found.verdict, only(found).kept, only(found).observed) == ("undecided", 0, None)
    assert only(found).rows_needed == 2 * counted_rows_needed(0.05, 0.1, 0.95)
    assert "so nothing was observed" in found.explain()
    assert "would decide, if all is as in calibration." in found.explain()


def test_nothing_kept_of_several_rows_an_entity_is_not_said_to_be_close_to_the_limit():
    promise = policy()
    promise = promise.model_copy(
        update={"guarantee": promise.guarantee.model_copy(update={"per": "question", "most_rows": 2})}
    )
    records = [record for i in range(40) for record in rows(0, 0, low=2, start=2 * i, entity=f"e{i}")]
    found = validate_policy(promise, records)
    assert (found.verdict, only(found).kept, only(found).rows_needed) == ("undecided", 0, None)
    assert "so close to the limit" not in found.explain()
    assert "How many rows would decide cannot be told where none is kept." in found.explain()


def test_missing_confidence_escalates_and_missing_labels_are_left_out():
    extra = [
        Record(id="x", confidence={"given": None}, correct=False),
        Record(id="y", confidence={"given": 0.9}),
    ]
    found = validate_policy(policy(), rows(30, 0) + extra)
    assert (only(found).n, only(found).kept, found.left_out) == (31, 30, 1)


def test_rows_of_one_entity_count_once():
    records = [record for i in range(40) for record in rows(3, 0, start=3 * i, entity=f"e{i}")]
    assert only(validate_policy(policy(), records)).n == 40


def test_the_first_row_of_an_entity_counts_and_stays_the_first():
    first = rows(0, 1, entity="e")
    later = [record for i in range(50) for record in rows(1, 0, start=1 + i, entity="e")]
    assert only(validate_policy(policy(), first + later)).observed == 1.0
    assert only(validate_policy(policy(), later + first)).observed == 0.0


def test_looking_again_with_more_rows_until_it_says_yes_spends_the_error_once():
    n = np.arange(50, 1_001, 25)
    wrong = np.random.default_rng(0).random((300, 1_000)) < 0.1  # just what was promised
    bad = np.cumsum(wrong, axis=1)[:, n - 1]
    assert (upper_sequence(n, bad, 0.05) <= 0.1).any(axis=1).mean() <= 0.05
    assert (bad <= affordable_bad(n, 0.1, 0.95)).any(axis=1).mean() > 0.1  # bounds for one look would not do
    # The verdict is that of the sequence.
    wrong = np.random.default_rng(0).random(400) < 0.04
    records = [Record(id=str(i), confidence={"given": 0.9}, correct=not bad) for i, bad in enumerate(wrong.tolist())]
    for n in (50, 200, 400):
        check = only(validate_policy(policy(), records[:n]))
        assert check.upper == pytest.approx(float(upper_sequence(n, int(wrong[:n].sum()), 0.05)))
    assert check.verdict == "holds"


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


def test_power_is_that_of_the_calibrated_risk():
    check = only(validate_policy(policy(), rows(95, 5)))
    # Two wrong of 100 still show 0.1, and calibration saw a risk of 0.05.
    assert check.power == pytest.approx(binom.cdf(2, 100, 0.05))
    assert only(validate_policy(policy(), rows(20, 0))).power == 0.0


# Per question


def uneven(large_wrong: int, entities: int = 400, largest: int = 20) -> list[Record]:
    """One entity in ten has ``largest`` kept rows, ``large_wrong`` of them wrong; the others have one, all right."""
    rows = []
    for entity in range(entities):
        size, wrong = (largest, large_wrong) if entity % 10 == 0 else (1, 0)
        rows += [
            Record(id=f"{entity}-{i}", confidence={"given": 0.9}, correct=i >= wrong, entity=f"e{entity}")
            for i in range(size)
        ]
    random.Random(0).shuffle(rows)  # the first row of an entity is a random one
    return rows


def counted(per: str, **more) -> Policy:
    made = policy()
    return made.model_copy(update={"guarantee": made.guarantee.model_copy(update={"per": per, **more})})


def test_each_promise_is_checked_as_it_was_made():
    # Risk of an entity 0.1 · 7/20 = 0.035, of a question 2 · 0.35 / 2.9 = 0.24.
    fresh = uneven(7)
    assert validate_policy(counted("entity"), fresh).verdict == "holds"
    found = validate_policy(counted("question", entities=400, most_rows=20), fresh)
    assert found.verdict == "broken"
    assert (only(found).n, only(found).entities) == (40 * 20 + 360, 400)
    assert only(found).observed == pytest.approx(280 / 1160)
    assert "Counted per question" in found.explain()
    assert "1160 of 1160 rows of 400 entities kept" in found.explain()
    # The other way round: small ones that end in 2 or 3 are wrong, 0.2 of the entities and 0.2 / 2.9 of the questions.
    fresh = [row.model_copy(update={"correct": str(row.entity)[-1] not in "23"}) for row in uneven(0, entities=4000)]
    assert validate_policy(counted("entity"), fresh).verdict == "broken"
    assert validate_policy(counted("question", entities=400, most_rows=20), fresh).verdict == "holds"


def test_larger_entities_than_the_promise_covers_are_left_out_with_a_warning():
    found = validate_policy(counted("question", entities=400, most_rows=19), uneven(7))
    assert (found.verdict, only(found).n) == ("holds", 360)
    assert "800 rows are about larger entities than the promise covers: they were left out" in found.warnings


def test_rows_without_a_confidence_do_not_make_an_entity_too_large():
    extra = [Record(id=f"x{i}", confidence={"given": None}, correct=False, entity="e0") for i in range(5)]
    found = validate_policy(counted("question", entities=400, most_rows=20), uneven(1) + extra)
    assert not any("larger entities" in warning for warning in found.warnings)


def test_other_goals_are_checked_per_question_too():
    more = {"per": "question", "entities": 400, "most_rows": 20}
    budget = with_guarantee(goal="budget", budget=0.3, observed_share=0.28, **more)
    low = [row.model_copy(update={"confidence": {"given": 0.1}}) for row in uneven(0) if int(row.id.split("-")[1]) > 8]
    fresh = [row for row in uneven(0) if int(row.id.split("-")[1]) <= 8] + low
    # 440 of 1160 questions escalate, of one entity in ten a little more than half: 0.055 of the entities.
    assert only(validate_policy(budget, fresh)).observed == pytest.approx(440 / 1160)
    assert validate_policy(budget, fresh).verdict == "broken"
    alarms = with_guarantee(goal="false_alarms", max_share=0.3, observed_share=0.28, **more)
    fine = [row.model_copy(update={"correct": True}) for row in fresh]
    assert only(validate_policy(alarms, fine)).observed == pytest.approx(440 / 1160)
    assert validate_policy(alarms, fine).verdict == "broken"
    match = with_guarantee(goal="match_expert", margin=0.05, observed_loss=0.01, expert="big", **more)
    expert = [Record(id=row.id, correct=True) for row in uneven(0)]
    assert validate_policy(match, uneven(7), expert).verdict == "broken"
    assert only(validate_policy(match, uneven(7), expert)).observed == pytest.approx(280 / 1160)
    same = [Record(id=row.id, correct=row.correct) for row in uneven(7, 3000)]
    assert validate_policy(match, uneven(7, 3000), same).verdict == "holds"


# Other goals


def with_guarantee(**guarantee) -> Policy:
    data = policy().model_dump(mode="json", by_alias=True)
    shared = {"level": 0.95, "method": "m", "n": 500, "coverage": 0.7, "upper_bound": 0.1}
    return Policy.model_validate(data | {"guarantee": (shared if guarantee["goal"] != "cost" else {}) | guarantee})


def test_budget_needs_no_labels():
    made = with_guarantee(goal="budget", budget=0.3, observed_share=0.28)
    fresh = [Record(id=str(i), confidence={"given": 0.9 if i >= 15 else 0.1}) for i in range(100)]
    found = validate_policy(made, fresh)
    assert (found.verdict, only(found).observed, found.left_out) == ("holds", 0.15, 0)
    fresh = [Record(id=str(i), confidence={"given": 0.9 if i >= 50 else 0.1}) for i in range(100)]
    assert validate_policy(made, fresh).verdict == "broken"
    found = validate_policy(made, fresh[20:])
    assert found.verdict == "undecided"
    assert only(found).rows_needed is not None
    # Rows without a confidence escalate and count.
    assert only(validate_policy(made, [*fresh, *(Record(id=f"m{i}") for i in range(100))])).observed == 0.75


def flagged(fine: int, low: int, caught: int, missed: int) -> list[Record]:
    """Fine rows above and below the threshold of 0.5, then others below and above it."""
    plan = [(0.9, True)] * fine + [(0.1, True)] * low + [(0.1, False)] * caught + [(0.9, False)] * missed
    return [Record(id=f"r{i}", confidence={"given": c}, correct=y) for i, (c, y) in enumerate(plan)]


def test_false_alarms_are_counted_among_fine_rows():
    made = with_guarantee(goal="false_alarms", max_share=0.1, observed_share=0.05)
    for fine, low, verdict in [
        (36, 0, "holds"), (35, 0, "undecided"), (98, 2, "holds"), (97, 3, "undecided"), (78, 22, "broken"),
        (79, 21, "undecided"),
    ]:  # fmt: skip
        found = validate_policy(made, flagged(fine, low, 45, 5))
        assert found.verdict == verdict, (fine, low)
        assert (only(found).n, only(found).kept, only(found).observed) == (fine + low, fine, low / (fine + low))
        assert found.detection is not None
        assert (found.detection.n, found.detection.detected) == (50, 0.9)
        assert found.detection.low < 0.9 < found.detection.high
    assert only(found).rows_needed is not None
    text = found.explain()
    for words in ("share of fine answers not kept is at most 0.1", "79 of 100 independent fine rows kept",
                  "21.0% were not (bounds", "Of 50 rows that are not fine, 90.0% are not kept either"):  # fmt: skip
        assert words in text
    bare = [Record(id=f"u{i}", confidence={"given": 0.1}) for i in range(30)]
    without = validate_policy(made, [*flagged(98, 2, 0, 0), *bare])
    assert (without.verdict, without.left_out, without.detection) == ("holds", 30, None)
    # A fine row without a confidence is a false alarm.
    missing = [Record(id=f"m{i}", confidence={"given": None}, correct=True) for i in range(40)]
    assert validate_policy(made, flagged(98, 2, 0, 0) + missing).verdict == "broken"
    with pytest.raises(ConfideError, match=r"none of the 50 fresh rows is fine \(correct is true\)"):
        validate_policy(made, flagged(0, 0, 45, 5))
    with pytest.raises(ConfideError, match="none of the 30 fresh rows says whether its answer is correct"):
        validate_policy(made, bare)


def matched(losses: int, gains: int, same: int, low: int = 0):
    """Small and expert answers: kept rows of each kind, then ``low`` rows that escalate."""
    plan = [(False, True)] * losses + [(True, False)] * gains + [(True, True)] * same
    small = [Record(id=str(i), confidence={"given": 0.9}, correct=y) for i, (y, _) in enumerate(plan)]
    small += [Record(id=f"l{i}", confidence={"given": 0.1}, correct=False) for i in range(low)]
    expert = [Record(id=str(i), correct=e) for i, (_, e) in enumerate(plan)]
    return small, expert + [Record(id=f"l{i}", correct=True) for i in range(low)]


def test_match_expert_is_judged_by_differences():
    made = with_guarantee(goal="match_expert", margin=0.05, observed_loss=0.02)
    small, expert = matched(10, 8, 300, low=100)
    found = validate_policy(made, small, expert)
    assert (found.verdict, only(found).n, only(found).kept) == ("holds", 418, 318)
    assert only(found).observed == pytest.approx(2 / 418)
    assert validate_policy(made, *matched(80, 5, 300)).verdict == "broken"
    undecided = only(validate_policy(made, *matched(14, 2, 300)))
    assert undecided.verdict == "undecided"
    assert undecided.rows_needed is not None
    assert undecided.rows_needed > 316
    assert undecided.power is not None
    assert 0.1 < undecided.power < 0.5
    with pytest.raises(ConfideError, match="answers to the fresh questions are needed"):
        validate_policy(made, small)


def test_least_cost_promises_nothing():
    made = with_guarantee(
        goal="cost", answer=1, escalate=20, wrong=100, n=10, coverage=1, observed_cost=1, always={"answer": 1}
    )
    with pytest.raises(ConfideError, match="promises nothing"):
        validate_policy(made, rows(50, 1))


def per_domain() -> Policy:
    data = policy().model_dump(mode="json", by_alias=True)
    data["thresholds"] = {
        "a": [{"below": 0.5, "decision": "escalate"}], "b": [{"below": 0.5, "decision": "escalate"}],
        "*": [{"below": NEVER, "decision": "escalate"}],
    }  # fmt: skip
    seen = {"met": True, "n": 250, "observed": 0.05, "upper_bound": 0.09, "coverage": 0.5}
    data["guarantee"]["domains"] = {"a": seen, "b": seen, "*": {"met": False, "n": 40}}
    return Policy.model_validate(data)


def test_a_promise_for_every_domain_is_judged_in_every_domain():
    def fresh(wrong_a: int, wrong_b: int) -> list[Record]:
        return [
            *rows(100 - wrong_a, wrong_a, domain="a"),
            *rows(100 - wrong_b, wrong_b, start=200, domain="b"),
            *rows(10, 10, start=400, domain="elsewhere"),  # never answered there: nothing is promised
        ]

    found = validate_policy(per_domain(), fresh(2, 2))
    assert found.verdict == "holds"
    assert list(found.checks) == ["a", "b"]
    assert validate_policy(per_domain(), fresh(2, 3)).verdict == "undecided"
    assert validate_policy(per_domain(), fresh(2, 25)).verdict == "broken"
    # With two chances to be wrong, 0.975 is asked for in each domain.
    assert found.checks["b"].lower == pytest.approx(float(lower_sequence(100, 2, 0.025)))
    assert found.checks["b"].upper == pytest.approx(float(upper_sequence(100, 2, 0.05)))


def test_an_entity_counts_once_in_every_domain():
    both = [
        row.model_copy(update={"entity": f"e{i}"})
        for domain in ("a", "b")
        for i, row in enumerate(rows(98, 2, start=200 * (domain == "b"), domain=domain))
    ]
    found = validate_policy(per_domain(), both)
    # As in calibration, where every domain draws one of its own rows for each entity.
    assert [check.n for check in found.checks.values()] == [100, 100]
    assert found.verdict == "holds"


def test_rows_unlike_the_calibration_rows_warn():
    before = [Record(id=f"c{i}", confidence={"given": 0.3 + i / 1000}) for i in range(500)]
    made = policy(profile=profile_of(before, "given"))
    found = validate_policy(made, rows(100, 5))
    assert any("confidence: " in warning and "unlike" in warning for warning in found.warnings)
