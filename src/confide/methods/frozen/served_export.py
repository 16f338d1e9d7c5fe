"""``confide export --for vllm``: a folder that vLLM serves with confide's plug-in, so that answers come with z.

It is the base model's folder: its weights are linked, its tokenizer and chat template are as they are. New are a
``config.json`` that names the plug-in's class, and what the plug-in and its clients read, in a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confide.engines.directions import Directions
from confide.engines.openai.exported_reader import FOLDER
from confide.engines.openai.learned_reading import EXTRA
from confide.engines.transformers.loading import resolve
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.files import locked, read_text, write_text, written_folder
from confide.methods.checkpoint import FILE as INFO
from confide.methods.checkpoint import read_info
from confide.methods.frozen.frozen_model import FrozenModel, load_parts
from confide.methods.frozen.served_file import FILE
from confide.methods.stack.served_stack import SERVED

ARRAYS = f"{FOLDER}/reading.safetensors"
PREFIX = "Confide"
"""What the plug-in's architectures start with."""

_BYTES = 4
_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")


def export_served(trained: Path, out: Path, base: str | None = None) -> str:
    """Write the folder, and say in words what it holds.

    Args:
        base: where the base model is, if it is no longer where training found it.

    Raises:
        ConfideError: the folder was not trained with a reading that an engine can give, its base model is not there, is
            another one or of a kind that cannot be served so, or ``out`` is not empty.
    """
    info = read_info(trained)
    if not info.trained:
        raise ConfideError(f"{trained} was not trained by confide: it has no {INFO}")
    if (served := load_parts(trained, info).served) is None:
        why = "train it again" if info.stack else "only `confide train stack` and `train reader` leave one"
        raise ConfideError(f"{trained} has no reading that vLLM can give: {why}")
    if info.shuffled_labels is not None:
        raise ConfideError(f"{trained} was trained on shuffled labels: a control is not served")
    if out.exists() and any(out.iterdir()):
        raise ConfideError(f"{out} is not empty")
    folder = _base_folder(base or info.base_model, trained)
    config, files = _read_config(folder), weight_files(folder)
    model = FrozenModel.load(str(trained), info)
    _check_base(folder, config, model.engine.sha256)
    signals = list(model.signals.values())
    parts = {name: reading for name, reading in model.part_readings.items() if reading.served is not None}
    of_parts = [reading.directions for reading in parts.values() if reading.directions is not None]
    directions = Directions.joined([served.reading.directions, *(one.directions for one in signals), *of_parts])
    shown = _fingerprint(files, directions)
    reading = {
        "vocabulary": config["vocab_size"],
        "positions": served.reading.positions,
        "offset": served.reading.offset.tolist(),
        "end_ids": model.engine.end_ids,
        "fingerprint": list(shown),
        **({"signals": [signal.rule.to_json() for signal in signals]} if signals else {}),
        **({"parts": {name: reading.positions for name, reading in parts.items()}} if parts else {}),
    }
    about = {"schema": 1, "version": version("confide"), "source": SERVED, "model": model.engine.name}
    about |= {"identity": model.identity, "reading": reading, "mixture": served.mixture.to_json()}
    about |= {"parts": {name: one.to_json() for name, one in parts.items()}} if parts else {}
    _write(out, folder, files, _served_config(config, directions), about, directions)
    carried = " and ".join([SERVED, *model.signals, *parts])
    return f"{out}: {carried} of {config['architectures'][0]} for vLLM with confide-vllm {version('confide')}, " + (
        f"layers {', '.join(map(str, directions.layers))}, fingerprint {shown.hex()}"
    )


def weight_files(folder: Path) -> list[Path]:
    """The weights of a model folder: those that its index names, or else its one file.

    Raises `ConfideError` for weights that are not safetensors.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(read_text(index))["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    files = [folder / name for name in names]
    if missing := [file.name for file in files if not file.exists()]:
        raise ConfideError(f"{folder} has no {missing[0]}: vLLM is given weights as safetensors, save the model so")
    return files


def _base_folder(name: str, trained: Path) -> Path:
    """The folder of the base model, also of one that the hub's cache has."""
    try:
        found = resolve(name)
        if not Path(found).is_dir():
            from huggingface_hub import snapshot_download

            found = snapshot_download(found, local_files_only=True)
    except (ConfideError, OSError, ValueError):
        raise ConfideError(f"the base model {name!r} of {trained} is not here: name its folder with --base") from None
    return Path(found)


