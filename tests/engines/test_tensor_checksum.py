"""A checksum of a tensor, and the identity of a model's weights that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from confide.engines.transformers.tensor_checksum import SAMPLED, checksum
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from tiny_model import tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool])
def test_one_number_anywhere_changes_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = torch.randn(5 * SAMPLED + 7).mul(4).to(dtype)
    before = checksum(tensor)
    assert checksum(tensor.clone()) == before
    for place in (0, 1, 2 * SAMPLED + 1, len(tensor) - 1):  # most of them are not among the numbers that are kept
        changed = tensor.clone()
        changed[place] = ~changed[place] if dtype == torch.bool else changed[place] + 1
        assert checksum(changed) != before


def test_order_shape_and_layout() -> None:
    tensor = torch.arange(12.0).reshape(3, 4)
    assert checksum(tensor.flip(0)) != checksum(tensor)
    assert checksum(tensor.reshape(4, 3)) != checksum(tensor)
    assert checksum(tensor.t().contiguous().t()) == checksum(tensor)
    assert checksum(torch.tensor(1.0)) != checksum(torch.tensor(2.0))
    assert checksum(torch.zeros(0)) == checksum(torch.zeros(0))


def engine(*, tied: bool = True, rows: int | None = None, seed: int = 0) -> TransformersEngine:
    return TransformersEngine(*tiny_model(tied=tied, rows=rows, seed=seed), "tiny")


def one_late_weight(tiny: TransformersEngine) -> None:
    tiny.model.model.layers[1].mlp.down_proj.weight.data[-1, -1] += 0.01


def a_word(tiny: TransformersEngine) -> None:
    tiny.model.get_input_embeddings().weight.data[len(tiny.tokenizer) - 1, 3] += 0.01


def precision(tiny: TransformersEngine) -> None:
    tiny.model.bfloat16()


@pytest.mark.parametrize("change", [one_late_weight, a_word, precision])
def test_any_change_of_the_weights_is_another_identity(change: Callable[[TransformersEngine], None]) -> None:
    tiny = engine()
    before = tiny.identity
    assert before == engine().identity
    assert before.startswith("weights=")
    assert before != engine(seed=1).identity
    change(tiny)
    assert tiny.identity != before


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 100])
def test_confides_own_tokens_leave_the_identity_as_it_is(tmp_path: Path, tied: bool, spare: int) -> None:
    rows = len(tiny_model()[1]) + spare if spare else None
    tiny = engine(tied=tied, rows=rows)
    before = tiny.identity
    add_to(tiny.model, tiny.tokenizer)
    assert tiny.identity == before
    tiny.save(tmp_path)
    assert TransformersEngine.load(str(tmp_path), dtype="float32").identity == before
