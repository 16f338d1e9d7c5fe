"""What a model that states its confidence says of answers that already exist, and how it judges what it stated."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.engines.transformers.prefixes import group_batches
from confide.engines.transformers.token_scores import Completion
from confide.errors import ConfideError
from confide.records import Cost, Record

if TYPE_CHECKING:
    from confide.model import ConfidenceModel

Progress = Callable[[int, int, str], None]
BATCH = 128


def read_stated(
    model: ConfidenceModel, records: Sequence[Record], wanted: Sequence[str], *, progress: Progress | None = None
) -> dict[str, tuple[NDArray[np.float64], Cost]]:
    """Confidences [n] (NaN: none can be read) and costs a record of ``graded`` or ``tagged``, and ``f_pred``.

    ``f_pred`` judges each answer as it is stated: with the grade nearest to what is expected of it.
    """
    stating, engine = model.stating, model.engine
    spans = [engine.spans(record) for record in records]
    if long := [r.id for r, (p, a) in zip(records, spans, strict=True) if len(p) + len(a) + 64 > engine.context]:
        raise ConfideError(f"{len(long)} rows do not fit the model's context of {engine.context} tokens: {long[0]}, …")
    completions = [
        Completion(record.answer, answer, [], [], None, record.finish)
        for record, (_, answer) in zip(records, spans, strict=True)
    ]
    said = np.full(len(records), np.nan)
    judged = np.full(len(records), np.nan)
    spent = dict.fromkeys((stating.name, "f_pred"), 0.0)
    engine.forget_prefixes()
    groups = engine.share_prefixes([prompt for prompt, _ in spans])
    done = 0
    for picked in group_batches(groups, [len(p) + len(a) for p, a in spans], BATCH):
        prompts, some = [spans[i][0] for i in picked], [completions[i] for i in picked]
        began = time.monotonic()
        said[picked] = stating.state(prompts, some)
        spent[stating.name] += time.monotonic() - began
        if "f_pred" in wanted:
            began = time.monotonic()
            known = [place for place, i in enumerate(picked) if np.isfinite(said[i])]
            closed = [_closed(model, some[place], float(said[picked[place]])) for place in known]
            if known:
                judged[[picked[place] for place in known]] = stating.judge([prompts[p] for p in known], closed)
            spent["f_pred"] += time.monotonic() - began
        done += len(picked)
        if progress:
            progress(done, len(records), "reading what is stated")
    n = max(1, len(records))
    found = {stating.name: (said, Cost(tokens=1, seconds=spent[stating.name] / n))}
    found["f_pred"] = (judged, Cost(tokens=len(stating.query), seconds=spent["f_pred"] / n))
    return {name: found[name] for name in wanted}


def _closed(model: ConfidenceModel, completion: Completion, confidence: float) -> Completion:
    from confide.methods.rlmf.graded import grade_of

    grades = model.engine.grades
    return replace(completion, closed_by=grades[grade_of(confidence)]) if grades else completion
