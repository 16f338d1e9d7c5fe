"""Metacognitive feedback: what a completion is worth, and how much a good self-judgement raises that.

The equations of RLMF (Liu et al. 2026, 2606.32032, section 2; their released code where the text leaves a choice
open) and of RLCR (Damani et al. 2025, 2507.16806) as pure functions of numbers. A completion makes statements; each
has a stated confidence c and an intrinsic one g (how often the model's other answers agree), None where it cannot be
read. Arrays are over completions [n]; a group is ``group_size`` completions in a row that answer one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confide.errors import ConfideError
from confide.methods.rlmf.rlmf_config import Form
from confide.numeric import Floats

Values = Sequence[Sequence[float | None]]
"""One row of values a completion, one value a statement."""

FAITHFUL_WEIGHT = 12.0
STRICT_WEIGHT = 3.0
SOFT_WEIGHT = 3.0
CORRECT_WEIGHT = 1.0
FACTUAL_WEIGHT = 1.0

UNREADABLE = -1.0
"""What counts where a confidence is missing.

The released code gives a completion without any statement −10, times 12. As advantages are not divided by the group's
deviation, one such failure lifts all its siblings far above the mean, whatever they stated; −1 does not.
"""

EDGE = 0.01
"""The log form reads confidences in [0.01, 0.99], so that it is finite."""

SLACK = 1e-9
"""Added to a tolerance: 0.4 − 0.3 is above 0.1 in floating point."""


def faithfulness(stated: Values, intrinsic: Values, form: Form = "quadratic") -> Floats:
    """How closely each completion states its intrinsic confidence [n], 1 at best (2606.32032, the faithfulness reward).

    The mean over statements of 1 − (c − g)², or 1 − |c − g| (linear), or 1 − KL(g‖c) / its largest value (log; both
    read in [`EDGE`, 1 − `EDGE`]): in [0, 1], and 1 exactly where c = g. A statement without c or g counts `UNREADABLE`,
    and so does a completion without statements. The reward is `FAITHFUL_WEIGHT` times this.

    Raises `ConfideError` when rows differ in length or hold numbers outside [0, 1].

    >>> faithfulness([[1.0], [0.8, None], []], [[0.5], [0.8, 0.5], []]).tolist()
    [0.75, 0.0, -1.0]
    """
    if form not in get_args(Form):
        raise ConfideError(f"no form {form!r} of faithfulness: there is {', '.join(get_args(Form))}")
    closeness = partial(_closeness, form=form)
    return _mean_of_pairs(stated, intrinsic, closeness, empty=UNREADABLE, missing=UNREADABLE)


def factuality(correct: ArrayLike, stated: Values) -> Floats:
    """1 − (correct − mean c)² [n], in [0, 1]; `UNREADABLE` where nothing is stated (2606.32032, the factual reward).

    ``correct`` [n] is 0 or 1 (or a degree between); the mean is over the statements whose confidence can be read.
    Raises `ConfideError` on missing marks, other lengths, and numbers outside [0, 1].
    """
    marks, means = _unit("correct", correct), _stated_means(stated)
    _same_length(correct=marks, stated=means)
    return np.where(np.isnan(means), UNREADABLE, 1 - (marks - means) ** 2)


def objective(strict: ArrayLike, soft: ArrayLike, correct: ArrayLike, factual: ArrayLike) -> Floats:
    """o = 3·(+1 or −1 for the strict format) + 3·soft + correct + factual [n] (2606.32032, the objective rewards).

    ``strict`` [n] are truth values, ``soft`` [n] in [−1, 0], ``correct`` [n] in [0, 1], ``factual`` [n] from
    `factuality`. Raises `ConfideError` naming the rows of what is not finite or out of range.
    """
    format_kept = np.asarray(strict)
    if format_kept.dtype != np.bool_:
        raise ConfideError(f"strict: truth values are wanted, not {format_kept.dtype} (−1 would count as true)")
    marks, shortfall, extra = _unit("correct", correct), _finite("soft", soft), _finite("factual", factual)
    _refuse("soft", (shortfall < -1) | (shortfall > 0), "outside [-1, 0]")
    _same_length(strict=format_kept, soft=shortfall, correct=marks, factual=extra)
    signs = np.where(format_kept, 1.0, -1.0)
    return STRICT_WEIGHT * signs + SOFT_WEIGHT * shortfall + CORRECT_WEIGHT * marks + FACTUAL_WEIGHT * extra


def f_gold(stated: Values, intrinsic: Values, tolerance: float = 0.1) -> Floats:
    """Share of each completion's statements with |c − g| ≤ tolerance [n], in [0, 1] (2606.32032, F_gold).

    A statement that cannot be read counts 0 (−1 in the released code, which leaves [0, 1]); without statements it is
    0. With one statement a completion it is 0 or 1, and `multiplier` is one minus a binary Brier score.

    >>> f_gold([[0.4], [0.4, None]], [[0.3], [0.3, 0.3]]).tolist()
    [1.0, 0.5]
    """
    if not 0 <= tolerance <= 1:
        raise ConfideError(f"the tolerance of F_gold is in [0, 1], not {tolerance}")
    near = tolerance + SLACK
    return _mean_of_pairs(stated, intrinsic, lambda c, g: float(abs(c - g) <= near), empty=0.0, missing=0.0)


def multiplier(f_pred: ArrayLike, f_gold: ArrayLike) -> Floats:
    """Z = 1 − (F_pred − F_gold)² [n], in [0, 1] (2606.32032, the metacognitive score).

    A self-judgement that could not be read is NaN and gives −1, so that k + Z is 0 at k = 1: such a completion earns
    nothing for being faithful. Raises `ConfideError` naming the rows outside [0, 1], and those where F_gold is NaN.
    """
    predicted, gold = np.asarray(f_pred, dtype=np.float64), _unit("F_gold", f_gold)
    _same_length(F_pred=predicted, F_gold=gold)
    unread = np.isnan(predicted)
    _unit("F_pred", np.where(unread, 0.0, predicted))
    return np.where(unread, -1.0, 1 - (predicted - gold) ** 2)


def advantages(o: ArrayLike, f: ArrayLike, z: ArrayLike | None, group_size: int, k: float = 1.0) -> Floats:
    """The advantage of each completion within its group [n] (2606.32032, the refined advantage).

    A = (o − ō) + (f − f̄)·max(k + Z, 0) where f is above its group's mean f̄, else (o − ō) + (f − f̄); no division by
    the group's deviation. ``o`` [n] is the `objective`, ``f`` [n] is `FAITHFUL_WEIGHT` times `faithfulness`, ``z``
    [n] the `multiplier`. ``z`` None is standard RL: the total reward minus its group's mean.

    Raises `ConfideError` naming the rows that are not finite, when lengths differ or do not fill whole groups.
    """
    reward, faithful = _finite("o", o), _finite("f", f)
    _same_length(o=reward, f=faithful)
    others, gap = (_centred(values, group_size) for values in (reward, faithful))
    if z is None:
        return others + gap
    scores = _finite("Z", z)
    _same_length(o=reward, Z=scores)
    return others + np.where(gap > 0, gap * np.maximum(k + scores, 0.0), gap)


def rlcr_reward(correct: ArrayLike, stated: Values) -> Floats:
    """correct − (correct − c)² [n], in [−1, 1]: correctness less the Brier score (2507.16806, the RLCR reward).

    c is the mean of the confidences that can be read. Where there is none the reward is −1, as for a wrong answer
    stated with certainty: RLCR's bounded score has nothing below, so silence never pays. Its format reward is apart.
    """
    marks, means = _unit("correct", correct), _stated_means(stated)
    _same_length(correct=marks, stated=means)
    return np.where(np.isnan(means), UNREADABLE, marks - (marks - means) ** 2)


def shuffled_within(z: ArrayLike, group_size: int, rng: np.random.Generator) -> Floats:
    """``z`` [n] permuted within each group: the control that keeps how large Z is but not whose it is."""
    return rng.permuted(_grouped(_finite("Z", z), group_size), axis=1).reshape(-1)


@dataclass
class RunningMean:
    """Mean of all values seen so far: the control in which every completion gets the same, usual Z.

    >>> mean = RunningMean()
    >>> mean.update([1.0, 0.0]), mean.update([1.0, 1.0])
    (0.5, 0.75)
    """

    count: int = 0
    total: float = 0.0

    def update(self, values: ArrayLike) -> float:
        """Add ``values`` [n] and return the mean with them; raises `ConfideError` when there was never a value."""
        added = _finite("Z", values)
        self.count += added.size
        self.total += float(added.sum())
        if not self.count:
            raise ConfideError("there is no value to take the mean of")
        return self.total / self.count


def silent_groups(o: ArrayLike, f: ArrayLike, stated: Values, group_size: int) -> NDArray[np.bool_]:
    """Groups that cannot teach [groups]: to be skipped, and counted.

    Those in which no confidence can be read, and those in which all completions have the same ``o`` and the same ``f``,
    so that every advantage is 0. Answers that all agree make a group silent only when they are stated alike as well:
    there 0.9 is still better than 0.2, and without these groups only uncertain questions would be trained on.
    """
    reward, faithful = _finite("o", o), _finite("f", f)
    read = np.array([any(c is not None for c in row) for row in stated], dtype=np.bool_)
    _same_length(o=reward, f=faithful, stated=read)
    spreads = [np.ptp(_grouped(values, group_size), axis=1) for values in (reward, faithful)]
    none_read = ~_grouped(read, group_size).any(axis=1)
    return none_read | (np.maximum(*spreads) <= SLACK)


def _closeness(c: float, g: float, form: Form) -> float:
    """1 where c = g, at least 0."""
    if form == "quadratic":
        return 1 - (c - g) ** 2
    if form == "linear":
        return 1 - abs(c - g)
    c, g = min(max(c, EDGE), 1 - EDGE), min(max(g, EDGE), 1 - EDGE)
    divergence = g * math.log(g / c) + (1 - g) * math.log((1 - g) / (1 - c))
    # The largest divergence is that of one edge from the other.
    return 1 - divergence / ((1 - 2 * EDGE) * math.log((1 - EDGE) / EDGE))


def _mean_of_pairs(
    stated: Values, intrinsic: Values, value: Callable[[float, float], float], *, empty: float, missing: float
) -> Floats:
    """Mean of ``value(c, g)`` over a row's statements [n]: ``missing`` for one without c or g, ``empty`` for none."""
    if len(stated) != len(intrinsic):
        raise ConfideError(f"{len(stated)} rows of stated confidences and {len(intrinsic)} of intrinsic ones")
    rows = list(zip(stated, intrinsic, strict=True))
    _refuse("stated", [len(cs) != len(gs) for cs, gs in rows], "not as long as the intrinsic ones")
    _check_confidences("stated", stated)
    _check_confidences("intrinsic", intrinsic)
    scores = [
        [missing if c is None or g is None else value(c, g) for c, g in zip(cs, gs, strict=True)] for cs, gs in rows
    ]
    return np.array([np.mean(row) if row else empty for row in scores], dtype=np.float64)


