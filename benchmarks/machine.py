"""The machine that did a benchmark's model work, as its results name it."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from confide.files import write_text

FILE = "machine.json"


def about() -> dict[str, Any]:
    """What models run on here: the device in words, and versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    names = ("confide", "torch", "transformers", "peft", "scikit-learn", "numpy")
    return {"device": device, "python": platform.python_version(), "versions": {n: version(n) for n in names}}


def note(folder: Path) -> None:
    """Write what this machine is beside the work that it does: judging may happen elsewhere."""
    write_text(folder / FILE, json.dumps(about(), indent=1) + "\n")


def noted(folder: Path) -> dict[str, Any]:
    """What `note` wrote; empty where nobody has noted anything."""
    path = folder / FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def fitting(device: torch.device, on_cpu: int, on_cuda: int) -> int:
    """Rows a batch by where the model lives: an accelerator waits for its next kernel unless batches are large."""
    return on_cuda if device.type == "cuda" else on_cpu
