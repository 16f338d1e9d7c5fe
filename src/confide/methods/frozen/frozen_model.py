"""A frozen model with what was trained on top of it (stack, probes, a reader), and the methods that read these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from confide.engines.closed_records import with_token_scores
from confide.engines.directions import Directions
from confide.engines.engine import ClosedAnswers, Completion, Gone
from confide.errors import ConfideError
from confide.files import write_text
from confide.methods.along.along_reading import AlongReading, load_signals
from confide.methods.along.stop_watch import StopWatch, joined, traces
from confide.methods.answer_traffic import TrafficWindow, UnseenShare
from confide.methods.checkpoint import CheckpointInfo, SignalInfo, save_checkpoint
from confide.methods.confidence_model import Answer, ConfidenceModel
from confide.methods.free import free_confidence
from confide.methods.method import ClosedMethod, Scope
from confide.methods.parts.part_reading import PartReading, load_part_readings
from confide.methods.parts.told_parts import told_parts
from confide.methods.portable.answer_signals import AnswerSignals, Ground
from confide.methods.portable.portable_file import FILE as PORTABLE_FILE
from confide.methods.portable.portable_file import PORTABLE, PortableFile
from confide.methods.reader.reader import FOLDER as ADAPTER
from confide.methods.reader.reader import Reader
from confide.methods.stack.probe import Probe
from confide.methods.stack.served_stack import SERVED, ServedStack
from confide.methods.stack.stack import Stack
from confide.methods.stack.states import States
from confide.numeric import Floats, sigmoid
from confide.parts.answer_part import AnswerPart
from confide.records import Message, Record
from confide.signals import CONFIDENCE, PART_SIGNALS
from confide.sources import as_probability

if TYPE_CHECKING:
    from confide.engines.transformers.closed_answers import TransformersClosed
    from confide.engines.transformers.transformers_engine import TransformersEngine

Arrays = dict[str, NDArray[Any]]
ARRAYS = "confide.safetensors"
READS_AT = "after the token that closes the answer, in a pass with the adapter on"


@dataclass(frozen=True)
class FrozenParts:
    """What was trained on top of a frozen model; all empty for one that was never trained.

    Attributes:
        probes: the source ``probe`` and single positions (``probe@closing``) → what was chosen on validation.
        reader: the adapter that reads.
        served: the stack as an engine gives it that reads while it answers.
        portable: what the same rows teach without the model's states.
    """

    stack: Stack | None = None
    probes: Mapping[str, Probe] = field(default_factory=dict)
    reader: Reader | None = None
    served: ServedStack | None = None
    portable: PortableFile | None = None

    @property
    def signals(self) -> AnswerSignals | None:
        """The signals that stacks and the portable confidence share."""
        return None if self.portable is None else self.portable.mixture.signals

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that stack and probes read."""
        views = [layer for probe in self.probes.values() for layer in probe.view.layers]
        stacks = [*(self.stack.layers if self.stack else ()), *(self.served.reading.layers if self.served else ())]
        return tuple(sorted({*views, *stacks}))

    def read(
        self, closed: TransformersClosed, records: Sequence[Record], ground: Ground | None = None
    ) -> dict[str, Floats]:
        """Confidences [n] (NaN: not available) by source of answered records, whose `layers` ``closed`` has.

        With a stack, ``familiarity`` [n] is among them. ``ground`` is what `signals` say of the records; None: the
        records are each other's traffic.
        """
        states = States(self.layers, closed.states())
        columns = self.stack.read(states, records, ground) if self.stack else {}
        if self.served:
            before = States(self.layers, closed.states_before_closing())
            columns[SERVED] = self.served.read(before, records, ground)
        return columns | {name: sigmoid(probe.z(states)) for name, probe in self.probes.items()}


