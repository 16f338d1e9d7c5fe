"""Tiny random models of many architectures: they scale, cap, tie or untie logits, slide windows and mix experts."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tiny_model import tiny_tokenizer

VLLM_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
"""vLLM's attention on a CPU wants heads of 32 numbers."""
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
_WINDOW = 12
"""Far shorter than the prompts of the tests, so that sliding layers forget."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {"tie_word_embeddings": False},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {},
    "Phi3": {},
    "Olmo2": {},
    "SmolLM3": {},
    "StableLm": {},
    "Glm4": {},
    "Mistral": {"sliding_window": _WINDOW},
    "Starcoder2": {"sliding_window": _WINDOW},
    "Gemma": {},
    "Gemma2": {"final_logit_softcapping": 3.0, "sliding_window": _WINDOW},
    "Gemma3Text": {"final_logit_softcapping": 2.0, "sliding_window": _WINDOW},
    "Granite": {"logits_scaling": 8.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "GraniteMoe": {"logits_scaling": 6.0, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Cohere": {"logit_scale": 0.0625},
    "Cohere2": {"logit_scale": 0.25, "sliding_window": _WINDOW},
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {"num_experts": 4, "shared_expert_intermediate_size": 32, **_EXPERTS},
    "Qwen3Moe": {"num_experts": 4, **_EXPERTS},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": _WINDOW, **_ROPE},
    "Exaone4": {"sliding_window": _WINDOW, "sliding_window_pattern": 4},
    "NanoChat": {"final_logit_softcapping": 4.0},
}
"""Name of an architecture, and what its tiny configuration has beside the sizes."""


def architecture(name: str, seed: int = 0, **sizes: int) -> tuple[Any, Any]:
    """A tiny random model of one architecture in float32, and its tokenizer; ``sizes`` take the place of the usual."""
    tokenizer = tiny_tokenizer()
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer), **_SIZES | sizes, **tokens, **ARCHITECTURES[name]
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    return model.float().eval(), tokenizer
