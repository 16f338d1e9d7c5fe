"""Audit rows and the calibration records made from them, on SQLite and on a real PostgreSQL."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.policies.thresholds.fallback_testing import BoundedThreshold
from confide.policies.thresholds.risk_threshold import bounded_risk_threshold
from confide.records import Record
from confide.serving.store.audits import AuditRow, audit_rows, calibration_records, equal_chance
from confide.serving.store.store import Store
from decision_rows import decision
from stores import using


def test_feedback_about_what_was_served_is_about_the_small_answer_only_if_that_was_served(url: str) -> None:
    async def body(store: Store) -> list[bool | None]:
        for number, served in enumerate(["small", "unverified", "expert"]):
            row = decision(created=float(number), served=served, audit=True, audit_probability=1.0, agreed=True)
            await store.add(row)
            await store.feedback(row.id, False)
        return [audit.correct for audit in await store.run(audit_rows)]

    assert using(url, body) == [False, False, True]


def test_the_word_of_whoever_asked_counts_only_where_no_expert_labelled(url: str) -> None:
    said: list[tuple[bool | None, list[tuple[str | None, bool, bool]], bool | None]] = [
        (False, [("app", True, False)], False), (False, [("app", True, True)], False),
        (True, [("app", False, False)], True), (True, [("app", False, True)], True),
        (True, [("app", True, False)], True),
        (None, [("app", True, False)], None), (None, [("app", True, True)], True),
        (None, [("app", False, False)], False),
        (False, [("app", True, False), ("review", True, True)], True), (False, [(None, True, True)], True),
        (False, [("review", True, True), ("app", False, False)], True),
        (None, [("review", False, True), ("app", True, False)], False),
    ]  # fmt: skip

    async def body(store: Store) -> list[bool | None]:
        for number, (agreed, words, _) in enumerate(said):
            row = decision(created=float(number), audit=True, audit_probability=1.0, agreed=agreed, key="app")
            await store.add(row)
            for author, correct, trusted in words:
                await store.feedback(row.id, correct, "small", author=author, trusted=trusted)
        nobody = decision(created=99.0, audit=True, audit_probability=1.0, agreed=True)  # of a router without keys
        await store.add(nobody)
        await store.feedback(nobody.id, False)
        return [audit.correct for audit in await store.run(audit_rows)]

    assert using(url, body) == [*(label for *_, label in said), False]


def test_a_complaint_counts_until_the_expert_has_labelled(url: str) -> None:
    async def body(store: Store) -> list[bool | None]:
        row = decision(audit=True, audit_probability=1.0, key="app")
        await store.add(row)
        await store.feedback(row.id, False, author="app")
        before = await store.run(audit_rows)
        await store.audited(row.id, True, None, 0.0, None)
        return [audit.correct for audit in [*before, *await store.run(audit_rows)]]

    assert using(url, body) == [False, True]


def test_calibration_records(url: str) -> None:
    async def body(store: Store) -> None:
        with pytest.raises(ConfideError, match="no audit row with a label"):
            store.calibration_records()
        await store.add(decision(raw=0.1))  # not audited: no statistics
        unaudited = decision(created=1.0)
        await store.add(unaudited)
        await store.feedback(unaudited.id, False)  # a complaint about a row that was not drawn
        with pytest.raises(ConfideError, match="no audit row with a label"):
            store.calibration_records()
        drawn = [decision(created=float(i), audit=True, audit_probability=0.1, agreed=i != 3) for i in range(2, 6)]
        drawn[0].decision = "escalate"
        drawn[1].raw = drawn[1].source = None
        drawn.append(decision(created=9.0, audit=True, audit_probability=0.1, agreed=None))
        for row in drawn:
            await store.add(row)
        records = store.calibration_records()
        assert [r.id for r in records] == [row.id for row in drawn]
        assert [r.correct for r in records] == [True, False, True, True, False]  # no label: the worst case
        assert [r.correct for r in store.calibration_records(unlabelled=None)][-1] is None
        assert [r.confidence for r in records] == [{"stack": 0.8}, {}] + [{"stack": 0.8}] * 3
        assert {(r.split, r.model, r.domain) for r in records} == {("calibration", "small", "geography")}
        assert len(store.calibration_records(since=4.0)) == 3
        for model in ("small", "other"):
            await store.add(decision(created=100.0, audit=True, audit_probability=0.1, agreed=True, model=model))
        with pytest.raises(ConfideError, match=r"2 models \(other, small\)"):
            store.calibration_records(since=100.0)

    using(url, body)


def test_rows_that_ask_the_same_are_one_cluster(url: str) -> None:
    async def body(store: Store) -> list[str]:
        for number, asked in enumerate(["q1", "q1", None, "q2", None]):
            drawn = {"audit": True, "audit_probability": 1.0, "agreed": number != 1}
            await store.add(decision(id=f"dec_{number}", created=float(number), question_hash=asked, **drawn))
        return [record.cluster for record in store.calibration_records()]

    assert using(url, body) == ["q1", "q1", "dec_2", "q2", "dec_4"]


def test_a_label_that_comes_late_or_is_changed_counts(url: str) -> None:
    async def body(store: Store) -> list[list[bool | None]]:
        row = decision(audit=True, audit_probability=1.0)
        await store.add(row)
        labels = []
        for step in (
            lambda: store.audited(row.id, True, None, 0.0, None),
            lambda: store.audited(row.id, None, None, 0.0, None),  # the expert's answer could not be compared
            lambda: store.feedback(row.id, False),
            lambda: store.feedback(row.id, True, about="expert"),
            lambda: store.feedback(row.id, True, about="small"),
        ):
            await step()
            labels.append([audit.correct for audit in await store.run(audit_rows)])
        return labels

    assert using(url, body) == [[True], [None], [False], [False], [True]]


def audit(number: int, probability: float) -> AuditRow:
    return AuditRow(f"dec_{number}", 0.0, "small", "stack", 0.5, "answer", None, probability, True)


def test_thinning_gives_every_request_the_same_chance() -> None:
    many = [audit(i, 0.5) for i in range(2_000)]
    few = [audit(i, 0.4) for i in range(2_000, 22_000)]
    kept = equal_chance(many + few)
    assert [row for row in kept if row.probability == 0.4] == few
    assert abs(len(kept) - len(few) - 1_600) < 4 * (1_600 * 0.2) ** 0.5
    assert kept == equal_chance(many + few)  # the same rows in every run
    assert equal_chance(many) == many
    assert equal_chance([]) == []


def test_one_row_at_a_lower_share_throws_no_other_away() -> None:
    many = [audit(i, 0.5) for i in range(606)]
    assert equal_chance([*many, audit(606, 0.005)]) == many
    # And a few old rows at a low share do not hold back many new ones.
    old = [audit(i, 0.02) for i in range(1_000, 1_200)]
    assert equal_chance(old + many) == many


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([0.01, 0.02, 0.1, 0.5, 1.0])), max_size=50))
def test_what_is_left_is_whole_at_one_share_and_thinned_above_it(drawn: list[tuple[int, float]]) -> None:
    rows = [audit(number, probability) for number, probability in drawn]
    kept = equal_chance(rows)
    if rows:
        chance = min(row.probability for row in kept)
        assert [row for row in rows if row.probability == chance] == [r for r in kept if r.probability == chance]
    assert len(rows) == 0 or len(kept) > 0


def store_with_missing_labels(seed: int) -> list[AuditRow]:
    """600 audits of answers of which 14 % are wrong, whatever the confidence; most missing labels are of wrong ones."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(600) < 0.14
    missing = rng.random(600) < np.where(wrong, 0.8, 0.02)  # 13 % in all
    return [
        replace(audit(i, 0.1), raw=float(rng.random()), correct=None if gone else not bad)
        for i, (bad, gone) in enumerate(zip(wrong.tolist(), missing.tolist(), strict=True))
    ]


