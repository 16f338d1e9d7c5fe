"""What the monitor makes of requests that a real router routed between real servers."""

import re
from pathlib import Path
from typing import Any

from upstreams import Upstream, expert_server, router, small_server


def test_an_audit_whose_client_hung_up_still_gets_its_label(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["hang", "ok"]
    settings = {"small": small_server(small), "experts": [expert_server(big)], "audit_share": 1.0}
    with router(tmp_path, **settings) as running:
        running.hang_up(lambda: big.requests)
        row = running.wait_for(lambda row: row["agreed"] is not None)
        assert (row["served"], row["error"], row["decision"]) == ("error", "client: gone", "escalate")
        assert row["agreed"] == (small.answer == big.answer)
        page = running.get("/").text
        assert "no expert" not in page


def test_requests_that_ask_the_same_share_a_hash(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        for text in ("Where is Kyoto?", "  where is\nKYOTO? ", "Where is Osaka?"):
            running.ask(text)
        parts = [{"type": "text", "text": "Where is Kyoto?"}]
        running.post("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
        running.post("/v1/completions", {"prompt": "where is kyoto?"})
        rows = running.rows()
        system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Kyoto?"}]
        running.post("/v1/chat/completions", {"messages": system})
        kyoto, again, osaka, in_parts, prompt, with_system = [row["question_hash"] for row in running.rows()]
        assert kyoto == again == in_parts == prompt
        assert len({kyoto, osaka, with_system}) == 3
        assert all(row["question"] is None for row in rows)  # texts stay out of the store


def test_a_broken_promise_stays_broken_when_fewer_requests_are_audited(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    def settings(share: float) -> dict[str, Any]:
        return {"small": small_server(small), "experts": [expert_server(big)], "audit_share": share}

    big.answer = "China"
    with router(tmp_path, **settings(1.0)) as running:
        for number in range(20):
            running.ask(f"Where is town {number}?")
        running.wait_for(lambda row: all(row["agreed"] == 0 for row in running.rows()))
        assert "The promise is broken" in running.get("/").text
    big.answer = small.answer
    with router(tmp_path, **settings(0.5)) as running:
        for number in range(20, 60):
            running.ask(f"Where is town {number}?")
        running.wait_for(lambda row: all(row["agreed"] is not None for row in running.rows() if row["audit"]))
        assert {row["audit_probability"] for row in running.rows()} == {1.0, 0.5}
        assert re.search("The promise (is|was) broken", running.get("/").text)


def test_one_question_asked_again_and_again_breaks_no_promise(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    big.answer = "China"
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], audit_share=1.0) as running:
        for spaces in range(20):
            running.ask("Where is" + " " * spaces + " Kyoto?")
        running.wait_for(lambda row: all(row["agreed"] == 0 for row in running.rows()))
        page = running.get("/").text
        assert "The promise is broken" not in page
        # But that many answers were wrong is said.
        assert re.search(r"Counted as often as they were asked, at least \d+%", page)
        assert "20 of 20 audited answers were wrong" in page
        assert 'confide_alarm{name="repeats",severity="alarm"} 1.0' in running.get("/metrics").text


def test_an_expert_that_hangs_longer_than_clients_wait_is_seen(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["hang"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        for number in range(1, 6):
            running.hang_up(lambda number=number: len(big.requests) >= number)
            running.wait_for(lambda row, number=number: len(running.rows()) == number)
        assert {(row["served"], row["error"]) for row in running.rows()} == {("error", "client: gone")}
        assert "5 of the last 5 clients that waited for an expert hung up" in running.get("/").text
        assert 'confide_alarm{name="expert",severity="alarm"} 1.0' in running.get("/metrics").text
