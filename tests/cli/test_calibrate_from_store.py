"""``confide calibrate --from-store``: the audits of a router as calibration rows."""

from __future__ import annotations

import asyncio
import json

import pytest

from confide.errors import ConfideError
from confide.policies import Policy
from policy_runs import foreign, run


def store_of(url: str, rows: list[dict], **more) -> None:
    """A store with an audit for each of the ``rows``."""
    from confide.serving.store.store import Store
    from decision_rows import decision

    async def fill() -> None:
        store = Store.open(url)
        audited = {"audit": True, "audit_probability": 0.1, "domain": None, "policy_id": None} | more
        for i, row in enumerate(rows):
            value = {"created": float(i), "raw": row["confidence"], "agreed": row["correct"]}
            await store.add(decision(**audited | value | {"question_hash": row.get("question_hash")}))
        await store.close()

    asyncio.run(fill())


def test_calibrate_from_a_store(tmp_path):
    pytest.importorskip("sqlalchemy")
    url, out = f"sqlite:///{tmp_path}/confide.db", tmp_path / "p.json"
    store_of(url, foreign(600))
    result = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out)
    assert result.exit_code == 0, result.output
    assert "no label" not in result.output
    policy = Policy.load(out)
    assert (policy.source, policy.model, policy.guarantee.n) == ("stack", "small", 600)
    store_of(f"sqlite:///{tmp_path}/e.db", [])
    empty = run("calibrate", "--from-store", f"sqlite:///{tmp_path}/e.db", "--max-risk", 0.3, "--out", out)
    assert "no audit row" in str(empty.exception)
    (tmp_path / "c.yaml").write_text("from-store: sqlite:///confide.db\nmax-risk: 0.3\nout: q.json\n")
    assert run("calibrate", "--config", tmp_path / "c.yaml").exit_code == 0
    assert Policy.load(tmp_path / "q.json").guarantee.n == 600
    for both in (("--from-store", url, tmp_path / "r.jsonl"), ()):
        wrong = run("calibrate", *both, "--max-risk", 0.3, "--out", out)
        assert "one of the two" in str(wrong.exception)


def test_calibrate_from_a_store_of_two_models(tmp_path):
    pytest.importorskip("sqlalchemy")
    from confide.records import RequestShape
    from confide.serving.store.store import Store
    from decision_rows import decision

    url, out = f"sqlite:///{tmp_path}/confide.db", tmp_path / "p.json"
    request = RequestShape(system="", turns=1, length=20, content="", options={"temperature": "0"}, max_tokens=0)
    told = ["model=tiny, fingerprint=fp_1"] * 500 + ["model=tiny, fingerprint=fp_2"] * 400 + [None] * 5

    async def fill() -> None:
        store = Store.open(url)
        await asyncio.gather(*(
            store.add(decision(
                raw=row["confidence"], agreed=row["correct"], audit=True, audit_probability=0.1, identity=identity,
                request_shape=request.model_dump_json(),
            ))
            for row, identity in zip(foreign(len(told)), told, strict=True)
        ))  # fmt: skip
        await store.close()

    asyncio.run(fill())
    mixed = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out)
    assert isinstance(mixed.exception, ConfideError)
    for words in ("different models", "--identity", "model=tiny, fingerprint=fp_2 (400 rows)"):
        assert words in str(mixed.exception)
    assert not out.exists()
    one = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out, "--identity", "fingerprint=fp_1")
    assert one.exit_code == 0, one.output
    policy = Policy.load(out)
    assert (policy.identity, policy.guarantee.n) == ("model=tiny, fingerprint=fp_1", 500)
    assert policy.profile is not None
    assert policy.profile.requests is not None
    assert policy.profile.requests.options is not None
    assert policy.profile.requests.options["temperature"] == ["0"]
    for wrong, words in (("model=big", "no row is an answer of model=big"), ("tiny", "an identity reads part=value")):
        failed = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out, "--identity", wrong)
        assert words in str(failed.exception)


