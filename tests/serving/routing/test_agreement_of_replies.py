"""Replies compared, one by one and over HTTP where an audit compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from confide.engines.openai.reply import Choice, Reply
from confide.serving.routing.agreement_of_replies import agree
from upstreams import Running, Upstream, expert_server, router, small_server

CALL = Choice(None, more={"tool_calls": [{}]})
REFUSAL = Choice(None, more={"refusal": "No."})
CUT = Choice("Jap", finish="length")
NOTHING = Choice(None, reasoning="Let me think", finish="length")


@pytest.mark.parametrize(
    ("small", "expert", "agreed"),
    [
        (Choice("Japan"), Choice(" japan."), True),
        (Choice("Japan"), Choice("China"), False),
        (Choice("👍"), Choice("👎"), False),
        (Choice("Japan"), CALL, False),
        (Choice("Japan"), Choice(None, more={"function_call": {"name": "look"}}), False),
        (Choice("Japan"), REFUSAL, False),
        (Choice("Japan"), Choice("Japan", more={"refusal": "No."}), False),
        (Choice("Japan"), Choice("Japan", finish="content_filter"), False),
        # A cut answer is unknown as long as its rest could make it the same.
        (Choice("Japan"), CUT, None),
        (Choice("Japan"), Choice("Japan", finish="length"), None),
        (Choice("Japan"), Choice("Chi", finish="length"), False),
        (Choice("Japan", finish="length"), Choice("Japan", finish="length"), True),
        (Choice("Japan", finish="length"), Choice("Japan is", finish="length"), None),
        (Choice("Japan", finish="length"), Choice("Japan is"), False),
        (Choice("Japan", finish="length"), Choice("Japan"), True),
        (Choice("Japan"), NOTHING, None),
        # What the small model did not say in words has no confidence either.
        (CALL, Choice("Japan"), False),
        (CALL, CALL, None),
        (REFUSAL, REFUSAL, None),
        (Choice(""), Choice("Japan"), None),
    ],
)
def test_what_counts_as_agreement(small: Choice, expert: Choice, agreed: bool | None) -> None:
    assert agree(Reply([small]), Reply([expert])) is agreed


@pytest.mark.parametrize(
    ("small", "expert", "agreed"),
    [
        (["Japan", "japan."], ["Japan", "Japan"], True),
        (["Japan", "China"], ["Japan", "Japan"], False),
        (["China", "Japan"], ["Japan"], False),
        (["Japan", "Japan"], ["Japan", "China"], None),
        (["Japan", "Peru"], ["Japan", "China"], False),
    ],
)
def test_every_choice_is_compared(small: list[str], expert: list[str], agreed: bool | None) -> None:
    mine, theirs = (Reply([Choice(text) for text in texts]) for texts in (small, expert))
    assert agree(mine, theirs) is agreed


def audited(running: Running, **more: Any) -> dict[str, Any]:
    """The row of a request that is audited, once the audit has ended."""
    running.ask(**more)
    return running.wait_for(lambda row: row["expert_ms"] is not None or (row["error"] or "").startswith("audit: "))


@pytest.mark.parametrize("small_says", ["Japan", "👍"])
@pytest.mark.parametrize(
    ("behaviour", "says", "agreed", "error"),
    [
        ("ok", "same", 1, None),
        ("ok", "👎", 0, None),
        ("tools", "same", 0, None),
        ("refuse", "same", 0, None),
        ("content_filter", "same", 0, None),
        ("length", "same", None, None),
        ("length", "something else", 0, None),
        ("empty", "same", None, "audit: big: empty"),
        ("400", "same", None, "audit: big: rejected"),
        ("malformed", "same", None, "audit: big: malformed"),
    ],
)
def test_no_outcome_of_an_audit_is_lost(
    tmp_path: Path,
    small: Upstream,
    big: Upstream,
    small_says: str,
    behaviour: str,
    says: str,
    agreed: int | None,
    error: str | None,
) -> None:
    """A kept answer whose expert does anything else than say the same is a disagreement or has no label."""
    small.answer, big.answer = small_says, small_says if says == "same" else says
    big.behaviour = [behaviour]
    experts = [expert_server(big, retries=0)]
    with router(tmp_path, small=small_server(small), experts=experts, audit_share=1.0) as running:
        row = audited(running)
        assert (row["decision"], row["served"], row["audit"]) == ("answer", "small", 1)
        assert (row["agreed"], row["error"]) == (agreed, error)


@pytest.mark.parametrize(
    ("behaviour", "agreed"), [("ok", 1), ("tools", 0), ("refuse", 0), ("content_filter", 0), ("length", None)]
)
def test_an_escalated_answer_is_compared_alike(
    tmp_path: Path, small: Upstream, big: Upstream, behaviour: str, agreed: int | None
) -> None:
    small.probability, big.answer, big.behaviour = 0.2, "Japan", [behaviour]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], audit_share=1.0) as running:
        running.ask()
        (row,) = running.rows()
        assert (row["served"], row["audit"], row["agreed"]) == ("expert", 1, agreed)


def test_all_choices_of_a_request_are_compared(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.answers, big.answer = ("Japan", "China"), "Japan"
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], audit_share=1.0) as running:
        assert audited(running, n=2)["agreed"] == 0
        small.answers = ("Japan", "japan.")
        assert audited(running, n=2)["agreed"] == 1
