"""Rows at once: fixed on a CPU, by the memory's size on an accelerator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from confide.engines.transformers.batches import MOST_ROWS, ROWS, rows_at_once
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
