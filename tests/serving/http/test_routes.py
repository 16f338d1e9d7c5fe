"""Who may say what about which answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from confide.serving.api_keys import hash_key
from confide.serving.store.audits import audit_rows
from confide.serving.store.store import Store
from stores import using
from upstreams import Running, Upstream, expert_server, router, small_server

KEYS = [
    {"name": name, "hash": hash_key(name * 10), "scopes": scopes, **more}
    for name, scopes, more in (
        ("app-one", ["ask", "feedback"], {}),
        ("app-two", ["ask", "feedback"], {"domains": ["hard", "harder"]}),
        ("review", ["admin"], {}),
        ("judge", ["feedback"], {}),
    )
]


@pytest.fixture
def running(tmp_path: Path, small: Upstream) -> Iterator[Running]:
    with router(tmp_path, small=small_server(small), audit_share=1.0, audit_label="feedback", api_keys=KEYS) as server:
        yield server


def by(name: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name * 10}", **headers}


def ask(running: Running, name: str) -> str:
    """The id of a decision that this key asked for."""
    id: str = running.ask(headers=by(name)).json()["confide"]["decision_id"]
    return id


def judge(running: Running, name: str, id: str, correct: bool, about: str = "small", **more: Any) -> httpx.Response:
    return running.post("/v1/feedback", {"decision_id": id, "correct": correct, "about": about, **more}, by(name))


def kept(running: Running) -> list[tuple[Any, ...]]:
    """All feedback in the order in which it counts."""
    with sqlite3.connect(running.database) as connection:
        return connection.execute("SELECT author, correct, about FROM feedback ORDER BY id").fetchall()


def test_a_row_says_which_key_asked(running: Running) -> None:
    id = ask(running, "app-one")
    running.ask(headers=by("app-two"), stream=True)
    running.post("/v1/completions", {"prompt": "hi"}, by("review"))
    assert [row["key"] for row in running.rows()] == ["app-one", "app-two", "review"]
    assert judge(running, "app-one", id, True).status_code == 200
    assert kept(running) == [("app-one", 1, "small")]


def test_a_key_judges_only_what_it_asked(running: Running) -> None:
    """Another key's decision looks as if it did not exist."""
    id = ask(running, "app-one")
    nothing = judge(running, "app-two", "dec_" + "0" * 32, True)
    for name in ("app-two", "judge"):
        for about in ("small", "served", "expert"):
            refused = judge(running, name, id, True, about)
            assert (refused.status_code, refused.json()) == (404, nothing.json())
    assert kept(running) == []
    assert judge(running, "review", id, False).status_code == 200
    assert kept(running) == [("review", 0, "small")]


def test_what_an_admin_judged_the_asking_key_cannot_overrule(running: Running) -> None:
    id = ask(running, "app-one")
    assert judge(running, "app-one", id, True).status_code == 200
    assert judge(running, "review", id, False).status_code == 200
    refused = judge(running, "app-one", id, True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "judged")
    assert judge(running, "app-one", id, True, "served").status_code == 409
    assert kept(running) == [("app-one", 1, "small"), ("review", 0, "small")]
    assert judge(running, "review", id, True).status_code == 200
    assert kept(running)[-1] == ("review", 1, "small")


def test_feedback_sent_again_replaces_its_own(running: Running) -> None:
    """Neither a replay nor a flood makes more rows, and the latest word of a key counts."""
    id = ask(running, "app-one")
    for correct in (True, False, True, False, True, False):
        assert judge(running, "app-one", id, correct).status_code == 200
    judge(running, "app-one", id, True, "expert")
    assert kept(running) == [("app-one", 0, "small"), ("app-one", 1, "expert")]


def test_decisions_from_before_keys_are_the_admins_alone(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        id = running.ask().json()["confide"]["decision_id"]
        assert running.post("/v1/feedback", {"decision_id": id, "correct": True}).status_code == 200
        assert running.rows()[0]["key"] is None
        assert kept(running) == [(None, 1, "served")]
    with router(tmp_path, small=small_server(small), api_keys=KEYS) as running:
        assert judge(running, "app-one", id, False).status_code == 404
        assert judge(running, "review", id, False).status_code == 200


def test_a_key_names_only_its_domains(running: Running, small: Upstream) -> None:
    """In the domain ``easy`` every answer is kept: who may name it chooses its threshold."""
    small.probability = 0.2
    for name, domain, status in (
        ("app-one", "easy", 200),
        ("app-two", "easy", 403),
        ("app-two", "Hard", 403),
        ("app-two", "", 400),
        ("app-two", "hard", 503),  # escalated, and there is no expert
        ("app-two", None, 503),
    ):
        named = {} if domain is None else {"X-Confide-Domain": domain}
        for stream in (False, True):
            assert running.ask(headers=by(name, **named), stream=stream).status_code == status, (name, domain)
    error = running.ask(headers=by("app-two", **{"x-confide-domain": "easy"})).json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("permission_error", "domain", "X-Confide-Domain")
    assert {row["domain"] for row in running.rows() if row["key"] == "app-two"} == {"hard", None}


def test_a_domain_is_named_once(running: Running) -> None:
    """What a proxy adds behind a client's own header would not count."""
    headers = [*by("app-one").items(), ("X-Confide-Domain", "easy"), ("X-Confide-Domain", "hard")]
    body = {"messages": [{"role": "user", "content": "hi"}]}
    response = httpx.post(f"{running.url}/v1/chat/completions", json=body, headers=headers, trust_env=False)
    assert response.status_code == 400


def labels(running: Running) -> list[bool | None]:
    """The labels that calibration and the monitor see."""

    async def read(store: Store) -> list[bool | None]:
        return [audit.correct for audit in await store.run(audit_rows)]

    found: list[bool | None] = using(f"sqlite:///{running.database}", read)
    return found


@pytest.mark.parametrize(
    ("expert", "seen"),
    [("400", [None, False, True]), ("China", [False, False, False]), ("Japan", [True, True, True])],
)
def test_no_key_labels_its_own_audits_where_an_expert_does(
    tmp_path: Path, small: Upstream, big: Upstream, expert: str, seen: list[bool | None]
) -> None:
    big.behaviour, big.answer = (["400"], "") if expert == "400" else (["ok"], expert)
    settings = {"experts": [expert_server(big)], "audit_share": 1.0, "api_keys": KEYS}
    with router(tmp_path, small=small_server(small), **settings) as running:
        for name, correct in (("app-one", True), ("app-one", False), ("review", True)):
            id = ask(running, name)
            running.wait_for(lambda row, id=id: row["id"] == id and (row["error"] or row["agreed"] is not None))
            assert judge(running, name, id, correct).status_code == 200
        assert labels(running) == seen
        assert [correct for _, correct, _ in kept(running)] == [1, 0, 1]
        assert judge(running, "review", running.rows()[1]["id"], True).status_code == 200
        assert labels(running) == [seen[0], True, seen[2]]


def test_where_labels_are_feedback_the_key_that_asked_gives_them(running: Running) -> None:
    for correct in (True, False):
        assert judge(running, "app-one", ask(running, "app-one"), correct).status_code == 200
    assert labels(running) == [True, False]