class FrozenModel(ConfidenceModel):
    """A base model that answers as it always did, and what reads it.

    Attributes:
        window: the latest answers, in whose traffic each one is read.
    """

    frozen = True
    parts = FrozenParts()

    def __init__(self, engine: TransformersEngine, info: CheckpointInfo, name: str = ""):
        super().__init__(engine, info, name)
        self.window = TrafficWindow()
        self.signals: dict[str, AlongReading] = {}
        self.part_readings: dict[str, PartReading] = {}
        self.part_windows = {signal: TrafficWindow() for signal in PART_SIGNALS}

    @classmethod
    def load(cls, path: str, info: CheckpointInfo, **options: Any) -> Self:
        """Load a trained folder or a plain model; what is broken is said before the weights are read."""
        parts = load_parts(Path(path), info) if info.trained else FrozenParts()
        model = super().load(path, info, **options)
        if info.reader.get("adapter"):
            parts = replace(parts, reader=Reader.load(model.engine, Path(path)))
        model.parts = parts
        if parts.portable is not None and not parts.portable.measured_by:
            model.portable = parts.portable
        if info.trained:
            model.signals = load_signals(Path(path), info.base_sha256)
            model.part_readings = load_part_readings(Path(path), info.base_sha256)
        return model

    @property
    def unseen(self) -> dict[str, UnseenShare]:
        """Of the latest answers, what training never saw; empty for a model that was never trained."""
        signals = self.parts.signals
        return {} if signals is None else signals.unseen(self.window.traffic)

    @contextmanager
    def _traffic_closed(self) -> Iterator[None]:
        with ExitStack() as closed:
            for window in (self.window, *self.part_windows.values()):
                closed.enter_context(window.closed())
            yield

    def _signal_parts(self) -> dict[str, str]:
        along = {name: reading.rule.scored_by for name, reading in self.signals.items()}
        return along | {name: reading.scored_by for name, reading in self.part_readings.items()}

    def _directions(self) -> Directions | None:
        """What is read along every answer: a column a signal, then those of each part reading."""
        along = [reading.directions for reading in self.signals.values()]
        of_parts = [reading.directions for reading in self.part_readings.values() if reading.directions is not None]
        return Directions.joined([*along, *of_parts]) if along or of_parts else None

    def _columns(self, part_signal: str) -> slice:
        """Which of these columns are of one part reading; none where it reads no states."""
        start = len(self.signals)
        for name, reading in self.part_readings.items():
            if name == part_signal:
                return slice(start, start + len(reading.positions))
            start += len(reading.positions)
        return slice(start, start)

    def _parts(self, signal: str, conversation: list[Message], answer: Answer) -> list[AnswerPart]:
        written, columns = answer.written, self._columns(signal)
        assert written is not None
        shares = None if written.shares is None or columns.start == columns.stop else written.shares[:, columns]
        reading, window = self.part_readings.get(signal), self.part_windows[signal]
        return told_parts(signal, conversation, written, reading, shares, window)

    def _trained_arrays(self) -> list[Any]:
        held = {"stack": self.parts.stack.to_arrays()[1]} if self.parts.stack else {}
        held |= {name: probe.arrays() for name, probe in self.parts.probes.items()}
        held |= {SERVED: self.parts.served.reading.arrays()} if self.parts.served else {}
        if (reader := self.parts.reader) is not None:
            held[ADAPTER] = reader.arrays() | {"scale": np.array(reader.adapter.scale)}
        beside = [["portable", self.parts.portable.scored_by]] if self.parts.portable else []
        return beside + [
            [name, key, np.asarray(array).dtype.str, np.asarray(array).tobytes().hex()]
            for name, arrays in sorted(held.items())
            for key, array in sorted(arrays.items())
        ]

    def _answer(
        self,
        conversations: Sequence[list[Message]],
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        gone: Gone | None,
        stop: Mapping[str, float],
    ) -> list[Answer]:
        readings = list(self.signals.values())
        watch = StopWatch(readings, stop, self.engine.decode) if stop else None
        closed = self.engine.answer_and_close(
            prompts, max_new_tokens, self.parts.layers, gone=gone, directions=self._directions(), watch=watch
        )
        answers = self._read_closed(closed, conversations, closed.completions)
        stopped = watch.stopped_by_ if watch else {}
        return [replace(answer, stopped_by=stopped.get(row)) for row, answer in enumerate(answers)]

    def _read(self, conversation: list[Message], prompt: list[int], completion: Completion) -> Answer:
        closed = self.engine.closed([prompt], [completion.ids], layers=self.parts.layers, measure=True)
        measured = replace(closed.completions[0], text=completion.text, reasoning=completion.reasoning)
        if self.signals:
            measured = self._along(prompt, completion, measured)
        return self._read_closed(closed, [conversation], [measured])[0]

    def _along(self, prompt: list[int], completion: Completion, measured: Completion) -> Completion:
        """A given answer with what the signals read along it, reasoning included."""
        before = completion.reasoning_ids
        written, asked = [*before, *completion.ids], prompt[: len(prompt) - len(before)]
        (read,) = self.engine.closed([asked], [written], directions=joined(list(self.signals.values()))).completions
        return replace(measured, shares=read.shares, reasoning_ids=before)

    def _read_closed(
        self,
        closed: TransformersClosed,
        conversations: Sequence[list[Message]],
        completions: Sequence[Completion],
    ) -> list[Answer]:
        records = [
            with_token_scores(Record(id="", messages=messages, answer=c.text, finish=c.finish), c)
            for messages, c in zip(conversations, completions, strict=True)
        ]
        sources: list[dict[str, float | None]] = [free_confidence(record) for record in records]
        familiarity: list[float | None] = [None] * len(records)
        columns: dict[str, Floats] = {}
        if self.parts.reader is not None:
            columns["reader"] = sigmoid(self.parts.reader.logits(closed))
        parts = self.parts
        ground = parts.signals.read(records, self.window) if parts.signals is not None else None
        if self.portable is not None and parts.portable is not None:
            columns[PORTABLE] = parts.portable.mixture.read(records, ground=ground)[0]
        if parts.layers:
            columns |= parts.read(closed, records, ground)
            familiarity = columns.pop("familiarity").tolist()
        for name, column in columns.items():
            for values, value in zip(sources, column.tolist(), strict=True):
                values[self.named(name)] = None if np.isnan(value) else value
        along = [traces(list(self.signals.values()), completion, self.engine.decode) for completion in completions]
        for values, told_along in zip(sources, along, strict=True):
            values |= {name: trace.lowest for name, trace in told_along.items()}
        best = next((name for name in ("stack", "reader", PORTABLE) if name in columns), None)
        source = "logprob_sum" if best is None else self.named(best)
        told = [None if (raw := values[source]) is None else float(as_probability(source, raw)) for values in sources]
        return [
            Answer(
                c.text,
                probability,
                source,
                near,
                c.finish,
                values,
                c.ids,
                completion_tokens=c.tokens,
                reasoning=c.reasoning,
                along=traced,
                written=c,
            )
            for c, probability, values, near, traced in zip(completions, told, sources, familiarity, along, strict=True)
        ]