def _read_config(folder: Path) -> dict[str, Any]:
    """A base model's configuration; raises `ConfideError` for one that the plug-in cannot serve."""
    config: dict[str, Any] = json.loads(read_text(folder / "config.json"))
    names = [str(name) for name in config.get("architectures") or []]
    if len(names) != 1 or not names[0].endswith("ForCausalLM"):
        told = ", ".join(names) or "no architecture"
        raise ConfideError(f"{folder} is {told}; a causal language model (…ForCausalLM) is wanted")
    if config.get("quantization_config"):
        raise ConfideError(f"{folder} is quantised: a reading of its layers was never compared, serve it unquantised")
    if not {"vocab_size", "hidden_size"} <= config.keys():
        raise ConfideError(f"{folder} keeps its sizes in a part of config.json, as models for images do: not served")
    return config


def _check_base(folder: Path, config: dict[str, Any], sha256: str) -> None:
    """Raise `ConfideError` unless a folder has the weights that were trained on, and as many rows as it says."""
    engine = TransformersEngine.load(str(folder))
    if engine.sha256 != sha256:
        raise ConfideError(f"{folder} has other weights than the base model that was trained on: name it with --base")
    if engine.vocabulary != config["vocab_size"]:
        raise ConfideError(f"{folder} has {engine.vocabulary} rows of tokens and says {config['vocab_size']}")


def _served_config(config: dict[str, Any], directions: Directions) -> dict[str, Any]:
    block = {
        "version": version("confide"),
        "vocab_size": config["vocab_size"],
        "hidden_size": directions.weight.shape[1],
        "layers": directions.layers,
        "arrays": ARRAYS,
    }
    architecture = PREFIX + config["architectures"][0]
    return config | {"architectures": [architecture], "vocab_size": config["vocab_size"] + EXTRA, "confide": block}


def _write(
    out: Path, base: Path, files: Sequence[Path], config: dict[str, Any], about: dict[str, Any], directions: Directions
) -> None:
    from safetensors.numpy import save_file

    with locked(out), written_folder(out, "config.json") as part:
        for path in base.iterdir():
            if path.suffix in _COPIED and path.is_file() and path.name not in ("config.json", INFO):
                shutil.copyfile(path, part / path.name)
        if (templates := base / "additional_chat_templates").is_dir():
            shutil.copytree(templates, part / templates.name)
        (part / FOLDER).mkdir()
        save_file(_arrays(directions), part / ARRAYS)
        write_text(part / FOLDER / FILE, json.dumps(about, indent=1) + "\n")
        for file in files:  # beside the others: what is moved there is given the mode of a new file
            _link(file, out / file.name)
        write_text(part / "config.json", json.dumps(config, indent=1) + "\n")


def _link(file: Path, target: Path) -> None:
    """A second name for a file, or a copy where it lies on another file system."""
    target.unlink(missing_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)


def _arrays(directions: Directions) -> dict[str, NDArray[np.float32]]:
    """The arrays by the names that the plug-in knows."""
    return {"weight": directions.weight, "offset": directions.offset}


def _fingerprint(files: Sequence[Path], directions: Directions) -> bytes:
    """What the plug-in finds of these weights and of these directions (its ``extra_ids.Fingerprint``)."""
    import torch

    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    lines = []
    for name, tensor in _tensors(files, directions):
        bits = tensor.contiguous().view(-1).view(integers[tensor.element_size()])
        lines.append(f"{name} {tuple(tensor.shape)} {tensor.dtype} {int(bits.sum(dtype=torch.int64))}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).digest()[:_BYTES]


def _tensors(files: Sequence[Path], directions: Directions) -> Iterator[tuple[str, Any]]:
    import torch
    from safetensors import safe_open

    for name, array in _arrays(directions).items():
        yield name, torch.from_numpy(array)
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                yield name, tensors.get_tensor(name)
