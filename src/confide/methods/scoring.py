"""Scoring: the one entry point, which lets sources share the work that they have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.methods.catalogue import (
    ASKED,
    FLOORS,
    MEASURED,
    OUTSIDE,
    POSITIONED,
    READ,
    SAMPLED,
    STATED,
    TEXT,
    check_sources,
)
from confide.methods.exchanged_answers import SampledAnswers, sampled_answers, swapped, unmeasured
from confide.methods.free import FREE, OPTION, free_confidence
from confide.methods.reader.closed_rows import check_answered_by, check_labels
from confide.methods.sampled import Judge, sampling_cost, self_consistency, semantic_entropy
from confide.policies.calibrators import MIN_ROWS, PlattCalibrator
from confide.records import Cost, Record
from confide.sources import OTHER, SWAPPED, auxiliary

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.model import ConfidenceModel

Floats = NDArray[np.float64]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Options:
    """How records are scored.

    Args:
        verifier: another model, for the source ``verifier``.
        judge: what decides for ``semantic_entropy`` whether two answers mean the same; None: the task's grader.
        other_model: the records are another model's; what this one says of them is written as ``other_<source>``.
        samples: also read the sampled answers of the rows that are reported on, into ``Sample.confidence``.
        controls: add ``<source>_swapped``: the same answer read with another question.
        calibrated: add ``<source>_calibrated``, fitted on the validation rows.
        seed: of the floor ``shuffled`` and of the questions that ``controls`` exchanges.
    """

    verifier: TransformersEngine | None = None
    judge: Judge | None = None
    other_model: bool = False
    samples: bool = False
    controls: bool = False
    calibrated: bool = False
    seed: int = 0


def score(
    records: Sequence[Record],
    sources: Sequence[str],
    *,
    model: ConfidenceModel | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Add the confidences of ``sources`` (see `confide.scoring.SOURCES`) to copies of ``records``.

    Raises:
        ConfideError: an unknown source, or one that the model or the records cannot give (``all`` of the command
            line asks only for what there is); records of another model, unless ``other_model`` says so; answers to
            be read without a model.
    """
    options = options or Options()
    check_sources(sources, records, model, options.verifier is not None)
    if model is None and (options.samples or options.controls or options.other_model):
        raise ConfideError("--samples, --controls and --other-model read answers with a model: name it with --model")
    if model is not None and not options.other_model:
        check_answered_by(records, model.names)
    sheet = Sheet([record.model_copy(deep=True) for record in records], OTHER if options.other_model else "")
    for record in sheet.scored:
        free = free_confidence(record)
        record.confidence.update({name: free.get(name) for name in sources if name in (*FREE, OPTION)})
        record.cost.update({name: Cost() for name in sources if name in (*FREE, OPTION)})
    sheet.written += [name for name in sources if name in (*FREE, OPTION)]
    priors = {source: _prior(sheet, source) for source in sources if source in TEXT}
    for source, prior in priors.items():
        sheet.fill(source, prior.predict(sheet.new), Cost())
    _sampled(sheet, sources, options.judge)
    if model is not None:
        _read(sheet, model, sources, options, priors, progress)
        if "self_ref" in sources:
            began = time.monotonic()
            verdicts = np.asarray(model.verdicts(sheet.new))
            sheet.fill("self_ref", verdicts, sheet.cost(1, time.monotonic() - began), by_model=True)
        if stated := [source for source in sources if source in STATED]:
            from confide.methods.rlmf.stated_reading import read_stated

            for source, (values, cost) in read_stated(model, sheet.new, stated, progress=progress).items():
                sheet.fill(source, values, cost, by_model=True)
        for source in ASKED:
            if source in sources:
                values, cost = _asked(source, model.engine, sheet.new, progress)
                sheet.fill(source, values, cost, by_model=True)
    if options.verifier is not None and OUTSIDE[0] in sources:
        sheet.fill(OUTSIDE[0], *_asked(OUTSIDE[0], options.verifier, sheet.new, progress))
    _floors(sheet, [source for source in sources if source in FLOORS], options.seed)
    if options.calibrated:
        _calibrated(sheet)
    return sheet.scored