class StackMethod(ClosedMethod):
    """``stack`` and what it is made of; trained by ``confide train stack``."""

    name = "stack"
    sources = ("stack", SERVED, "probe", "probe_logprobs", "probe@prompt_end", "probe@answer_last", "probe@closing")

    def available(self, scope: Scope) -> Sequence[str]:
        """What the checkpoint holds."""
        parts = _parts(scope)
        held = {*parts.probes, *(("stack", "probe", "probe_logprobs") if parts.stack else ())}
        held |= {SERVED} if parts.served else set()
        return [source for source in self.sources if source in held]

    def fit(self, scope: Scope) -> None:
        """Take what the checkpoint holds; the rows that are scored are each other's traffic, split by split."""
        self.parts_ = _parts(scope)
        self.layers_ = self.parts_.layers
        signals = self.parts_.signals
        self.traffic_ = None if signals is None else signals.traffic(scope.new)

    def moved(self, scope: Scope) -> Self:
        """A copy in the same traffic, with what the checkpoint of ``scope`` holds."""
        method = super().moved(scope)
        method.parts_ = _parts(scope)
        return method

    def read_batch(self, closed: ClosedAnswers, records: Sequence[Record]) -> Mapping[str, Floats]:
        """Confidences [batch] by source, and ``familiarity``."""
        signals = self.parts_.signals
        ground = None if signals is None else signals.read(records, self.traffic_)
        return self.parts_.read(cast("TransformersClosed", closed), records, ground)


