"""New tokens: their rows start as the mean, keep what training made of them, and win no greedy choice."""

from __future__ import annotations

import pytest
import torch

from confide.engines.transformers.vocabulary import add_graded, add_to
from confide.report_tokens import token_ids
from tiny_model import tiny_model, tiny_tokenizer


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_of_the_old_ones(tied):
    model, tokenizer = tiny_model(tied=tied)
    known = len(tokenizer)
    old = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    ids = add_to(model, tokenizer)
    assert ids.all == list(range(known, known + 2))
    for layer, weight in zip((model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True):
        assert layer.weight.shape[0] % 64 == 0
        assert torch.equal(layer.weight[:known], weight)
        assert torch.allclose(layer.weight[known:], weight.mean(0).expand_as(layer.weight[known:]), atol=1e-6)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0]


def test_spare_rows_are_used_before_the_matrix_grows():
    known = len(tiny_tokenizer())
    model, tokenizer = tiny_model(rows=known + 7)
    old = model.get_input_embeddings().weight.detach().clone()
    ids = add_to(model, tokenizer)
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == known + 7
    assert torch.allclose(weight[ids.cn], old[:known].mean(0), atol=1e-6)


def test_adding_again_keeps_trained_rows():
    model, tokenizer = tiny_model()
    ids = add_to(model, tokenizer)
    with torch.no_grad():
        model.get_input_embeddings().weight[ids.cn] += 1
    kept = model.get_input_embeddings().weight.detach().clone()
    assert add_to(model, tokenizer) == ids
    assert torch.equal(model.get_input_embeddings().weight, kept)
    add_graded(model, tokenizer)
    assert token_ids(tokenizer) == ids
    assert torch.equal(model.get_input_embeddings().weight[[ids.cn, ids.un]], kept[[ids.cn, ids.un]])


def test_a_mean_row_never_wins_a_greedy_choice():
    model, tokenizer = tiny_model()
    known = len(tokenizer)
    add_to(model, tokenizer)
    logits = model(torch.randint(3, known, (8, 20))).logits
    assert bool((logits.argmax(-1) < known).all())
