"""What training leaves on disk: an ordinary checkpoint, ``confide.json`` and the readout's arrays beside it.

The ask tokens are rows of the input embeddings, the verdict the difference of two rows of the output layer, so
that any engine can read it. What reads middle layers (probe, stack) lives in ``confide.safetensors`` and works
in process only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.files import read_text, write_text
from confide.methods.reader.reader import Reader
from confide.methods.stack.probe import Probe
from confide.methods.stack.stack import Stack
from confide.signals import CONFIDENCE, GRADED, add_to, graded_ids, token_ids
from confide.sources import SHUFFLED

if TYPE_CHECKING:
    from confide.methods.stack.states import States
    from confide.records import Record

Arrays = dict[str, NDArray[Any]]
ABOUT, ARRAYS = "confide.json", "confide.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The learned parts of a trained folder; all empty for a model that was never trained.

    ``probes`` maps the source ``probe`` and single positions (``probe@closing``) to what was chosen on validation;
    ``compared`` holds the arrays of readers that are no vocabulary rows (``reader_random``, ``p_true_trained``).
    """

    about: dict[str, Any] = field(default_factory=dict)
    stack: Stack | None = None
    reader: Reader | None = None
    probes: Mapping[str, Probe] = field(default_factory=dict)
    compared: Mapping[str, Arrays] = field(default_factory=dict)

    @property
    def method(self) -> str | None:
        """How the signal was trained: ``reader``, ``self_ref``, ``stated``, or None."""
        method = self.about.get("signals", {}).get(CONFIDENCE.name, {}).get("method")
        return None if method is None else str(method)

    @property
    def statement(self) -> str | None:
        """How the model states its confidence: ``graded``, ``tagged``, or None where it was not trained to."""
        statement = self.about.get("signals", {}).get(CONFIDENCE.name, {}).get("statement")
        return None if statement is None else str(statement)

    @property
    def prompts(self) -> list[list[dict[str, str]]]:
        """The leading messages (system line, worked examples) that training rows carried."""
        return list(self.about.get("prompts", []))

    @property
    def suffix(self) -> str:
        """What the names of its learned sources end in: one trained on shuffled labels says by which seed."""
        seed = self.about.get("shuffled_labels")
        return "" if seed is None else f"{SHUFFLED}_{seed}"

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that stack and probes read."""
        views = [layer for probe in self.probes.values() for layer in probe.view.layers]
        return tuple(sorted({*views, *(self.stack.layers if self.stack else ())}))

    def read(self, states: States, records: Sequence[Record]) -> dict[str, NDArray[np.float64]]:
        """Confidences [n] (NaN: not available) by source from the states of answered records.

        With a stack, ``familiarity`` [n] is among them.
        """
        found: dict[str, NDArray[np.float64]] = {}
        if self.stack is not None:
            reading = self.stack.read(states, records)
            found = {
                "stack": reading.confidence,
                "probe": reading.probe,
                "probe_logprobs": reading.ungated,
                "familiarity": reading.familiarity,
            }
        return found | {name: 1 / (1 + np.exp(-probe.z(states))) for name, probe in self.probes.items()}

    @contextmanager
    def readers(self, engine: TransformersEngine, names: Sequence[str]) -> Iterator[dict[str, Reader]]:
        """The readers ``names`` by name, ready to read; low-rank weights leave the model again at the end."""
        found = {"reader": self.reader} if self.reader is not None and "reader" in names else {}
        try:
            for name in self.compared:
                if name in names:
                    found[name] = Reader.from_arrays(engine, self.compared[name])
            yield found
        finally:
            for reader in found.values():
                if reader.low_rank is not None:
                    reader.low_rank.remove()

    def on(self, engine: TransformersEngine) -> Checkpoint:
        """This checkpoint with its reader taken from the engine's vocabulary rows."""
        if self.method != "reader" or not self.about["signals"][CONFIDENCE.name]["reads"]:
            return self
        asks = len(self.about["signals"][CONFIDENCE.name]["ask_ids"])
        return replace(self, reader=reader_from_rows(engine, asks))


