"""The Python API: load a trained model, get answers with a confidence, read answers that already exist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confide.arguments import shown
from confide.errors import ConfideError
from confide.methods.catalogue import model_kind
from confide.methods.checkpoint import CheckpointInfo, read_info
from confide.methods.confidence_model import Answer, ConfidenceModel

__all__ = ["Answer", "ConfidenceModel", "load"]


def load(
    path: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> ConfidenceModel:
    """Load a trained folder, or any model, whose confidence is then ``logprob_sum``.

    Args:
        path: a folder that ``confide train`` wrote, a model folder, a hub name, or ``smollm2``.
        dtype: the weights' type, by default ``bfloat16``.
        device: by default CUDA where there is one.
        chat_template_kwargs: what the chat template is given besides the messages, such as
            ``{"enable_thinking": False}``; by default what training rows had.

    Returns:
        A model that answers and says how sure it is.

    Raises:
        ConfideError: the folder is missing or broken, or the hub cannot be reached.

    >>> model = load("trained")  # doctest: +SKIP
    >>> model.answer("In which country is Lyon?").confidence  # doctest: +SKIP
    0.94
    """
    if not isinstance(path, str | Path):
        raise ConfideError(f"a model is given by the path of its folder or by its name, not {shown(path)}")
    if chat_template_kwargs is not None and not isinstance(chat_template_kwargs, Mapping):
        raise ConfideError(f"chat_template_kwargs is a mapping, not {shown(chat_template_kwargs)}")
    folder = Path(path).expanduser()
    name, info = (
        (str(folder), read_info(folder)) if str(path).strip() and folder.is_dir() else (str(path), CheckpointInfo())
    )
    return model_kind(info.confidence.method).load(
        name, info, dtype=dtype, device=device, chat_template_kwargs=chat_template_kwargs
    )
