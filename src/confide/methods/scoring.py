"""Scoring: every source's confidence for records that are already answered.

Learned sources are left out (None) on training rows: a confidence there says nothing about new rows. All other rows of
a split, or of a file without splits, are each other's traffic (`confide.methods.answer_traffic`). Methods that
learn from text alone are fitted here, on the train rows of the same file; whatever has a choice to make (prompt,
sign, strength) makes it on the validation rows. All that read closed answers share one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from confide.errors import ConfideError
from confide.methods import catalogue
from confide.methods.closed_pass import ReadAnswers, read_answers, read_closed_answers
from confide.methods.floors import Floors
from confide.methods.free import Free
from confide.methods.method import (
    ClosedMethod,
    Column,
    Judge,
    Method,
    Scope,
    check_answered_by,
    check_labels,
    labels,
    or_nan,
)
from confide.methods.portable.portable_method import Portable
from confide.methods.score_sheet import Sheet
from confide.methods.text_prior import TextPriors
from confide.policies.calibrators import MIN_ROWS, fit_calibrator
from confide.policies.identities import common_identity
from confide.progress import Progress
from confide.records import Cost, Record
from confide.sources import Source

if TYPE_CHECKING:
    from confide.engines.engine import Engine
    from confide.methods.confidence_model import ConfidenceModel
    from confide.methods.portable.portable_file import PortableFile


def score(
    records: Sequence[Record],
    sources: Sequence[str],
    *,
    model: ConfidenceModel | None = None,
    verifier: Engine | None = None,
    judge: Judge | None = None,
    other_model: bool = False,
    samples: bool = False,
    controls: bool = False,
    calibrated: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    portable: PortableFile | None = None,
    read: ReadAnswers = read_answers,
) -> list[Record]:
    """Add the confidences of ``sources`` (see `confide.methods.catalogue`) to copies of ``records``.

    Args:
        sources: names of sources; every one must be available.
        model: the model that answered, as `confide.load` gives it; None where no source needs it.
        verifier: another model, for the source ``verifier``.
        judge: what decides for ``semantic_entropy`` whether two answers mean the same; None: the task's grader.
        other_model: the records are another model's; what this one says of them is written as ``other_<source>``.
        samples: also read the sampled answers of the rows that are reported on, into ``Sample.confidence``.
        controls: add ``<source>_swapped``: the same answer read with another question.
        calibrated: add ``<source>_calibrated``, fitted on the validation rows.
        seed: of the floor ``shuffled`` and of the questions that ``controls`` exchanges.
        portable: what gives the source ``portable``; None: what ``model`` has.
        read: what reads closed answers, by default this process.

    Raises:
        ConfideError: an unknown source, or one that the model or the records cannot give; records of another model or
            of several, unless ``other_model`` says so; answers to be read without a model.
    """
    copies = [record.model_copy(deep=True) for record in records]
    scope = Scope(copies, model, verifier, judge, other_model, seed, progress, portable)
    _check(scope, sources, reads=samples or controls or other_model)
    sheet = Sheet(scope)
    methods: list[Method] = []
    for method in catalogue.METHODS:
        if wanted := [source for source in method.available(scope) if source in sources]:
            methods.append(sheet.signed(method.fitted(scope, wanted)))
    closed = [method for method in methods if isinstance(method, ClosedMethod)]
    for method in methods:
        if not isinstance(method, ClosedMethod | Floors):
            sheet.fill(method, method.read(copies if isinstance(method, Free) else scope.new))
    seeing_text = [method for method in methods if isinstance(method, Free | TextPriors | Portable)]
    read_closed_answers(sheet, closed, seeing_text, samples=samples, controls=controls, read=read)
    for method in methods:
        if isinstance(method, Floors):  # last: one of them is another source, shuffled
            sheet.fill(method, method.read(scope.new), costs=False)
    if calibrated:
        _calibrate(sheet)
    return copies


def _check(scope: Scope, sources: Sequence[str], *, reads: bool) -> None:
    """Raise `ConfideError` unless the sources can be had, and one model answered: the one at hand where there is one.

    Args:
        reads: whether answers are to be read, whatever the sources need.
    """
    catalogue.check_sources(sources, scope)
    if scope.model is None and reads:
        raise ConfideError("--samples, --controls and --other-model read answers with a model: name it with --model")
    if not scope.other_model:
        common_identity(scope.records, "")
        if scope.model is not None:
            check_answered_by(scope.records, scope.model.names, scope.model.answerers)


def _calibrate(sheet: Sheet) -> None:
    """Platt-calibrated copies of what was written, fitted on validation rows; None throughout where too few remain."""
    validation = sheet.scope.graded("validation")
    check_labels(validation)
    if len(validation) < MIN_ROWS:
        raise ConfideError(f"--calibrated needs {MIN_ROWS} graded validation rows, there are {len(validation)}")
    right = labels(validation)
    for source in [name for name in sheet.written if not Source.parse(name).auxiliary]:
        held = or_nan([record.confidence[source] for record in validation])
        known = np.isfinite(held)
        values = or_nan([record.confidence[source] for record in sheet.new])
        if known.sum() >= MIN_ROWS and len(set(right[known].tolist())) == 2:
            fitted = fit_calibrator(held[known], right[known], "platt", log_space=Source.parse(source).log_space)
            values = fitted.predict(values)
        else:
            values[:] = np.nan
        costs = [record.cost.get(source, Cost()) for record in sheet.new]
        sheet.put(f"{source}_calibrated", Column(values, costs), sheet.new)
