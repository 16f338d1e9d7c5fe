"""Replies compared."""

from __future__ import annotations

from confide.serving.routing.reply import Choice, Reply


def test_agreement_is_folded_and_unknown_for_what_is_no_text() -> None:
    japan = Reply([Choice("Japan")])
    assert japan.agrees(Reply([Choice(" japan.")])) is True
    assert japan.agrees(Reply([Choice("China")])) is False
    assert japan.agrees(Reply([Choice(None, more={"tool_calls": [{}]})])) is None
