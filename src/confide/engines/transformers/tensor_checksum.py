"""Checksums of a tensor and of a model, which depend on all of their numbers and cost one pass over them."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

SAMPLED = 4096
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(tensor: Tensor) -> bytes:
    """Shape, the sum of all numbers' bits and numbers spread over the whole tensor, as bytes.

    The sum is one of integers, so that it is the same on every device and with any number of threads. It sees a
    change anywhere; the numbers see an exchange of places.
    """
    bits = tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()]).flatten()
    some = bits[:: max(1, bits.numel() // SAMPLED)]
    text = f"{tuple(tensor.shape)} {int(bits.sum(dtype=torch.int64))} "
    return text.encode() + some.cpu().numpy().tobytes()


def weights_sha256(model: Any, words: int) -> str:
    """A hash over all weights of a model, of the embeddings and the output layer only the first ``words`` rows."""
    of_words = {layer.weight.data_ptr() for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    digest, seen = hashlib.sha256(), set()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.data_ptr() not in seen:  # tied weights are there twice
            seen.add(tensor.data_ptr())
            digest.update(f"{name} {tensor.dtype} ".encode())
            digest.update(checksum(tensor[:words] if tensor.data_ptr() in of_words else tensor))
    return digest.hexdigest()
