"""The one pass over closed answers that all reading methods share: own, exchanged and sampled answers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from confide.engines.closed_records import measure_options, read_closed, with_token_scores
from confide.methods.confidence_model import ConfidenceModel
from confide.methods.exchanged_answers import sampled_answers, swapped, unmeasured
from confide.methods.free import MEASURED, free_columns
from confide.methods.method import ClosedMethod, Column, Method
from confide.methods.score_sheet import Sheet
from confide.numeric import Floats
from confide.progress import Progress
from confide.records import Cost, Record
from confide.sources import Source

if TYPE_CHECKING:
    from confide.engines.engine import ClosedAnswers
    from confide.engines.transformers.transformers_engine import TransformersEngine


@dataclass
class ReadBatch:
    """What was read of a batch of closed answers.

    Attributes:
        records: the batch, with measured token scores where it had none.
        columns: source → confidences [batch], ``familiarity`` where a method knows it.
        seconds: by method, what it took beside the pass that all share.
        fed: by method, the tokens that it fed.
    """

    records: list[Record]
    columns: dict[str, Floats]
    seconds: list[float]
    fed: list[int]


class ReadAnswers(Protocol):
    """What reads closed answers: `read_answers` in this process, or somebody who has others do it."""

    def __call__(
        self,
        model: ConfidenceModel,
        records: Sequence[Record],
        methods: Sequence[ClosedMethod],
        free: Sequence[str] = (),
        *,
        progress: Progress | None = None,
    ) -> tuple[list[Record], dict[str, Column]]:
        """As `read_answers`."""
        ...


def read_answers(
    model: ConfidenceModel,
    records: Sequence[Record],
    methods: Sequence[ClosedMethod],
    free: Sequence[str] = (),
    *,
    progress: Progress | None = None,
) -> tuple[list[Record], dict[str, Column]]:
    """Read every record's closed answer with all ``methods``, and measure the free sources ``free``.

    Returns:
        The n records, with measured token scores where they had none; and by source confidences [n] and what a reading
        adds to an answer that this engine has just written. ``familiarity`` is among them where a method knows it.
    """
    engine = model.engine
    layers, measure = needed(methods, records)
    read = (
        (rows, read_batch(engine, closed, [records[i] for i in rows], methods))
        for rows, closed in read_closed(engine, records, layers, measure=measure, progress=progress)
    )
    return joined_batches(records, methods, free, read)


def needed(methods: Sequence[ClosedMethod], records: Sequence[Record]) -> tuple[list[int], bool]:
    """The layers that ``methods`` read, and whether token scores of ``records`` are to be measured."""
    return sorted({layer for method in methods for layer in method.layers_}), any(not r.logprobs for r in records)


def read_batch(
    engine: TransformersEngine, closed: ClosedAnswers, records: Sequence[Record], methods: Sequence[ClosedMethod]
) -> ReadBatch:
    """Read a batch of ``closed`` answers with all ``methods``."""
    rows = zip(records, closed.completions, strict=True)
    measured = [record if record.logprobs else with_token_scores(record, completion) for record, completion in rows]
    read = ReadBatch(measured, {}, [], [])
    engine.wait()
    for method in methods:
        began = time.monotonic()
        read.columns |= method.read_batch(closed, measured)
        read.seconds.append(time.monotonic() - began)
        read.fed.append(method.fed(closed))
    return read


def joined_batches(
    records: Sequence[Record],
    methods: Sequence[ClosedMethod],
    free: Sequence[str],
    read: Iterable[tuple[Sequence[int], ReadBatch]],
) -> tuple[list[Record], dict[str, Column]]:
    """What `read_answers` returns, from the row numbers of each batch and what was read of it."""
    measured = list(records)
    values: dict[str, Floats] = defaultdict(lambda: np.full(len(records), np.nan))
    seconds, fed = [0.0] * len(methods), [0] * len(methods)
    for rows, batch in read:
        for i, record in zip(rows, batch.records, strict=True):
            measured[i] = record
        for name, column in batch.columns.items():
            values[name][list(rows)] = column
        seconds = [a + b for a, b in zip(seconds, batch.seconds, strict=True)]
        fed = [a + b for a, b in zip(fed, batch.fed, strict=True)]
    n = max(1, len(records))
    columns = {
        source: Column(values[source], Cost(tokens=tokens / n, seconds=spent / n))
        for method, spent, tokens in zip(methods, seconds, fed, strict=True)
        for source in (*method.wanted_, "familiarity")
    }
    return measured, columns | free_columns(measured, free)


def read_closed_answers(
    sheet: Sheet,
    methods: Sequence[ClosedMethod],
    seeing_text: Sequence[Method],
    *,
    samples: bool = False,
    controls: bool = False,
    read: ReadAnswers = read_answers,
) -> None:
    """Fill a sheet with what is read of closed answers.

    Args:
        methods: the methods that read them.
        seeing_text: fitted methods that see text and tokens alone: they too read the sampled answers.
        samples: also read the sampled answers of the rows that are reported on.
        controls: also read these rows' answers under another question, as ``<source>_swapped``.
        read: what reads the answers.
    """
    scope, model = sheet.scope, sheet.scope.model
    learned = [source for method in methods for source in method.wanted_]
    free = [source for method in seeing_text for source in method.wanted_ if source in MEASURED]
    if model is None or (not learned and not (free and (scope.other_model or samples or controls))):
        return
    new, tested = sheet.new, sheet.tested
    own = measure_options(model.engine, [unmeasured(r) for r in new]) if scope.other_model else new
    drawn, places = sampled_answers([own[i] for i in tested] if samples else [])
    exchanged = swapped([own[i] for i in tested], scope.seed) if controls else []
    foreign = measure_options(model.engine, [record for record in exchanged if record])
    answers, columns = read(model, [*own, *foreign, *drawn], methods, free, progress=scope.progress)
    names = {s: sheet.named(model.named(s) if s in learned else s) for s in [*learned, *free]}
    n, m = len(own), len(own) + len(foreign)
    for source in [*learned, *(free if scope.other_model else ())]:
        sheet.put(names[source], _part(columns[source], 0, n), new)
        sheet.written.append(names[source])
    for source in [*learned, *free] if controls else ():
        if Source.parse(source).position is None:
            name = str(replace(Source.parse(names[source]), swapped=True))
            rows = [new[i] for i, record in zip(tested, exchanged, strict=True) if record]
            sheet.put(name, _part(columns[source], n, m), rows)
    if names.get("stack") == "stack":
        for record, near in zip(new, columns["familiarity"].values[:n].tolist(), strict=True):
            record.familiarity = round(near, 6)
    if samples:
        by_name = {names[source]: columns[source].values for source in names}
        for method in seeing_text:
            by_name |= {s: c.values for s, c in method.read(answers).items() if s not in MEASURED}
        for (place, number), index in places.items():
            row = tested[place]
            _fill_sample(new[row], number, by_name, row if index is None else m + index)


def _part(column: Column, start: int, stop: int) -> Column:
    return Column(column.values[start:stop], column.cost)


def _fill_sample(record: Record, number: int, columns: Mapping[str, Floats], at: int) -> None:
    """Write what stands at one place of the columns into one of the record's samples."""
    values = {name: float(column[at]) for name, column in columns.items()}
    confidence = {name: None if np.isnan(value) else value for name, value in values.items()}
    samples = record.samples or []
    samples[number] = samples[number].model_copy(update={"confidence": samples[number].confidence | confidence})
