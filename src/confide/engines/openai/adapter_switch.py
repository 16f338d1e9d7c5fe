"""How requests switch the LoRA adapter that reads on and off, where a server applies it to all that do not say so.

vLLM knows an adapter by a model's name of its own. llama.cpp's server numbers its adapters, applies all of them unless
a request says otherwise, and knows kept keys and values by their tokens alone, not by the weights that made them: so
every request says what it wants, and none goes on from kept ones.
"""

from __future__ import annotations

from typing import Any

from confide.errors import ConfideError


def sent_always(engine: str, adapter: str | None) -> dict[str, Any]:
    """Fields of every request for words, without which the adapter might write them; raises `ConfideError`."""
    return switched(adapter, on=False) if engine == "llama.cpp" and adapter is not None else {}


def switched(adapter: str, *, on: bool) -> dict[str, Any]:
    """Fields of a request to llama.cpp's server with the adapter of this number on or off; raises `ConfideError`."""
    if not (adapter.isascii() and adapter.isdigit()):
        raise ConfideError(f"llama.cpp's server numbers its adapters from 0 (/lora-adapters): {adapter!r} is no number")
    return {"lora": [{"id": int(adapter), "scale": float(on)}], "cache_prompt": False}