def test_audits_without_a_label_count_as_wrong(tmp_path):
    pytest.importorskip("sqlalchemy")
    rows = foreign(1_500)
    gaps = [row | {"correct": None if i % 20 == 0 else row["correct"]} for i, row in enumerate(rows)]
    wrong = [row | {"correct": False if row["correct"] is None else row["correct"]} for row in gaps]
    made = {}
    for name, kept in (("gaps", gaps), ("wrong", wrong), ("whole", rows)):
        url, out = f"sqlite:///{tmp_path}/{name}.db", tmp_path / f"{name}.json"
        store_of(url, kept)
        result = run("calibrate", "--from-store", url, "--max-risk", 0.2, "--out", out)
        assert result.exit_code == 0, result.output
        made[name] = Policy.load(out).guarantee, result.output
    assert made["gaps"][0] == made["wrong"][0]
    assert made["gaps"][0].coverage < made["whole"][0].coverage
    assert "75 of the 1500 audits have no label and count as wrong: kept is " in made["gaps"][1]
    url, out = f"sqlite:///{tmp_path}/gaps.db", tmp_path / "p.json"
    data = json.loads(run("calibrate", "--from-store", url, "--max-risk", 0.2, "--out", out, "--json").stdout)
    assert data["counted_as_wrong"] == 75
    # A risk that cannot be shown so: exit code 1, and what the labels would be worth.
    unmet = run("calibrate", "--from-store", url, "--max-risk", 0.06, "--out", tmp_path / "n.json")
    assert unmet.exit_code == 1
    assert "75 of the 1500 audits have no label" in unmet.output
    # A budget needs no label: the rows count as they are.
    budget = run("calibrate", "--from-store", url, "--budget", 0.3, "--out", out)
    assert budget.exit_code == 0
    assert "75 without a label" in budget.output
    assert Policy.load(out).guarantee.n == 1_500


def test_audits_without_a_label_count_as_false_alarms(tmp_path):
    pytest.importorskip("sqlalchemy")
    rows = foreign(1_500)
    gaps = [row | {"correct": None if i % 40 == 0 else row["correct"]} for i, row in enumerate(rows)]
    fine = sum(row["correct"] is True for row in gaps)
    for name, kept in (("gaps", gaps), ("whole", rows)):
        store_of(f"sqlite:///{tmp_path}/{name}.db", kept)
    url, out = f"sqlite:///{tmp_path}/gaps.db", tmp_path / "p.json"
    result = run("calibrate", "--from-store", url, "--max-false-alarms", 0.1, "--out", out)
    assert result.exit_code == 0, result.output
    assert "38 of the 1500 audits have no label and count as false alarms. Label them" in result.output
    gap = Policy.load(out)
    assert gap.guarantee.n == fine + 38
    below = sum(row["correct"] is True and row["confidence"] < gap.threshold() for row in gaps)
    assert gap.guarantee.observed == pytest.approx((below + 38) / (fine + 38))
    data = json.loads(run("calibrate", "--from-store", url, "--max-false-alarms", 0.1, "--out", out, "--json").stdout)
    assert data["counted_as_false_alarms"] == 38
    assert "counted_as_wrong" not in data
    # Whatever the labels turn out to be, no threshold by them is lower.
    run("calibrate", "--from-store", f"sqlite:///{tmp_path}/whole.db", "--max-false-alarms", 0.1, "--out", out)
    assert gap.threshold() < Policy.load(out).threshold()
    assert run("calibrate", "--from-store", url, "--max-false-alarms", 0.02, "--out", out).exit_code == 1


def test_a_question_asked_again_and_again_is_not_left_out_of_a_promise_per_question(tmp_path):
    pytest.importorskip("sqlalchemy")
    url, out = f"sqlite:///{tmp_path}/confide.db", tmp_path / "p.json"
    store_of(url, foreign(1_500) + [{"confidence": 0.99, "correct": False, "question_hash": "q"}] * 1_500)
    refused = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out)
    assert isinstance(refused.exception, ConfideError)
    assert "50% of the rows are of entities with more than 1 row each" in str(refused.exception)
    assert "take --per entity" in str(refused.exception)
    assert not out.exists()
    # Per entity each question counts once.
    result = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--per", "entity", "--out", out)
    assert result.exit_code == 0, result.output
    assert Policy.load(out).guarantee.n == 1_501


def test_an_identity_chooses_between_models_of_other_names(tmp_path):
    pytest.importorskip("sqlalchemy")
    url, out = f"sqlite:///{tmp_path}/confide.db", tmp_path / "p.json"
    store_of(url, foreign(600), model="before", identity="weights=aa")
    store_of(url, foreign(500, seed=1), model="after", identity="weights=bb")
    mixed = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out)
    assert isinstance(mixed.exception, ConfideError)
    assert "answers of 2 models (after, before)" in str(mixed.exception)
    assert "take those of one with --identity: weights=aa (600 rows); weights=bb (500 rows)" in str(mixed.exception)
    for identity, n, model in (("weights=aa", 600, "before"), ("weights=bb", 500, "after")):
        result = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out, "--identity", identity)
        assert result.exit_code == 0, result.output
        policy = Policy.load(out)
        assert (policy.guarantee.n, policy.model, policy.identity) == (n, model, identity)
    there = "no row is an answer of weights=cc; there are: weights=aa (600 rows)"
    for wrong, words in (("weights=cc", there), ("cc", "reads part=value")):
        failed = run("calibrate", "--from-store", url, "--max-risk", 0.3, "--out", out, "--identity", wrong)
        assert words in str(failed.exception)