def save_checkpoint(
    folder: Path,
    engine: TransformersEngine,
    *,
    reader: Reader | None,
    stack: Stack,
    about: dict[str, Any],
    probes: Mapping[str, Probe] | None = None,
    compared: Mapping[str, Arrays] | None = None,
) -> None:
    """Write model, tokenizer, ``confide.json`` and arrays to ``folder``; the engine's model gains the new rows."""
    from safetensors.numpy import save_file

    model, tokenizer = engine.model, engine.tokenizer
    asks = len(reader.ask) if reader else 0
    ids = add_to(model, tokenizer, CONFIDENCE, ask_tokens=asks)
    if reader is not None:
        write_rows(model, ids.cn, ids.un, ids.ask, reader)
    # Servers that read this (vLLM does not) then never write a new token into an answer.
    model.generation_config.suppress_tokens = sorted(ids.all)
    folder.mkdir(parents=True, exist_ok=True)
    # Written last: a folder with this file is whole.
    (folder / ABOUT).unlink(missing_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    view, arrays = stack.to_arrays()
    for name, probe in (probes or {}).items():
        arrays |= {f"probes/{name}/{key}": value for key, value in probe.arrays().items()}
    for name, parts in (compared or {}).items():
        arrays |= {f"readers/{name}/{key}": value for key, value in parts.items()}
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / ARRAYS)
    signal = {
        "method": "reader",
        "reads": reader is not None,
        "ask_tokens": asks,
        "verdict_ids": dict(zip(CONFIDENCE.verdict, (ids.cn, ids.un), strict=True)),
        "ask_ids": list(ids.ask),
        "reads_at": "the last ask token after the closed answer",
    }
    data = {
        "schema": 1,
        "signals": {CONFIDENCE.name: signal},
        "stack": view,
        "probes": {name: probe.about() for name, probe in (probes or {}).items()},
        "versions": {name: version(name) for name in ("confide", "torch", "transformers", "scikit-learn")},
        **about,
    }
    write_text(folder / ABOUT, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read ``confide.json`` and arrays; a folder without them is a plain model. Broken ones raise `ConfideError`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / ABOUT).exists():
        return Checkpoint()
    try:
        about = json.loads(read_text(folder / ABOUT))
        if about.get("schema") != 1:
            raise ConfideError(f"{folder / ABOUT} has schema {about.get('schema')!r}; this version reads schema 1")
        arrays = load_file(folder / ARRAYS) if (folder / ARRAYS).exists() else {}
        stack = Stack.from_arrays(about["stack"], arrays) if arrays else None
        saved = _parts(arrays, "probes/")
        probes = {name: Probe.from_arrays(about["probes"][name], parts) for name, parts in saved.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise ConfideError(f"{folder} is not a readable confide checkpoint: {error}") from None
    return Checkpoint(about, stack, probes=probes, compared=_parts(arrays, "readers/"))


def _parts(arrays: Arrays, prefix: str) -> dict[str, Arrays]:
    """Arrays named ``prefix`` + name/key as {name: {key: array}}."""
    found: dict[str, Arrays] = {}
    for full, value in arrays.items():
        if full.startswith(prefix):
            name, key = full.removeprefix(prefix).split("/", 1)
            found.setdefault(name, {})[key] = value
    return found


def write_rows(model: Any, cn: int, un: int, asks: tuple[int, ...], reader: Reader) -> None:
    """Put a reader into vocabulary rows: mean row ± half the verdict direction, and the ask embeddings.

    The mean row's logit is the mean of all logits, far below the likeliest token's, so a verdict is not written by
    chance where an engine does not suppress it; what the two rows share cancels in z.
    """
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        half = reader.verdict.to(head.device).float() / 2
        mean = head[:cn].float().mean(0)
        head[cn] = (mean + half).to(head.dtype)
        head[un] = (mean - half).to(head.dtype)
        for row, ask in zip(asks, reader.ask, strict=True):
            embedding[row] = ask.to(embedding)


def reader_from_rows(engine: TransformersEngine, ask_tokens: int | None = None) -> Reader:
    """The reader whose rows an engine's model carries (``ask_tokens`` None: all that there are)."""
    ids = token_ids(engine.tokenizer, CONFIDENCE, ask_tokens)
    head = engine.model.get_output_embeddings().weight.detach()
    ask = engine.model.get_input_embeddings().weight.detach()[list(ids.ask)].float()
    return Reader(ask.clone(), head[ids.cn].float() - head[ids.un].float())


def export_checkpoint(folder: Path, out: Path) -> dict[str, int]:
    """Copy a trained folder as an ordinary checkpoint; returns the new tokens' names and ids."""
    checkpoint = load_checkpoint(folder)
    if not checkpoint.about:
        raise ConfideError(f"{folder} was not trained by confide: it has no {ABOUT}")
    if out.exists() and any(out.iterdir()):
        raise ConfideError(f"{out} is not empty")
    model, tokenizer = load_model(str(folder))
    if checkpoint.statement:
        names = dict(zip(GRADED, graded_ids(tokenizer), strict=False))  # tagged text takes no tokens
    else:
        ids = token_ids(tokenizer)
        names = dict(zip([*CONFIDENCE.verdict, *CONFIDENCE.ask_tokens(len(ids.ask))], ids.all, strict=True))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    signal = checkpoint.about["signals"]
    about = {key: checkpoint.about[key] for key in ("schema", "base_model", "versions") if key in checkpoint.about}
    write_text(out / ABOUT, json.dumps({**about, "signals": signal}, indent=1) + "\n")
    return names
