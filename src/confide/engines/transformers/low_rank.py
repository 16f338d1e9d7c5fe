"""Low-rank weights that are active at the ask positions alone (activated LoRA): answers stay the base model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from confide.engines.transformers.turns import in_turn, lock_of

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


class LowRank:
    """Low-rank weights on all linear layers of an engine's model, off except inside `active`.

    `remove` leaves the model as it was.
    """

    def __init__(self, engine: TransformersEngine, rank: int):
        from peft import LoraConfig, inject_adapter_in_model

        self.model = engine.model
        self.lock = lock_of(engine.model)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=linear_layers(self.model))
        with self.lock:
            inject_adapter_in_model(config, self.model, adapter_name="ask")
            for parameter in self.parameters():
                parameter.data = parameter.data.float()
            self._switch(False)

    def parameters(self) -> list[Tensor]:
        """The trainable weights."""
        return list(self._named().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name, as they are saved."""
        return {name: p.detach().float().cpu().numpy() for name, p in self._named().items()}

    @classmethod
    def from_arrays(cls, engine: TransformersEngine, arrays: Mapping[str, NDArray[Any]]) -> LowRank:
        """Weights on the engine's model as `arrays` holds them."""
        low_rank = cls(engine, next(value.shape[0] for name, value in arrays.items() if "lora_A" in name))
        parameters = dict(low_rank.model.named_parameters())
        for name, value in arrays.items():
            parameters[name].data.copy_(torch.from_numpy(np.asarray(value)))
        return low_rank

    @contextmanager
    def active(self) -> Iterator[None]:
        """Forward passes inside use the low-rank weights, and those of other threads wait."""
        with self.lock:
            self._switch(True)
            try:
                yield
            finally:
                self._switch(False)

    @in_turn
    def remove(self) -> None:
        """Put the plain layers back."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for module in list(self.model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, BaseTunerLayer):
                    setattr(module, name, child.get_base_layer())
        vars(self.model).pop("peft_config", None)

    def _named(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.model.named_parameters() if "lora_" in name}

    def _switch(self, on: bool) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        for module in self.model.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(on)
        # Switching off also freezes; training needs the gradients back.
        for parameter in self.parameters():
            parameter.requires_grad_(True)


def linear_layers(model: Any) -> list[str]:
    """What the linear layers but the output layer are called; experts that are one block of numbers are none.

    PEFT's own "all-linear" adapts such blocks too, which neither the reader nor most servers can apply.
    """
    head = model.get_output_embeddings()
    linear = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return sorted({name.rpartition(".")[2] for name in linear})