def _stated_means(stated: Values) -> Floats:
    """Mean of the confidences that can be read [n]; NaN where there are none."""
    _check_confidences("stated", stated)
    known = [[c for c in row if c is not None] for row in stated]
    return np.array([np.mean(row) if row else np.nan for row in known], dtype=np.float64)


def _check_confidences(name: str, rows: Values) -> None:
    bad = [any(value is not None and not 0 <= value <= 1 for value in row) for row in rows]
    _refuse(name, bad, "outside [0, 1] or not a number")


def _finite(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ConfideError(f"{name}: one value a completion is wanted, not an array of shape {array.shape}")
    _refuse(name, ~np.isfinite(array), "not a finite number")
    return array


def _unit(name: str, values: ArrayLike) -> Floats:
    array = _finite(name, values)
    _refuse(name, (array < 0) | (array > 1), "outside [0, 1]")
    return array


def _refuse(name: str, bad: Sequence[bool] | NDArray[np.bool_], what: str) -> None:
    """Raise `ConfideError` naming the first rows that are ``bad``."""
    if rows := np.flatnonzero(bad).tolist():
        shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
        raise ConfideError(f"{name}: {len(rows)} of {len(bad)} rows are {what}: {shown} (counted from 0)")


def _same_length(**arrays: NDArray[Any]) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ConfideError(f"rows do not match: {lengths}")


def _grouped(values: NDArray[Any], group_size: int) -> NDArray[Any]:
    """``values`` [n] as [groups, group_size]."""
    if group_size < 2:
        raise ConfideError(f"a group has at least 2 completions, not {group_size}: advantages compare within it")
    if len(values) % group_size:
        raise ConfideError(
            f"{len(values)} completions are no whole groups of {group_size}: rows from "
            f"{len(values) - len(values) % group_size} on are left over"
        )
    return values.reshape(-1, group_size)


def _centred(values: Floats, group_size: int) -> Floats:
    """``values`` [n] less their group's mean."""
    groups = _grouped(values, group_size)
    return (groups - groups.mean(axis=1, keepdims=True)).reshape(-1)
