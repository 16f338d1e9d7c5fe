"""Audit rows and the calibration records made from them, on SQLite and on a real PostgreSQL."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.serving.store.audits import AuditRow, audit_rows, equal_chance
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
        assert [r.id for r in records] == [row.id for row in drawn[:4]]
        assert [r.correct for r in records] == [True, False, True, True]
        assert [r.confidence for r in records] == [{"stack": 0.8}, {}, {"stack": 0.8}, {"stack": 0.8}]
        assert {(r.split, r.model, r.domain) for r in records} == {("calibration", "small", "geography")}
        assert len(store.calibration_records(since=4.0)) == 2
        for i in range(5):
            await store.add(decision(created=20.0 + i, audit=True, audit_probability=0.1))
        with pytest.raises(ConfideError, match="only 4 of 10 audit rows have a label"):
            store.calibration_records()
        for model in ("small", "other"):
            await store.add(decision(created=100.0, audit=True, audit_probability=0.1, agreed=True, model=model))
        with pytest.raises(ConfideError, match=r"2 models \(other, small\)"):
            store.calibration_records(since=100.0)

    using(url, body)


def audit(number: int, probability: float) -> AuditRow:
    return AuditRow(f"dec_{number}", 0.0, "small", "stack", 0.5, "answer", None, probability, True)


def test_thinning_gives_every_request_the_same_chance() -> None:
    many = [audit(i, 0.5) for i in range(20_000)]
    few = [audit(i, 0.05) for i in range(20_000, 22_000)]
    kept = equal_chance(many + few)
    assert [row for row in kept if row.probability == 0.05] == few
    assert abs(len(kept) - len(few) - 2000) < 4 * (2000 * 0.9) ** 0.5
    assert kept == equal_chance(many + few)  # the same rows in every run
    assert equal_chance(many) == many
    assert equal_chance([]) == []


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0.001, 1)), max_size=50))
def test_thinning_never_drops_the_rarest(drawn: list[tuple[int, float]]) -> None:
    rows = [audit(number, probability) for number, probability in drawn]
    lowest = min((row.probability for row in rows), default=1.0)
    assert {r for r in rows if r.probability == lowest} <= set(equal_chance(rows))


def test_what_a_replica_of_before_wrote_after_the_upgrade_is_read_on_todays_scale(url: str) -> None:
    async def body(store: Store) -> list[float | None]:
        for i, raw in enumerate((0.5, -2.0, -900.0)):
            row = decision(id=f"dec_{i}", created=float(i), source="logprob_sum", raw=raw)
            row.audit, row.audit_probability, row.agreed = True, 1.0, True
            await store.add(row)
        return [record.confidence["logprob_sum"] for record in store.calibration_records()]

    assert using(url, body) == [pytest.approx(math.log(0.5)), -2.0, -900.0]
