"""False alarms: a promise about fine answers alone, and what is detected of the others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from confide.policies import FalseAlarmGuarantee, FalseAlarms, Policy, Unmet, calibrate_policy
from confide.policies.detection import detection_of
from confide.policies.policy_part import NEVER
from confide.records import Record
from given_rows import kept_of, made, records


def test_false_alarms_are_about_fine_rows_alone():
    rows = records(1500)
    fine = [row for row in rows if row.correct]
    extra = [Record(id=f"u{i}", confidence={"given": 0.01}) for i in range(200)]  # no label
    policy = made([*rows, *extra], "given", FalseAlarms(0.05))
    g = policy.guarantee
    assert isinstance(g, FalseAlarmGuarantee)
    assert (g.n, g.method) == (len(fine), "order statistic, binomial tail")
    assert g.observed_share == pytest.approx(1 - len(kept_of(policy, fine)) / len(fine))
    assert 0.03 < g.observed_share < g.upper_bound <= 0.05
    # However many rows are not fine, and whatever they score, the threshold stays.
    others = [Record(id=f"x{i}", confidence={"given": 0.01 * (i % 90)}, correct=False) for i in range(900)]
    for some in (fine, [*rows, *others]):
        assert made(some, "given", FalseAlarms(0.05)).thresholds == policy.thresholds
    assert made(rows, "given", FalseAlarms(0.2)).threshold() > policy.threshold()
    # What is not fine is counted, with an interval, and promised nothing of.
    flawed = [row for row in rows if not row.correct]
    seen = g.detection
    assert seen is not None
    assert (seen.n, seen.detected) == (len(flawed), pytest.approx(1 - len(kept_of(policy, flawed)) / len(flawed)))
    assert (seen.low, seen.high) == pytest.approx(
        (beta.ppf(0.025, k := len(flawed) - len(kept_of(policy, flawed)), seen.n - k + 1),
         beta.ppf(0.975, k + 1, seen.n - k))
    )  # fmt: skip
    assert made(fine, "given", FalseAlarms(0.05)).guarantee.detection is None
    assert Policy.model_validate_json(policy.to_json()) == policy


def test_fine_rows_without_a_confidence_are_false_alarms():
    rows = [row for row in records(1500) if row.correct]
    missing = [Record(id=f"m{i}", correct=True) for i in range(20)]
    cut = [rows[i].model_copy(update={"id": f"c{i}", "finish": "length"}) for i in range(10)]
    policy = made([*rows, *missing, *cut], "given", FalseAlarms(0.05))
    assert policy.guarantee.n == len(rows) + 30
    below = sum(row.confidence["given"] < policy.threshold() for row in rows)
    assert policy.guarantee.observed == pytest.approx((below + 30) / (len(rows) + 30))
    assert policy.guarantee.upper_bound <= 0.05
    unmet = calibrate_policy([*rows, *missing, *cut], "given", FalseAlarms(0.03))
    assert isinstance(unmet, Unmet)
    assert unmet.attainable is not None
    assert unmet.attainable.limit > 0.03
    said = unmet.explain("given")
    for words in ("at most 3.0% of the fine answers not kept", "fine rows have no confidence and escalate"):
        assert words in said


def test_what_is_detected_counts_as_the_promise_does():
    rows = [row.model_copy(update={"entity": f"e{i // 3}"}) for i, row in enumerate(records(3000))]
    entity = made(rows, "given", FalseAlarms(0.1, per="entity")).guarantee
    assert isinstance(entity, FalseAlarmGuarantee)
    assert entity.detection is not None
    assert entity.n == len({row.entity for row in rows if row.correct})
    assert entity.detection.n == len({row.entity for row in rows if not row.correct})


def test_false_alarms_hold_in_small_domains_too():
    rows = [*records(2000, 1, "a", domain="large"), *records(300, 2, "b", domain="small")]
    goal = FalseAlarms(0.05)
    policy = made(rows, "given", goal, per_domain=True)
    assert set(policy.thresholds) == {"large", "*"}
    assert policy.threshold("*") != NEVER
    assert policy.guarantee.n == sum(bool(row.correct) for row in rows)
    for name, seen in policy.guarantee.domains.items():
        fine = [row for row in rows if row.correct and (row.domain == "large") == (name == "large")]
        assert (seen.n, seen.upper_bound <= 0.05) == (len(fine), True)
    missing = [Record(id=f"m{i}", domain="mute", correct=True) for i in range(250)]
    assert isinstance(calibrate_policy([*rows, *missing], "given", goal, per_domain=True), Unmet)
    # Rows count for a domain's own threshold where they are fine; a domain without any is not answered.
    wrong = [row.model_copy(update={"correct": False}) for row in records(2000, 3, "w", domain="poor")]
    alone = made([*records(2000, 1, "a", domain="large"), *wrong], "given", goal, per_domain=True)
    assert set(alone.thresholds) == {"large", "*"}
    assert alone.threshold("poor") == NEVER


def test_the_interval_of_what_is_detected_covers_it_where_rows_share_entities():
    """Three rows of an entity share a score, so a third of them tell as much; the true share detected is 0.6."""
    policy = made([row for row in records(400) if row.correct], "given", FalseAlarms(0.1))
    missed = alone = 0
    for seed in range(300):
        score = np.where(np.random.default_rng(seed).random(100) < 0.6, 0.0, 1.0).repeat(3).tolist()
        rows = [
            Record(id=str(i), entity=f"e{i // 3}", confidence={"given": c}, correct=False) for i, c in enumerate(score)
        ]
        for per in ("question", "entity"):
            seen = detection_of(policy, rows, per, seed)
            assert seen is not None
            missed += not seen.low <= 0.6 <= seen.high
        bare = detection_of(policy, [row.model_copy(update={"entity": None}) for row in rows], "question", seed)
        assert bare is not None
        alone += not bare.low <= 0.6 <= bare.high
    assert missed / 600 <= 0.07
    assert alone / 300 > 0.15


def test_a_cut_answer_is_not_kept_as_when_the_policy_decides():
    policy = made(records(1500), "given", FalseAlarms(0.05))
    rows = [Record(id=f"{i}", confidence={"given": 1.0}, correct=False) for i in range(10)]
    for finish, share in (("stop", 0.0), ("length", 1.0)):
        seen = detection_of(policy, [row.model_copy(update={"finish": finish}) for row in rows], "question", 0)
        assert seen is not None
        assert seen.detected == share
    signal = policy.model_copy(update={"source": "red_flag"})
    cut = [Record(id=f"{i}", confidence={"red_flag": 1.0}, correct=False, finish="length") for i in range(10)]
    seen = detection_of(signal, cut, "question", 0)
    assert seen is not None
    assert seen.detected == 0.0
    assert signal.decided(cut[:1]).confidence.tolist() == [1.0]
    assert np.isnan(policy.decided([rows[0].model_copy(update={"finish": "length"})]).confidence).all()
    assert "probability of being harmless" in signal.explain()
    assert detection_of(policy, [row for row in records(50) if row.correct], "question", 0) is None
