"""A small model whose confidence is on another scale: nothing is known of its answer, and the question escalates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from upstreams import FakeAnswer, FakeModel, policy_file, router


class Rating(FakeModel):
    """Gives its confidence as the source ``given``."""

    def answers(self, questions, *, max_new_tokens: int, **more) -> list[FakeAnswer]:
        found = super().answers(questions, max_new_tokens=max_new_tokens, **more)
        return [FakeAnswer(answer.text, answer.confidence, source="given") for answer in found]


@pytest.mark.parametrize(
    ("value", "served"), [(87.0, "expert"), (4.0, "expert"), (-2.0, "expert"), (0.87, "small"), (1.0000001, "small")]
)
def test_a_confidence_in_percent_escalates(tmp_path: Path, value: float, served: str) -> None:
    path = policy_file(tmp_path, source="given")
    data = json.loads(path.read_text())
    data["calibrator"]["parameters"]["transform"] = "logit"
    path.write_text(json.dumps(data))
    small = {"name": "small", "model": "fake"}
    experts = [{"name": "tool", "tool": "callables:always"}]
    with router(tmp_path, model=Rating(lambda question: value), small=small, policy=path, experts=experts) as running:
        assert running.ask().json()["confide"]["served"] == served
