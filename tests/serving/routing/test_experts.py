"""Experts that are no servers: tools, the small model again, and the majority of its samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.serving.routing.experts import majority
from upstreams import Upstream, router, small_server


def test_a_server_small_model_may_answer_again_with_samples_or_a_passage(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    experts = [
        {"name": "reread", "self": {"passage": "callables:passage"}},
        {"name": "more", "self": {"samples": 5}},
    ]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        assert running.ask("Kyoto").json()["confide"]["answered_by"] == "reread"
        assert small.requests[1]["messages"][0]["content"] == "Context: About Kyoto.\nQuestion: Kyoto"
        assert running.ask("nothing").json()["confide"]["answered_by"] == "more"
        assert (small.requests[-1]["n"], small.requests[-1]["temperature"]) == (5, 1.0)


def test_tools_answer_pass_on_or_fail(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    experts = [
        {"name": "first", "tool": "callables:look_up"},
        {"name": "second", "tool": "callables:always", "price": {"output": 1}},
    ]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        assert running.ask("Kyoto").json()["choices"][0]["message"]["content"] == "Japan, for sure"
        assert running.ask("nothing").json()["confide"]["answered_by"] == "second"
        assert running.rows()[-1]["error"] == "first: no_answer"
        assert running.ask("raise").json()["confide"]["answered_by"] == "second"
        assert running.rows()[-1]["error"] == "first: tool_error"
        assert running.ask("Kyoto", tools=[{"type": "function"}]).status_code == 503


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        (["a", "B", "b."], "B"),
        (["x", "y"], "x"),
        (["", " ", "z"], "z"),
        (["👍", "👎", "👎"], "👎"),
        (["", " "], ""),
        ([], ""),
    ],
)
def test_majority(texts: list[str], answer: str) -> None:
    assert majority(texts) == answer