@dataclass
class Sheet:
    """The records being scored; ``prefix`` starts the names of what the model says (`OTHER` for another's answers).

    ``written`` lists the sources that may be calibrated.
    """

    scored: list[Record]
    prefix: str = ""
    written: list[str] = field(default_factory=list)

    @property
    def new(self) -> list[Record]:
        """The rows that nothing was trained on."""
        return [record for record in self.scored if record.split != "train"]

    @property
    def tested(self) -> list[int]:
        """Which rows of `new` are reported on: the test split, or all without splits."""
        test = [i for i, record in enumerate(self.new) if record.split == "test"]
        return test if any(record.split for record in self.scored) else list(range(len(self.new)))

    def cost(self, tokens: float, seconds: float) -> Cost:
        """Tokens a row, and seconds that all of `new` took together."""
        return Cost(tokens=tokens, seconds=seconds / max(1, len(self.new)))

    def fill(self, source: str, values: Floats, cost: Cost | Sequence[Cost], *, by_model: bool = False) -> None:
        """Write ``values`` [n] of a source for the rows of `new` (NaN: None)."""
        name = self.prefix + source if by_model else source
        self.put(name, values, cost, range(len(self.new)))
        self.written.append(name)

    def put(self, name: str, values: Floats, cost: Cost | Sequence[Cost], rows: Sequence[int]) -> None:
        """Write ``values`` for some ``rows`` of `new`, and None for all others."""
        for record in self.scored:
            record.confidence[name] = None
        new = self.new
        for place, (row, value) in enumerate(zip(rows, values.tolist(), strict=True)):
            new[row].confidence[name] = None if np.isnan(value) else value
            new[row].cost[name] = cost if isinstance(cost, Cost) else cost[place]


def _read(
    sheet: Sheet,
    model: ConfidenceModel,
    sources: Sequence[str],
    options: Options,
    priors: dict[str, Any],
    progress: Progress | None,
) -> None:
    """All reading sources of own, sampled and swapped answers, in one pass."""
    learned = [source for source in sources if source in READ]
    measured = [source for source in sources if source in MEASURED]
    if not learned and not (measured and (options.other_model or options.samples or options.controls)):
        return
    from confide.methods.closed_pass import read_answers
    from confide.methods.stack.states import measured_options

    new, tested = sheet.new, sheet.tested
    own = measured_options(model.engine, [unmeasured(r) for r in new]) if options.other_model else new
    sampled = sampled_answers([own[i] for i in tested]) if options.samples else SampledAnswers()
    exchanged = swapped([own[i] for i in tested], options.seed) if options.controls else []
    rows = [i for i, r in zip(tested, exchanged, strict=False) if r]
    turned = measured_options(model.engine, [r for r in exchanged if r])
    reading = read_answers(
        model, [*own, *turned, *sampled.records], [*learned, *measured], progress=progress
    )  # fmt: skip
    n, m = len(own), len(own) + len(turned)
    suffix = model.checkpoint.suffix
    for source in [*learned, *(measured if options.other_model else ())]:
        name = source + suffix if source in READ else source
        sheet.fill(name, reading.values[source][:n], reading.costs[source], by_model=True)
    for source in [s for s in (*learned, *measured) if s not in POSITIONED] if options.controls else ():
        name = sheet.prefix + source + (suffix if source in READ else "") + SWAPPED
        sheet.put(name, reading.values[source][n:m], reading.costs[source], rows)
    if "stack" in learned and not options.other_model and not suffix:
        for record, familiarity in zip(new, reading.values["familiarity"][:n].tolist(), strict=True):
            record.familiarity = round(familiarity, 6)
    if options.samples:
        columns = {
            sheet.prefix + source + (suffix if source in READ else ""): reading.values[source]
            for source in [*learned, *measured]
        }
        for source, prior in priors.items():
            columns[source] = prior.predict(reading.records)
        for source in [source for source in sources if source in (OPTION, "answer_length")]:
            free = [free_confidence(record).get(source) for record in reading.records]
            columns[source] = np.array([np.nan if value is None else value for value in free])
        for (place, number), index in sampled.places.items():
            at = tested[place] if index is None else m + index
            samples = new[tested[place]].samples or []
            values = {name: float(column[at]) for name, column in columns.items()}
            found = {name: None if np.isnan(value) else value for name, value in values.items()}
            samples[number] = samples[number].model_copy(update={"confidence": samples[number].confidence | found})


