"""Rows at once: fixed on a CPU, by the memory's size on an accelerator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from confide.engines.transformers.batches import FEW, MOST_ROWS, ROWS, group_batches, group_by_prefix, rows_at_once
from tiny_model import tiny_model


def test_a_cpu_takes_the_same_rows_whatever_the_model() -> None:
    model, _ = tiny_model()
    assert rows_at_once(model, torch.device("cpu")) == ROWS


@pytest.mark.parametrize("memory", [1, 10**8, 10**10, 10**12])
def test_an_accelerator_takes_what_its_memory_has_room_for(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny_model()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory))
    config = model.config
    row = 512 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * model.dtype.itemsize
    found = rows_at_once(model, torch.device("cuda"))
    assert found == max(1, min(MOST_ROWS, memory // 16 // row))
    assert 1 <= found <= MOST_ROWS


def test_prompts_are_grouped_by_how_they_start() -> None:
    first, second = [1] * 20, [2] * 30
    prompts = [[*first, 5, 6], [*second, 7], [*first, 8], [9, 9, 9], [*second, 3, 4], [4, 4], [7, 8, 9]]
    groups, prefixes = group_by_prefix(prompts)
    assert groups[0] == groups[2]
    assert groups[1] == groups[4]
    assert len({groups[0], groups[1], groups[3]}) == 3
    assert prefixes[groups[0]] == first
    assert prefixes[groups[1]] == second
    assert prefixes[groups[3]] == []
    assert groups[3] == groups[5] == groups[6]  # alone, so batched together


def test_many_groups_of_a_few_prompts_run_together() -> None:
    large = [[0] * 64 + [1 + row] for row in range(FEW)]
    pairs = [[start] * 20 + [row] for start in range(1, FEW + 2) for row in (100, 101)]
    groups, prefixes = group_by_prefix(large + pairs)
    assert len(set(groups[:FEW])) == len(set(groups[FEW:])) == 1
    assert [prefixes[group] for group in (groups[0], groups[-1])] == [[0] * 64, []]
    groups, prefixes = group_by_prefix(large + pairs[2:])  # a few such pairs are read apart
    assert len(set(groups)) == 1 + FEW


def test_groups_that_share_little_more_than_all_do_run_together() -> None:
    prompts = [[0] * 10 + [start] * 4 + list(range(row, row + 10)) for start in range(1, FEW + 2) for row in range(30)]
    groups, prefixes = group_by_prefix(prompts)
    assert set(groups) == {0}
    assert prefixes == [[0] * 10]
    assert group_by_prefix(prompts[::30]) == ([0] * (FEW + 1), [[]])  # so little is not worth a pass of its own
    longer = [[0] * 10 + [start] * 20 + list(range(row, row + 10)) for start in range(1, FEW + 2) for row in range(30)]
    groups, prefixes = group_by_prefix(longer)
    assert len(set(groups)) == FEW + 1
    assert prefixes[groups[0]] == [0] * 10 + [1] * 20


def test_batches_stay_within_groups_and_hold_every_row_once() -> None:
    batches = group_batches([0, 1, 0, 1, 1, 0], [3, 1, 2, 5, 0, 1], 2)
    assert batches == [[5, 2], [0], [4, 1], [3]]
