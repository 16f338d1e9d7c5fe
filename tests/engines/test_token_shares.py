"""Readings at every token: answers stay what they are, and what is read is what the states say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from confide.engines.directions import Directions, Shares
from confide.engines.engine import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from tiny_model import tiny_model

MOST = 24
ASKED = ["Where is Kyoto?", "red green blue", "Answer: France, Germany", "Is Lima in Peru or in Chile? Say where."]


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(*tiny_model(seed=1), "tiny")


@pytest.fixture(scope="module")
def directions(engine: TransformersEngine) -> Directions:
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(2, engine.width, 3)).astype(np.float32)
    return Directions((1, engine.depth), weight, np.array([0.5, -1.0, 2.0], np.float32))


def prompts(engine: TransformersEngine) -> list[list[int]]:
    return [engine.encode([{"role": "user", "content": text}]) for text in ASKED]


def by_hand(engine: TransformersEngine, directions: Directions, prompt: list[int], completion: Completion) -> Shares:
    """The shares of one answer, from a plain pass of the model over prompt and answer."""
    import torch

    fed = [*prompt, *completion.reasoning_ids, *completion.ids]
    with torch.no_grad():
        out = engine.model(torch.tensor([fed]), output_hidden_states=True)
    found = np.zeros((len(fed), directions.count)) + directions.offset
    for place, layer in enumerate(directions.layers[:-1]):
        found += out.hidden_states[layer][0].float().numpy() @ directions.weight[place]
    captured = []
    hook = engine.forward.blocks[-1].register_forward_hook(
        lambda *given: captured.append(given[2][0] if isinstance(given[2], tuple) else given[2])
    )
    with torch.no_grad():
        engine.model(torch.tensor([fed]))
    hook.remove()
    found += captured[0].reshape(len(fed), -1).float().numpy() @ directions.weight[-1]
    return found[len(prompt) - 1 :].astype(np.float32)


def test_greedy_answers_are_token_for_token_the_same(engine: TransformersEngine, directions: Directions) -> None:
    asked = prompts(engine)
    plain, read = engine.answer(asked, MOST), engine.answer(asked, MOST, directions=directions)
    assert [replace(c, shares=None) for c in read] == plain
    assert all(c.shares is None for c in plain)


def test_sampled_answers_are_token_for_token_the_same(engine: TransformersEngine, directions: Directions) -> None:
    asked = prompts(engine)
    plain = engine.sample(asked, MOST, 3, seed=5)
    read = engine.sample(asked, MOST, 3, seed=5, directions=directions)
    assert [[replace(c, shares=None) for c in row] for row in read] == plain
    assert all(c.shares is not None for row in read for c in row)


@pytest.mark.parametrize("way", ["in stages", "at once", "given"])
def test_each_row_is_what_the_states_say(engine: TransformersEngine, directions: Directions, way: str) -> None:
    asked = prompts(engine)
    written = engine.answer(asked, MOST)
    if way == "in stages":
        found = engine.answer(asked, MOST, directions=directions)
    elif way == "at once":
        found = engine.answer_and_close(asked, MOST, directions=directions).completions
    else:
        found = engine.closed(asked, [c.ids for c in written], directions=directions).completions
    for prompt, told, completion in zip(asked, written, found, strict=True):
        assert completion.shares is not None
        wanted = by_hand(engine, directions, prompt, told)
        rows = len(told.ids) + (told.finish == "stop" or way == "given")
        assert completion.shares.shape == (rows, directions.count)
        np.testing.assert_allclose(completion.shares, wanted[:rows], rtol=1e-3, atol=1e-3)


def test_the_lengths_differ_so_that_stages_matter(engine: TransformersEngine) -> None:
    assert len({len(c.ids) for c in engine.answer(prompts(engine), MOST)}) > 1


@pytest.mark.parametrize("way", ["in stages", "at once"])
def test_a_watch_ends_one_answer_and_leaves_its_neighbours(
    engine: TransformersEngine, directions: Directions, way: str
) -> None:
    asked = prompts(engine)
    whole = engine.answer(asked, MOST)
    longest = max(range(len(whole)), key=lambda row: len(whole[row].ids))
    seen: dict[int, list[int | None]] = {}
    numbers: dict[int, list[Shares]] = {}

    def watch(row: int, token: int | None, latest: Shares) -> bool:
        seen.setdefault(row, []).append(token)
        numbers.setdefault(row, []).append(latest)
        return row == longest and len(seen[row]) == 6  # what is read at the fifth token written

    if way == "in stages":
        found = engine.answer(asked, MOST, directions=directions, watch=watch)
    else:
        found = engine.answer_and_close(asked, MOST, directions=directions, watch=watch).completions
    ended = found[longest]
    assert ended.stopped
    assert ended.finish == "length"
    assert ended.ids == whole[longest].ids[:5]
    assert ended.shares is not None
    assert len(ended.shares) == 6
    for row, (completion, told) in enumerate(zip(found, whole, strict=True)):
        assert seen[row][0] is None
        if row != longest:
            assert replace(completion, shares=None) == told
            assert seen[row][1:] == told.ids[: len(seen[row]) - 1]
        assert completion.shares is not None
        np.testing.assert_array_equal(np.stack(numbers[row]), completion.shares[: len(numbers[row])])


def test_a_watch_that_ends_at_the_last_token_leaves_the_answer_whole(
    engine: TransformersEngine, directions: Directions
) -> None:
    asked = prompts(engine)
    whole = engine.answer(asked, MOST)
    row = next(row for row, c in enumerate(whole) if c.finish == "stop" and c.ids)
    count = 0

    def watch(at: int, token: int | None, latest: Shares) -> bool:
        nonlocal count
        count += at == row
        return at == row and count == len(whole[row].ids) + 1

    found = engine.answer(asked, MOST, directions=directions, watch=watch)[row]
    assert found.stopped
    assert found.finish == "stop"
    assert found.ids == whole[row].ids


def test_directions_side_by_side_read_what_each_reads(engine: TransformersEngine, directions: Directions) -> None:
    other = Directions((engine.depth,), directions.weight[:1, :, :1], np.array([3.0], np.float32))
    asked = prompts(engine)
    both = engine.answer(asked, MOST, directions=Directions.joined([other, directions]))
    alone = [engine.answer(asked, MOST, directions=one) for one in (other, directions)]
    for completion, first, second in zip(both, *alone, strict=True):
        assert completion.shares is not None
        assert first.shares is not None
        assert second.shares is not None
        np.testing.assert_allclose(completion.shares, np.hstack([first.shares, second.shares]), rtol=1e-4, atol=1e-4)
