"""New tokens in a model's vocabulary: names in the tokenizer, rows in its embedding and output layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from confide.report_tokens import GRADED, TokenIds, graded_ids, token_ids
from confide.signals import CONFIDENCE

if TYPE_CHECKING:
    from torch import Tensor, nn

PAD_ROWS_TO = 64  # matrix kernels are faster on such vocabularies


def add_to(model: Any, tokenizer: Any) -> TokenIds:
    """Add the verdict tokens to a tokenizer and a model; returns their ids.

    New rows, input and (when untied) output, start as the mean of the existing ones. Tokens that are already
    there keep their rows, so a second call changes nothing.
    """
    add_names(model, tokenizer, CONFIDENCE.tokens)
    return token_ids(tokenizer)


def add_graded(model: Any, tokenizer: Any) -> list[int]:
    """Add the graded tokens to a tokenizer and a model, as `add_to` does; returns their ids, lowest grade first."""
    add_names(model, tokenizer, GRADED)
    return graded_ids(tokenizer)


def add_names(model: Any, tokenizer: Any, names: Iterable[str]) -> None:
    """Add tokens of these names, as `add_to` does."""
    missing = [name for name in names if name not in tokenizer.added_tokens_encoder]
    if missing:
        from transformers import AddedToken

        known = len(tokenizer)
        added = [AddedToken(name, special=True, normalized=False) for name in missing]
        tokenizer.add_tokens(added, special_tokens=True)
        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=PAD_ROWS_TO, mean_resizing=False)
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        _fill_with_mean(embedding, known)
        if head.weight is not embedding.weight:
            _fill_with_mean(head, known)


def _fill_with_mean(layer: nn.Module, known: int) -> None:
    # Spare rows too: the mean logit never exceeds the largest, so a mean row cannot win a greedy choice.
    for tensor in (layer.weight, getattr(layer, "bias", None)):
        if tensor is not None:
            values: Tensor = tensor.data  # type: ignore[assignment]
            values[known:] = values[:known].float().mean(0).to(values.dtype)
