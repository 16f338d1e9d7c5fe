"""Classes ``Confide<Architecture>``: a model of vLLM that reads its own middle layers while it answers.

They override methods of the model class alone and patch nothing, so that scheduler, runner and sampler stay vLLM's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from confide_vllm import PREFIX
from confide_vllm.extra_ids import DIGITS, EXTRA, Fingerprint, extended, project, split, widen
from confide_vllm.refusals import cannot, wrong_export, wrong_version

_made: dict[str, type] = {}


def __getattr__(name: str) -> type:
    """The class of this name; vLLM asks for it by the string that was registered."""
    if not name.startswith(PREFIX):
        raise AttributeError(name)
    if name not in _made:
        base = _base(name.removeprefix(PREFIX))
        _made[name] = type(name, (Reading, base), {"__module__": __name__})
    return _made[name]


def _base(architecture: str) -> type:
    from vllm import ModelRegistry

    base: type = ModelRegistry.models[architecture].load_model_cls()
    return base


class Reading:
    """Mixin in front of a causal language model that can hand out the states of its middle layers."""

    def __init__(self, *, vllm_config: Any, prefix: str = "", **kwargs: Any):
        config = vllm_config.model_config.hf_config
        block = _checked(type(self), vllm_config)
        served, known = config.vocab_size, block["vocab_size"]
        if served != known + EXTRA:
            raise ValueError(f"config.json says vocab_size {served}, not {known} + {EXTRA}: export the folder again")
        config.vocab_size = known  # the weights have this many rows
        try:
            super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)  # type: ignore[call-arg]
        finally:
            config.vocab_size = served
        self._confide_known = known
        self.set_aux_hidden_state_layers(tuple(block["layers"]))  # type: ignore[attr-defined]
        arrays = load_file(os.path.join(vllm_config.model_config.model, block["arrays"]))
        self._confide_watch = Fingerprint()
        for name, array in arrays.items():
            self._confide_watch.add(name, array)
        arrays["fingerprint"] = torch.zeros(DIGITS)  # until the weights are there
        device = vllm_config.device_config.device
        for name, array in arrays.items():  # not persistent: a loader would look for them among the model's weights
            self.register_buffer(f"_confide_{name}", array.to(device), persistent=False)  # type: ignore[attr-defined]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> Any:
        """Load the model's weights, and take their fingerprint as they pass."""
        loaded = super().load_weights(self._confide_watch.watch(weights))  # type: ignore[misc]
        self._confide_fingerprint.copy_(torch.tensor(self._confide_watch.bytes()))  # type: ignore[attr-defined]
        return loaded

    def forward(self, input_ids: Tensor | None, *args: Any, **kwargs: Any) -> Any:
        """The final states with the shares of the reading beside them."""
        if input_ids is not None:  # ids past the vocabulary have no row; a client may send one all the same
            input_ids = input_ids.clamp(max=self._confide_known - 1)
        out = super().forward(input_ids, *args, **kwargs)  # type: ignore[misc]
        hidden, states = out
        return widen(hidden, project(states, self._confide_weight, self._confide_offset))  # type: ignore[attr-defined]

    def compute_logits(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
        """The model's logits and those that carry the reading; None on ranks that get none."""
        count = len(self._confide_offset)  # type: ignore[attr-defined]
        hidden, shares = split(hidden_states, count)
        logits = super().compute_logits(hidden, *args, **kwargs)  # type: ignore[misc]
        return None if logits is None else extended(logits, shares, self._confide_fingerprint)  # type: ignore[attr-defined]

    @property
    def compute_logits_local(self) -> Any:
        """Not there: sampling that is shared among ranks would go past `compute_logits`."""
        raise AttributeError("compute_logits_local")


def _checked(made: type, vllm_config: Any) -> dict[str, Any]:
    """The folder's ``confide`` block; raises ValueError with the first reason why it cannot be served."""
    import vllm
    from vllm.model_executor.models.interfaces import supports_eagle3

    model, speculative = vllm_config.model_config, vllm_config.speculative_config
    block = getattr(model.hf_config, "confide", None)
    reason = (
        wrong_version(vllm.__version__)
        or wrong_export(block, model.get_hidden_size())
        or cannot(
            architecture=made.__name__.removeprefix(PREFIX),
            hands_out_layers=supports_eagle3(made),
            pipeline=vllm_config.parallel_config.pipeline_parallel_size,
            drafter=None if speculative is None else speculative.method,
            quantization=model.quantization,
            mode=str(model.logprobs_mode),
        )
    )
    if reason is not None or not isinstance(block, dict):
        raise ValueError(reason)
    return block
