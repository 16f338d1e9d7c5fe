"""Room: how many rows a device takes at once."""

from __future__ import annotations

from typing import Any

import torch

ROWS, MOST_ROWS, LONG = 64, 256, 512
"""Rows a pass on a CPU, the most on an accelerator, and the tokens that a long row is reckoned to have."""


def rows_at_once(model: Any, device: torch.device) -> int:
    """64 on a CPU; on an accelerator as many long rows as have their keys and values in a sixteenth of its memory.

    By the memory's size, not by what is free at the moment: the same batches on the same machine give the same
    numbers.
    """
    if device.type != "cuda":
        return ROWS
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row = LONG * 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    room = torch.cuda.get_device_properties(device).total_memory // 16
    return int(min(MOST_ROWS, max(1, room // row)))