class ReaderMethod(ClosedMethod):
    """``reader``; trained by ``confide train reader``."""

    name = "reader"
    sources = ("reader",)

    def available(self, scope: Scope) -> Sequence[str]:
        """Whether the checkpoint holds it."""
        return () if _parts(scope).reader is None else self.sources

    def fit(self, scope: Scope) -> None:
        """Take what the checkpoint holds."""
        reader = _parts(scope).reader
        assert reader is not None
        self.reader_ = reader

    def moved(self, scope: Scope) -> Self:
        """A copy with the adapter of the checkpoint of ``scope``."""
        method = super().moved(scope)
        method.reader_ = cast("Reader", _parts(scope).reader)
        return method

    def read_batch(self, closed: ClosedAnswers, records: Sequence[Record]) -> Mapping[str, Floats]:
        """The confidence [batch] that the verdict gives."""
        return {self.name: sigmoid(self.reader_.logits(cast("TransformersClosed", closed)))}

    def fed(self, closed: ClosedAnswers) -> int:
        """Tokens that reading a batch of closed answers feeds."""
        return self.reader_.fed(cast("TransformersClosed", closed))


def _parts(scope: Scope) -> FrozenParts:
    """What was trained on top of the model at hand."""
    return scope.model.parts if isinstance(scope.model, FrozenModel) else FrozenParts()


def save_frozen(folder: Path, engine: TransformersEngine, info: CheckpointInfo, parts: FrozenParts) -> None:
    """Write model, tokenizer, arrays and ``confide.json`` to ``folder``."""
    from safetensors.numpy import save_file

    reader, stack, portable = parts.reader, parts.stack, parts.portable
    assert stack is not None
    assert portable is not None
    about, arrays = stack.to_arrays()
    named: dict[str, Mapping[str, NDArray[Any]]] = {
        f"probes/{name}": probe.arrays() for name, probe in parts.probes.items()
    }
    update: dict[str, Any] = {}
    if parts.served is not None:
        update["served"], named[f"served/{SERVED}"] = parts.served.to_arrays()
    arrays |= {f"{name}/{key}": value for name, part in named.items() for key, value in part.items()}

    def save(staged: Path) -> None:
        engine.save(staged)
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, staged / ARRAYS)
        write_text(staged / PORTABLE_FILE, portable.text())
        if reader is not None:
            reader.adapter.save(staged / ADAPTER)

    signal = SignalInfo(method="reader", reads_at=READS_AT if reader else "")
    probes = {name: probe.about() for name, probe in parts.probes.items()}
    update |= {"signals": {CONFIDENCE.name: signal}, "stack": about, "probes": probes}
    save_checkpoint(folder, save, info.model_copy(update=update), ("scikit-learn",))


def load_parts(folder: Path, info: CheckpointInfo) -> FrozenParts:
    """Read what lies beside a frozen model's weights: stack, probes, ``portable``.

    Raises:
        ConfideError: the folder is broken, or its stack is of an earlier version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(folder / ARRAYS) if (folder / ARRAYS).exists() else {}
        portable = PortableFile.load(folder, control=True) if (folder / PORTABLE_FILE).exists() else None
        signals = portable.mixture.signals if portable else None
        stack = Stack.from_arrays(info.stack or {}, arrays, signals) if arrays else None
        saved = _by_name(arrays, "probes/")
        probes = {name: Probe.from_arrays(info.probes[name], parts) for name, parts in saved.items()}
        given = _by_name(arrays, "served/").get(SERVED)
        served = ServedStack.from_arrays(info.served or {}, given, signals) if given else None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        raise ConfideError(f"{folder} is not a readable confide checkpoint: {error}") from None
    return FrozenParts(stack, probes, None, served, portable)


def _by_name(arrays: Arrays, prefix: str) -> dict[str, Arrays]:
    """Arrays named ``prefix`` + name/key as {name: {key: array}}."""
    parts: dict[str, Arrays] = {}
    for full, value in arrays.items():
        if full.startswith(prefix):
            name, key = full.removeprefix(prefix).split("/", 1)
            parts.setdefault(name, {})[key] = value
    return parts
