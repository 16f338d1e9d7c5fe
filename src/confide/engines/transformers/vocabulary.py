"""New tokens in a model's vocabulary: names in the tokenizer, rows in its embedding and output layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from confide.report_tokens import CONFIDENCE, GRADED, TokenIds, graded_ids, token_ids

if TYPE_CHECKING:
    from torch import Tensor, nn

PAD_ROWS_TO = 64  # matrix kernels are faster on such vocabularies


def add_to(model: Any, tokenizer: Any, ask_tokens: int = 0) -> TokenIds:
    """Add verdict and ask tokens to a tokenizer and a model; returns their ids.

    New rows, input and (when untied) output, start as the mean of the existing ones. Tokens that are already
    there keep their rows, so a second call changes nothing.
    """
    _add_names(model, tokenizer, [*CONFIDENCE.verdict, *CONFIDENCE.ask_tokens(ask_tokens)])
    return token_ids(tokenizer, ask_tokens)


def add_graded(model: Any, tokenizer: Any) -> list[int]:
    """Add the graded tokens to a tokenizer and a model, as `add_to` does; returns their ids, lowest grade first."""
    _add_names(model, tokenizer, GRADED)
    return graded_ids(tokenizer)


def write_verdict_rows(model: Any, ids: TokenIds, ask: Tensor, verdict: Tensor) -> None:
    """Put ask embeddings [m, width] and a verdict direction [width] into a model's vocabulary rows.

    The verdict's two rows are the mean row ± half the direction. The mean row's logit is the mean of all logits, far
    below the likeliest token's, so a verdict is not written by chance where an engine does not suppress it; what the
    two rows share cancels in z. A model that scales its logits wants a direction that undoes it.
    """
    import torch

    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        half = verdict.to(head.device).float() / 2
        mean = head[: ids.cn].float().mean(0)
        head[ids.cn] = (mean + half).to(head.dtype)
        head[ids.un] = (mean - half).to(head.dtype)
        for row, value in zip(ids.ask, ask, strict=True):
            embedding[row] = value.to(embedding)


def _add_names(model: Any, tokenizer: Any, names: Iterable[str]) -> None:
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
