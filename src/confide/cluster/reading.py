"""Scoring on a cluster: workers read closed answers, the driver does what takes the whole file.

The traffic of answers is counted by the driver and travels with the method, and priors, floors and calibration are
fitted by the driver on all rows, so that their numbers are those of one machine. What was read is kept by batch, so
that the same command goes on where it ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from confide.cluster.ray_cluster import Block, Cluster
from confide.cluster.run_folder import RunFolder
from confide.engines.closed_records import closed_batches
from confide.engines.engine import prompt_and_answer
from confide.errors import ConfideError
from confide.files import locked, read_text, write_text
from confide.hashing import key_of_text, sha256_of_rows
from confide.methods import catalogue, scoring
from confide.methods.closed_pass import ReadBatch, joined_batches, needed, read_batch
from confide.methods.method import ClosedMethod, Column, Scope, or_nan, or_none
from confide.progress import Progress
from confide.records import Record, parse_lines, write_records

if TYPE_CHECKING:
    from confide.methods.confidence_model import ConfidenceModel
    from confide.methods.portable.portable_file import PortableFile

LoadModel = Callable[[str | None], "ConfidenceModel"]
"""Loads the model, on a device (None: the best there is)."""

ROWS = 10_000
"""Records in a file."""


@dataclass(frozen=True)
class RecordBlock:
    """What a worker is given: the records of a batch, what their prompts share with others, and the file for it."""

    records: list[Record]
    prefix: list[int]
    file: Path


@dataclass(frozen=True)
class Reading:
    """How blocks are read; called in a worker, it loads the model and gives what does it."""

    load: LoadModel
    name: str
    identity: str
    methods: Sequence[ClosedMethod]
    layers: Sequence[int]
    measure: bool

    def __call__(self) -> Callable[[RecordBlock], None]:
        """Load the model; raises `ConfideError` where it is another one on this machine."""
        model = self.load(None)
        if model.identity != self.identity:
            raise ConfideError(f"a Ray worker has another model ({model.identity}) than the driver ({self.identity})")
        model.engine.name = self.name
        methods = [method.moved(Scope([], model)) for method in self.methods]
        return lambda block: self._read(model, methods, block)

    def _read(self, model: ConfidenceModel, methods: Sequence[ClosedMethod], block: RecordBlock) -> None:
        engine = model.engine
        engine.forward.keep_prefixes([block.prefix])
        prompts, answers = zip(*(prompt_and_answer(engine, record) for record in block.records), strict=True)
        closed = engine.closed(prompts, answers, layers=self.layers, measure=self.measure)
        write_text(block.file, _written(read_batch(engine, closed, block.records, methods)))


@dataclass(frozen=True)
class ReadOnRay:
    """Reads closed answers on a cluster (`confide.methods.closed_pass.ReadAnswers`)."""

    cluster: Cluster
    load: LoadModel
    folder: Path

    def __call__(
        self,
        model: ConfidenceModel,
        records: Sequence[Record],
        methods: Sequence[ClosedMethod],
        free: Sequence[str] = (),
        *,
        progress: Progress | None = None,
    ) -> tuple[list[Record], dict[str, Column]]:
        """Read the answers, each batch as one machine reads it."""
        engine = model.engine
        layers, measure = needed(methods, records)
        batches: list[tuple[list[int], Block]] = []
        for rows, spans in closed_batches(engine, records):
            prefix = engine.forward.shared_prefix([prompt for prompt, _ in spans])[0]
            some, number = [records[i] for i in rows], len(batches)
            key = key_of_text("\n".join(record.id for record in some))
            file = self.folder / f"{number:06d}-{key}.json"
            batches.append((rows, Block(number, len(rows), RecordBlock(some, prefix, file), file)))
        self.folder.mkdir(exist_ok=True)
        travelling = [method.moved(Scope([])) for method in methods]
        reading = Reading(self.load, engine.name, model.identity, travelling, layers, measure)
        left = [block for _, block in batches if not block.file.exists()]
        seen, began, new = len(records) - sum(block.rows for block in left), time.monotonic(), 0
        for block in self.cluster.run(reading, left):
            new += block.rows
            if progress:
                rate = new / (time.monotonic() - began)
                progress(seen + new, len(records), f"{rate:.1f} answers/s, {self.cluster.workers} workers")
        read = ((rows, _read(block.file, block.work.records)) for rows, block in batches)
        return joined_batches(records, methods, free, read)


def score_on_ray(
    cluster: Cluster,
    load: LoadModel,
    model: ConfidenceModel,
    records: Sequence[Record],
    sources: Sequence[str],
    out: Path,
    *,
    samples: bool = False,
    calibrated: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    portable: PortableFile | None = None,
) -> list[Record]:
    """Add the confidences of ``sources``, whose answers workers read, and write the records to the folder ``out``.

    Args:
        load: loads in a worker what ``model`` is here.

    The other arguments and the records returned are those of `confide.methods.scoring.score`.

    Raises:
        ConfideError: what `score` refuses; ``out`` holds other files or was made with other settings; workers died.
    """
    folder = RunFolder(out.absolute())
    settings: dict[str, Any] = {"verb": "score", "records": sha256_of_rows(record.line() for record in records)}
    settings |= {"model": model.identity, "source": list(sources), "samples": samples, "calibrated": calibrated}
    settings |= {"seed": seed, "portable": portable.scored_by if portable else ""}
    with locked(folder.path):
        folder.begin(settings)
        scored = scoring.score(
            records,
            sources,
            model=model,
            samples=samples,
            calibrated=calibrated,
            seed=seed,
            progress=progress,
            portable=portable,
            read=ReadOnRay(cluster, load, folder.path / "_read"),
        )
        for number, start in enumerate(range(0, len(scored), ROWS)):
            write_records(folder.path / f"{number:06d}.parquet", scored[start : start + ROWS])
    return scored


def check_read_on_ray(sources: Sequence[str]) -> list[str]:
    """Which of ``sources`` a worker does not read: those that ask the model something besides the closed answers."""
    asking = [m for m in catalogue.METHODS if (m.by_model or m.needs) and not isinstance(m, ClosedMethod)]
    others = {source for method in asking for source in method.sources} | {"verifier"}
    return [source for source in sources if source in others]


def _written(batch: ReadBatch) -> str:
    """What was read of a batch, as JSON."""
    lines = [record.line() for record in batch.records]
    columns = {name: or_none(values) for name, values in batch.columns.items()}
    return json.dumps({"records": lines, "columns": columns, "seconds": batch.seconds, "fed": batch.fed})


def _read(file: Path, records: Sequence[Record]) -> ReadBatch:
    """What `_written` wrote of ``records``; raises `ConfideError` where it is of others."""
    data = json.loads(read_text(file))
    measured = parse_lines("\n".join(data["records"]), str(file))
    if [record.id for record in measured] != [record.id for record in records]:
        raise ConfideError(f"{file} is not of these records: choose another folder")
    columns = {name: np.asarray(or_nan(values)) for name, values in data["columns"].items()}
    return ReadBatch(measured, columns, data["seconds"], data["fed"])
