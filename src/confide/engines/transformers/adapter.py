"""A LoRA adapter in PEFT's format that is applied inside a context alone: outside it the model is the base model.

The model gains no module and keeps its weights' names, so its identity and what it saves stay those of the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from confide.engines.transformers.loading import freeze
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Adapter:
    """Low-rank weights for some linear layers.

    Attributes:
        config: PEFT's ``LoraConfig``.
        weights: by PEFT's names: ``base_model.model.LAYER.lora_A.weight`` [rank, inputs] and ``…lora_B.weight``
            [outputs, rank], in float32.
    """

    config: Any
    weights: Mapping[str, Tensor]

    @property
    def scale(self) -> float:
        """What the low-rank weights' product is multiplied by."""
        return float(self.config.lora_alpha / self.config.r)

    @classmethod
    def of(cls, adapted: Any) -> Adapter:
        """The adapter of a PEFT model, as it is now."""
        from peft import get_peft_model_state_dict

        state: dict[str, Tensor] = get_peft_model_state_dict(adapted)
        weights = {name: value.detach().float().cpu().clone() for name, value in state.items()}
        return cls(adapted.peft_config["default"], weights)

    @classmethod
    def taken_off(cls, adapted: Any) -> Adapter:
        """The adapter of a PEFT model, whose base is frozen, in evaluation mode and without it afterwards."""
        adapter = cls.of(adapted)
        freeze(trained(adapted.unload()))
        return adapter

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """Read a folder of PEFT's; raises `ConfideError` for what is none."""
        from peft import LoraConfig
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if not (folder / CONFIG).is_file():  # PEFT would ask the hub for a folder of this name
            raise ConfideError(f"{folder} is not a readable LoRA adapter: it has no {CONFIG}")
        try:
            config, weights = LoraConfig.from_pretrained(str(folder)), load_file(folder / WEIGHTS)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise ConfideError(f"{folder} is not a readable LoRA adapter: {error}") from None
        return cls(config, weights)

    def save(self, folder: Path) -> None:
        """Write the adapter as PEFT would, so that whatever loads such folders serves it."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.config.save_pretrained(str(folder))
        save_file(dict(self.weights), folder / WEIGHTS)

    @contextmanager
    def active(self, engine: TransformersEngine) -> Iterator[None]:
        """Forward passes of the engine's model inside use the adapter, and those of other threads wait.

        Raises:
            ConfideError: the adapter is for layers that the model does not have.
        """
        layers = dict(engine.model.named_modules())
        with engine.lock, engine.forward.apart(), ExitStack() as hooks:
            for name in sorted(key for key in self.weights if key.endswith(".lora_A.weight")):
                layer = layers.get(name.removeprefix(_PREFIX).removesuffix(".lora_A.weight"))
                down, up = self.weights[name], self.weights.get(name.replace(".lora_A.", ".lora_B."))
                if layer is None or up is None or (up.shape[0], down.shape[1]) != tuple(layer.weight.shape):
                    raise ConfideError(f"the adapter does not fit {engine.name}: {name}")
                device = layer.weight.device
                add = partial(_add, down=down.to(device), up=up.to(device), scale=self.scale)
                hooks.callback(layer.register_forward_hook(add).remove)
            yield


def trained(model: Any) -> Any:
    """A model after its training: in evaluation mode, and its trainer let go of."""
    model.__dict__.pop("forward", None)  # TRL's patch, which would keep the trainer's closure alive
    return model.eval()


def _add(_module: Any, inputs: tuple[Tensor, ...], output: Tensor, *, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """What PEFT's layer adds, in float32."""
    low = torch.nn.functional.linear(torch.nn.functional.linear(inputs[0].float(), down), up)
    return (output + low * scale).to(output.dtype)