def _asked(
    source: str, engine: TransformersEngine, new: Sequence[Record], progress: Progress | None
) -> tuple[Floats, Cost]:
    """A source that asks a model about the answers; its prompt (and sign) are chosen on the validation rows."""
    from confide.methods import p_true, verbalized

    validation = [record for record in new if record.split == "validation" and record.correct is not None]
    check_labels(validation)
    right = np.array([bool(record.correct) for record in validation])
    if source == "verbalized":
        said, _, _ = verbalized.said_confidence(
            engine, validation, range(len(verbalized.PROMPTS)), progress=progress
        )  # fmt: skip
        best = verbalized.choose(said, right)
        said, tokens, seconds = verbalized.said_confidence(engine, new, [best], progress=progress)
        return said[:, best], Cost(tokens=tokens, seconds=seconds)
    shares, _, _ = p_true.yes_shares(engine, validation, range(len(p_true.PROMPTS)), progress=progress)
    chosen = p_true.choose(shares, right)
    shares, tokens, seconds = p_true.yes_shares(engine, new, [chosen.prompt], progress=progress)
    return chosen.predict(shares), Cost(tokens=tokens, seconds=seconds)


def _sampled(sheet: Sheet, sources: Sequence[str], judge: Judge | None) -> None:
    new = sheet.new
    costs = [sampling_cost(record) for record in new]
    for source in SAMPLED:
        if source not in sources:
            continue
        found = [self_consistency(r) for r in new] if source == "self_consistency" else semantic_entropy(new, judge)
        spent = costs
        if source == "semantic_entropy" and (extra := getattr(judge, "tokens", 0)):
            seconds = getattr(judge, "seconds", 0.0)
            n = max(1, len(new))
            spent = [Cost(tokens=c.tokens + extra / n, seconds=c.seconds + seconds / n) for c in costs]
        sheet.fill(source, np.array([np.nan if value is None else value for value in found]), spent)


def _prior(sheet: Sheet, source: str) -> Any:
    from confide.methods.text_prior import STRENGTHS, AnswerTable, TextPrior, fit_on_validation

    graded = [record for record in sheet.scored if record.correct is not None]
    train = [record for record in graded if record.split == "train"]
    check_labels(train)
    candidates: list[TextPrior] | list[AnswerTable]
    if source == "answer_only_table":
        candidates = [AnswerTable(strength) for strength in (1.0, 2.0, 5.0)]
    else:
        candidates = [TextPrior("question" if source == "question_only" else "answer", C) for C in STRENGTHS]
    return fit_on_validation(candidates, train, [record for record in graded if record.split == "validation"])


def _floors(sheet: Sheet, floors: Sequence[str], seed: int) -> None:
    """``constant``: the base rate of train rows (of all, without splits); ``shuffled``: the best source, shuffled."""
    if not floors:
        return
    scored, held = sheet.scored, sheet.new
    graded = [r for r in scored if r.correct is not None]
    train = [r for r in graded if r.split == "train"] or graded
    base = float(np.mean([bool(r.correct) for r in train])) if train else 0.5
    names = [name for name in ("stack", "reader", "logprob_sum", "given") if name in scored[0].confidence]
    values = [r.confidence.get(names[0]) for r in held] if names else [base] * len(held)
    order = np.random.default_rng(seed).permutation(len(held))
    for record in scored:
        record.confidence.update(dict.fromkeys(floors))
    for place, record in enumerate(held):
        if "constant" in floors:
            record.confidence["constant"] = base
        if "shuffled" in floors:
            record.confidence["shuffled"] = values[order[place]]


def _calibrated(sheet: Sheet) -> None:
    """Platt-calibrated copies of what was written, fitted on validation rows; None throughout where too few remain."""
    new = sheet.new
    validation = [record for record in new if record.split == "validation" and record.correct is not None]
    check_labels(validation)
    if len(validation) < MIN_ROWS:
        raise ConfideError(f"--calibrated needs {MIN_ROWS} graded validation rows, there are {len(validation)}")
    for source in [name for name in sheet.written if not auxiliary(name)]:
        known = [(c, bool(r.correct)) for r in validation if (c := r.confidence[source]) is not None]
        values = np.array([np.nan if (c := r.confidence[source]) is None else c for r in new], dtype=np.float64)
        if len(known) >= MIN_ROWS and len({right for _, right in known}) == 2:
            values = PlattCalibrator().fit(*zip(*known, strict=True)).predict(values)
        else:
            values[:] = np.nan
        costs = [record.cost.get(source, Cost()) for record in new]
        sheet.put(f"{source}_calibrated", values, costs, range(len(new)))