def test_missing_labels_make_no_false_promise() -> None:
    def promised(records: list[Record]) -> bool:
        goal = bounded_risk_threshold(
            [r.confidence["stack"] for r in records], [bool(r.correct) for r in records], 0.1, 0.95
        )
        return isinstance(goal, BoundedThreshold)

    stores = [store_with_missing_labels(seed) for seed in range(400)]
    assert np.mean([row.correct is None for rows in stores for row in rows]) == pytest.approx(0.13, abs=0.005)
    false = [promised(calibration_records(rows)) for rows in stores]  # the risk is above 0.1 at every threshold
    assert np.mean(false) <= 0.05
    dropped = [promised([r for r in calibration_records(rows, unlabelled=None) if r.correct is not None])
               for rows in stores[:20]]  # fmt: skip
    assert all(dropped)


def test_what_a_replica_of_before_wrote_after_the_upgrade_is_read_on_todays_scale(url: str) -> None:
    async def body(store: Store) -> list[float | None]:
        for i, raw in enumerate((0.5, -2.0, -900.0)):
            row = decision(id=f"dec_{i}", created=float(i), source="logprob_sum", raw=raw)
            row.audit, row.audit_probability, row.agreed = True, 1.0, True
            await store.add(row)
        return [record.confidence["logprob_sum"] for record in store.calibration_records()]

    assert using(url, body) == [pytest.approx(math.log(0.5)), -2.0, -900.0]
