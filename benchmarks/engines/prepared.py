"""What the stages of this folder start from: graded answers, a checkpoint trained on them, and its export for vLLM."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import confide
from benchmarks.common import MODEL, Json, Work, load_engine, show_progress
from benchmarks.quality.study import QUESTIONS, dealt, geography_records
from confide.engines.transformers.loading import bundled_path
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.frozen.served_export import export_served
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.served_stack import SERVED, ServedStack, served_confidences
from confide.methods.stack.states import States
from confide.records import Record, read_records
from confide.tasks import Task, load_task
from confide.tasks.marking import mark
from vllm_server import Server, vllm_server

FLAGS = (
    "--max-num-seqs",
    "64",
    "--max-num-batched-tokens",
    "4096",
    "--served-model-name",
    "m",
    "small",
    "--kv-cache-memory-bytes",
    "1500000000",
)
"""The same for every server. All prompts under way fit 4096 tokens: a seed ends the CPU build while one is chunked."""

ROOM = 24
"""Tokens that an answer may have."""


@dataclass(frozen=True)
class Read:
    """An answer: its tokens and their log-probabilities, and the reading's z where there is one."""

    ids: list[int]
    logprobs: list[float]
    end_logprob: float | None
    z: float | None


class Prepared(Work):
    """The work folder. Rows come from the records of `quality`; no entity is in two of their parts."""

    def __init__(self, folder: Path, quality: Path, *, quick: bool = False):
        super().__init__(folder)
        self.quality = Work(quality)
        self.quick = quick
        sizes = (300, 60, 200, 20) if quick else (2500, 400, 1200, 1000)
        self.sizes = dict(zip(("train", "validation", "calibration", "test"), sizes, strict=True))

    @cached_property
    def rows(self) -> Mapping[str, list[Record]]:
        """Graded records by split."""
        so_far = self.quality.folder / "records.jsonl"
        records = read_records(so_far) if self.quick and so_far.exists() else geography_records(self.quality)
        return dealt([record for record in records if record.correct is not None], self.sizes)

    @cached_property
    def task(self) -> Task:
        """The task that grades."""
        return load_task("geography", limit=QUESTIONS, seed=0)

    @cached_property
    def trained(self) -> Path:
        """A checkpoint with a stack and its served variant."""
        out = self.folder / "trained"
        if not (out / "confide.json").exists():
            options = FrozenOptions()
            rows = self.rows
            progress = show_progress("training")
            train_confidence(load_engine(MODEL), rows["train"], rows["validation"], options, out, progress=progress)
        return out

    @cached_property
    def served(self) -> Path:
        """Its export for vLLM."""
        out = self.folder / "served"
        if not (out / "config.json").exists():
            print(export_served(self.trained, out), flush=True)
        return out

    @cached_property
    def file(self) -> ServedFile:
        """What the export says for whoever asks."""
        return ServedFile.load(self.served)

    @cached_property
    def model(self) -> FrozenModel:
        """The checkpoint in this process, in float32."""
        model = confide.load(self.trained, dtype="float32")
        assert isinstance(model, FrozenModel)
        return model

    @property
    def stack(self) -> ServedStack:
        """The served stack in this process."""
        assert self.model.parts.served is not None
        return self.model.parts.served

    def up(self, what: str, dtype: str = "float32", *, threads: int = 1) -> AbstractContextManager[Server]:
        """A running vLLM: ``plain``, on the model's own folder, or ``served``, with the plug-in."""
        folder = self.served if what == "served" else bundled_path()
        return vllm_server(folder, self.folder / f"vllm-{what}-{dtype}.log", dtype, *FLAGS, threads=threads)

    @contextmanager
    def both(self, dtype: str) -> Iterator[tuple[Server, Server]]:
        """Plain vLLM and the one with the plug-in."""
        assert self.served  # made before anything is up
        with self.up("plain", dtype) as plain, self.up("served", dtype) as served:
            yield plain, served

    # -- answers that are read ---------------------------------------------------------------------------------------

    def read_here(self, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> list[Read]:
        """The same answers, read in this process in float32."""
        engine, layers = self.model.engine, self.stack.reading.layers
        found: dict[int, Read] = {}
        keys = [(len(p) + len(a), p, len(a)) for p, a in zip(prompts, answers, strict=True)]
        for rows in engine.batches(list(prompts), keys=keys, progress=show_progress("reading in process")):
            closed = engine.closed([prompts[i] for i in rows], [answers[i] for i in rows], layers=layers, measure=True)
            values = self.stack.reading.z(States(layers, closed.states_before_closing()))
            for i, z, one in zip(rows, values.tolist(), closed.completions, strict=True):
                found[i] = Read(answers[i], one.logprobs, one.end_logprob, z)
        return [found[i] for i in range(len(prompts))]

    def as_records(self, rows: Sequence[Record], read: Sequence[Read]) -> list[Record]:
        """Graded records of other answers to the questions of ``rows``, with the served stack's confidence."""
        questions = {question.id: question for question in self.task.questions}
        made = []
        for row, one in zip(rows, read, strict=True):
            text = self.model.engine.decode(one.ids).strip()
            fresh = row.model_copy(
                update={
                    "answer": text,
                    "answer_ids": one.ids,
                    "logprobs": one.logprobs,
                    "end_logprob": one.end_logprob,
                    "finish": "length" if one.end_logprob is None else "stop",
                    "confidence": {},
                }
            )
            made.append(mark(self.task, questions[row.id], fresh))
        values = served_confidences(self.file.mixture, [one.z for one in read], made)
        return [
            record.model_copy(update={"confidence": {SERVED: value}})
            for record, value in zip(made, values, strict=True)
        ]


def wait_for_reading(port: int, seconds: float = 60) -> None:
    """Wait until the router on ``port`` says that vLLM gives the learned reading; it is ready before it has asked."""
    ends, told = time.monotonic() + seconds, {}
    while time.monotonic() < ends:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as reply:
            told = json.loads(reply.read())
        if told.get("reading") == "there":
            return
        time.sleep(0.2)
    raise SystemExit(f"the router has no learned reading: {told}")


def messages(row: Record) -> list[Json]:
    """The messages that ask a row's question."""
    return [message.model_dump(exclude_none=True) for message in row.messages]
