"""The free confidences of a server's reply."""

from __future__ import annotations

from typing import Any

import pytest

from confide.engines.openai.asked import Asked
from confide.engines.openai.reply import Choice, Reply
from confide.serving.routing.server_logprobs import server_sources

ASKED = Asked(chat=True, messages=[{"role": "user", "content": "Where is Kyoto?"}], options={}, deadline=0.0)


def tokens(*pairs: tuple[str, float]) -> dict[str, Any]:
    return {"content": [{"token": text, "logprob": value} for text, value in pairs]}


@pytest.mark.parametrize("logprobs", [None, {"content": []}, tokens(("Japan", 2.0))])
def test_odd_log_probabilities_give_none(logprobs: Any) -> None:
    assert server_sources(ASKED, Reply([Choice("Japan", logprobs=logprobs)]))[0] == {}


def test_sources_are_the_free_ones_and_the_weakest_choice_counts() -> None:
    sure, unsure = Choice("Japan", logprobs=tokens(("Japan", -0.1))), Choice("Chad", logprobs=tokens(("Chad", -1.0)))
    found, _ = server_sources(ASKED, Reply([sure, unsure]))
    assert found["logprob_sum"] == -1.0
    assert found["entropy"] is None
    assert server_sources(ASKED, Reply([sure, Choice("", more={"tool_calls": [{}]})]))[0] == {}
