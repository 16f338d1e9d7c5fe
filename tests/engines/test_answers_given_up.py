"""Answers that nobody waits for any more: their generation ends, and those of their neighbours stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from confide.engines.engine import Completion, Gone
from confide.engines.transformers.transformers_engine import TransformersEngine
from tiny_model import tiny_model

MOST = 60
ASKED = ["Where is Kyoto?", "red green blue", "Answer: France, Germany"]
Ask = Callable[[TransformersEngine, list[list[int]], Gone | None], list[Completion]]
WAYS: dict[str, Ask] = {
    "in stages": lambda engine, asked, gone: engine.answer(asked, MOST, gone=gone),
    "at once": lambda engine, asked, gone: engine.answer_and_close(asked, MOST, gone=gone).completions,
    "sampled": lambda engine, asked, gone: [one for (one,) in engine.sample(asked, MOST, 1, gone=gone)],
}


def endless() -> tuple[TransformersEngine, list[int]]:
    """An engine whose answers never end by themselves, and the rows of each of its passes."""
    engine = TransformersEngine(*tiny_model(seed=1), "tiny")
    engine._generator = replace(engine._generator, banned=engine.end_ids)
    rows: list[int] = []

    def count(_: Any, __: Any, given: dict[str, Any]) -> None:
        if (ids := given.get("input_ids")) is not None and ids.shape[1] == 1:
            rows.append(len(ids))

    engine.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return engine, rows


def prompts(engine: TransformersEngine) -> list[list[int]]:
    return [engine.encode([{"role": "user", "content": text}]) for text in ASKED]


@pytest.mark.parametrize("way", WAYS)
def test_when_all_have_gone_the_batch_ends(way: str) -> None:
    engine, passes = endless()
    WAYS[way](engine, prompts(engine), lambda row: len(passes) >= 10)
    assert 10 <= len(passes) <= 12  # the last one may read how the answers close


@pytest.mark.parametrize("way", ["in stages", "at once"])
def test_one_that_has_gone_leaves_its_neighbours(way: str) -> None:
    engine, passes = endless()
    asked = prompts(engine)
    whole = WAYS[way](engine, asked, None)
    passes.clear()
    found = WAYS[way](engine, asked, lambda row: row == 1 and len(passes) >= 10)
    assert (found[0].ids, found[2].ids) == (whole[0].ids, whole[2].ids)
    assert len(found[1].ids) < len(whole[1].ids) == MOST
    assert found[1].ids == whole[1].ids[: len(found[1].ids)]


def test_between_stages_it_leaves_the_batch() -> None:
    engine, passes = endless()
    engine.answer(prompts(engine), MOST, gone=lambda row: row == 1 and len(passes) >= 10)
    assert passes[0] == 3
    assert passes[-1] == 2


def test_all_samples_of_a_prompt_go_together() -> None:
    engine, passes = endless()
    engine.sample(prompts(engine), MOST, 4, gone=lambda row: row != 2 and len(passes) >= 10)
    assert (passes[0], passes[-1]) == (12, 4)
