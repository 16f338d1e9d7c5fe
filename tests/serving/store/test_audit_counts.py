"""Running totals of audits against the rows themselves, on SQLite and on a real PostgreSQL."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, select, text

from audit_samples import audited_steps, once_a_day
from confide.serving.monitor.eras import Steps
from confide.serving.monitor.evidence import Evidence, evidence_of, risk_by_domain
from confide.serving.monitor.promises import Promise
from confide.serving.store import store as store_module
from confide.serving.store.audit_counts import block_of
from confide.serving.store.audits import AuditRow, audit_rows
from confide.serving.store.store import Store
from decision_rows import decision
from stores import using

PROMISE = Promise("pol_0123456789ab", "stack", "max_risk", 0.1, 0.95, 0.06, 0.6, 1000)
NOW = 1_700_500_000.0


def audit(number: int, probability: float) -> AuditRow:
    return AuditRow(f"dec_{number}", 0.0, "small", "stack", 0.5, "answer", None, probability, True)


def test_a_question_counts_once_a_day() -> None:
    def asked(number: int, question: str | None, created: float) -> AuditRow:
        return replace(audit(number, 0.5), question_hash=question, created=created)

    rows = [asked(0, "q", 1.0), asked(1, None, 1.0), asked(1, None, 1.0), asked(2, "q", 2.0), asked(3, "q", 86_400.0)]
    assert once_a_day(rows) == [rows[0], rows[1], rows[2], rows[4]]
    # The first one with a label counts, in its own place, and where none has one the first.
    labels = [None, None, True, False, None]
    late = [replace(row, correct=label) for row, label in zip(rows, labels, strict=True)]
    late[2] = replace(late[2], question_hash="q")
    late.insert(3, asked(7, "r", 3.0))
    assert once_a_day(late) == [late[1], late[2], late[3], late[5]]
    assert once_a_day([replace(row, correct=None) for row in late[3:]]) == [
        replace(late[3], correct=None), replace(late[4], correct=None), replace(late[5], correct=None)
    ]  # fmt: skip


def test_blocks_grow_with_the_number_of_audits() -> None:
    blocks = [block_of(number) for number in range(100_000)]
    assert blocks == sorted(blocks)
    assert blocks[:200] == list(range(200))
    assert blocks[-1] < 1_000
    sizes = Counter(blocks)
    first = {block: blocks.index(block) for block in sizes}
    assert all(sizes[block] <= max(1, 0.0101 * first[block] + 1) for block in sizes)


def sums(steps: Steps) -> list[tuple[float, ...]]:
    """Rows, least and most hits for each audit share."""
    return [
        tuple(float(values[steps.share == share].sum()) for values in (steps.n, steps.least, steps.most))
        for share in steps.shares
    ]


async def random_history(store: Store, seed: int) -> None:
    """Audits of a few questions, in three domains, on three days, at two shares; labels come late and are changed."""
    rng = np.random.default_rng(seed)
    ids: list[str] = []
    for number in range(150):
        row = decision(
            created=NOW + 86_400 * int(rng.integers(3)) + number,
            decision=str(rng.choice(["answer", "escalate"])),
            served="small",
            domain=[None, "a", "b"][int(rng.integers(3))],
            audit=bool(rng.random() < 0.9),
            audit_probability=float(rng.choice([0.1, 0.5])),
            agreed=[None, True, False][int(rng.integers(3))],
            question_hash=[None, "p", "q", "r", "s"][int(rng.integers(5))],
            policy_id=str(rng.choice([PROMISE.policy_id, "pol_other"])),
            unlike="tools" if rng.random() < 0.05 else None,
        )
        await store.add(row)
        ids.append(row.id)
        about = ids[int(rng.integers(len(ids)))]
        if rng.random() < 0.3:
            await store.feedback(about, bool(rng.random() < 0.5), "small", author=str(rng.choice(["x", "y"])))
        elif rng.random() < 0.3:
            await store.audited(about, bool(rng.random() < 0.5), None, 0.0, None)


def mine(rows: list[AuditRow]) -> list[AuditRow]:
    return [row for row in rows if row.policy_id == PROMISE.policy_id and row.unlike is None]


@pytest.mark.parametrize("seed", range(4))
def test_totals_are_those_of_the_rows(url: str, seed: int) -> None:
    async def body(store: Store) -> tuple[list[AuditRow], Evidence, Evidence, list[Steps]]:
        await random_history(store, seed)
        found = [
            await store.run(lambda c, g=goal: evidence_of(c, replace(PROMISE, goal=g), NOW))
            for goal in ("max_risk", "match_expert")
        ]
        domains = await store.run(lambda c: risk_by_domain(c, PROMISE, [None, "a", "b", "unseen"]))
        return mine(await store.run(audit_rows)), found[0], found[1], domains

    rows, risk, match, domains = using(url, body)
    assert risk.counts["drawn"] == len(rows) > 30
    assert risk.counts["labelled"] == sum(row.correct is not None for row in rows)
    assert risk.counts["uncounted"] == 0
    assert sums(risk.steps) == sums(audited_steps(rows))
    assert sums(risk.repeats) == sums(audited_steps(rows, each=True))
    assert sums(match.repeats) == sums(audited_steps(rows, "match_expert", each=True))
    # A question that was kept and also escalated on one day counts once in each.
    apart = [once_a_day([row for row in rows if (row.decision == "answer") == kept]) for kept in (True, False)]
    assert match.steps.n.sum() == sum(map(len, apart)) == risk.counts["used"]
    assert match.steps.least.sum() == match.latest.sum() == sum(row.correct is False for row in apart[0])
    assert risk.latest.tolist() == audited_steps(rows).least.tolist()
    for domain, steps in zip([None, "a", "b", "unseen"], domains, strict=True):
        assert sums(steps) == sums(audited_steps([row for row in rows if row.domain == domain]))


def test_promises_in_domains_and_in_all_the_others(url: str) -> None:
    async def body(store: Store) -> Evidence:
        for number in range(60):
            domain = ["a", "b", f"other {number}"][number % 3]
            values = {"audit": True, "audit_probability": 0.5, "agreed": number % 4 != 0}
            await store.add(decision(created=NOW + number, domain=domain, **values))
        return await store.run(lambda c: evidence_of(c, replace(PROMISE, domains=("*", "a", "b")), NOW))

    domains = using(url, body).domains
    assert {name: (steps.n.sum(), steps.least.sum()) for name, steps in domains.items()} == {
        "a": (20, 5), "b": (20, 5), "*": (20, 5)
    }  # fmt: skip


def test_what_another_program_writes_is_counted_with_the_next_commit(url: str, raw: Connection) -> None:
    async def body(store: Store) -> list[dict[str, Any]]:
        row = decision(audit=True, audit_probability=0.5)
        await store.add(row)
        yes = "1" if url.startswith("sqlite") else "true"
        # As a router of before would.
        raw.execute(text(f"UPDATE decisions SET agreed = {yes}, cost = cost + 1"))
        raw.execute(text(f"INSERT INTO decisions SELECT * FROM decisions WHERE not {yes}"))
        raw.commit()
        seen = [(await store.run(lambda c: evidence_of(c, PROMISE, NOW))).counts]
        await store.check()
        store_module.PROBE_S, before = -1.0, store_module.PROBE_S
        try:
            await store.check()
        finally:
            store_module.PROBE_S = before
        return [*seen, (await store.run(lambda c: evidence_of(c, PROMISE, NOW))).counts]

    before, after = using(url, body)
    assert (before["uncounted"], before["labelled"]) == (1, 0)
    assert (after["uncounted"], after["labelled"]) == (0, 1)


def test_several_stores_count_each_audit_once(url: str) -> None:
    async def run() -> dict[str, Any]:
        stores = [Store.open(url) for _ in range(3)]
        values = {"audit": True, "audit_probability": 0.5, "agreed": False}
        for _ in range(5):
            rows = [decision(**values) for _ in range(30)]
            await asyncio.gather(*[stores[i % 3].add(row) for i, row in enumerate(rows)])
            await asyncio.gather(*[stores[i % 3].audited(row.id, True, None, 0, None) for i, row in enumerate(rows)])
        for store in stores:
            await store.add(decision())
        found = await stores[0].run(lambda c: evidence_of(c, PROMISE, NOW))
        for store in stores:
            await store.close()
        return {**found.counts, "wrong": found.steps.least.sum()}

    found = asyncio.run(run())
    assert (found["drawn"], found["labelled"], found["used"], found["wrong"]) == (150, 150, 150, 0)


def test_deleted_decisions_stay_in_the_totals(url: str, raw: Connection) -> None:
    async def body(store: Store) -> Evidence:
        for number in range(3):
            await store.add(decision(created=NOW + number, audit=True, audit_probability=0.5, agreed=True))
        raw.execute(text("PRAGMA foreign_keys = ON") if url.startswith("sqlite") else select(1))
        raw.execute(text("DELETE FROM decisions"))
        raw.commit()
        await store.add(decision(created=NOW + 9, audit=True, audit_probability=0.5, agreed=False))
        return await store.run(lambda c: evidence_of(c, PROMISE, NOW))

    steps = using(url, body).steps
    assert (steps.n.tolist(), steps.least.tolist()) == ([1, 1, 1, 1], [0, 0, 0, 1])
