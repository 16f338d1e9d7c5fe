"""Metacognitive feedback: what a completion is worth, and how much a good self-judgement raises that.

The equations of RLMF (Liu et al. 2026, 2606.32032, section 2; their released code where the text leaves a choice
open) and of RLCR (Damani et al. 2025, 2507.16806) as pure functions of numbers. A completion makes statements; each
has a stated confidence c and an intrinsic one g (how often the model's other answers agree), None where it cannot be
read. Arrays are over completions [n]; a group is ``group_size`` completions in a row that answer one prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confide.errors import ConfideError
from confide.metrics.metric import FloatArray

Form = Literal["quadratic", "linear", "log"]
Values = Sequence[Sequence[float | None]]
"""One row of values a completion, one value a statement."""

_T = TypeVar("_T", bound=np.generic)

FAITHFUL_WEIGHT = 12.0
STRICT_WEIGHT = 3.0
SOFT_WEIGHT = 3.0
CORRECT_WEIGHT = 1.0
FACTUAL_WEIGHT = 1.0

UNREADABLE = -1.0
"""What counts where a confidence is missing.

The released code gives a completion without any statement −10, which the weight of 12 turns into −120. Without
normalisation by the group's deviation this lifts every sibling far above the group's mean, whatever it stated, so
one failure drowns what the others could teach. −1 is below everything that can be stated and no more.
"""

EDGE = 0.01
"""The log form reads confidences in [0.01, 0.99], so that it is finite."""

SLACK = 1e-9
"""Added to a tolerance: 0.4 − 0.3 is above 0.1 in floating point."""


def faithfulness(stated: Values, intrinsic: Values, form: Form = "quadratic") -> FloatArray:
    """How closely each completion states its intrinsic confidence [n], 1 at best (2606.32032, the faithfulness reward).

    The mean over statements of 1 − (c − g)², or 1 − |c − g| (linear), or 1 − KL(g‖c) / its largest value (log:
    binary cross-entropy less the part that c cannot change, both read in [`EDGE`, 1 − `EDGE`]). So every form is in
    [0, 1] where a confidence is stated, and 1 exactly where c = g. A statement without c or g counts `UNREADABLE`,
    and so does a completion without statements. The total that a policy is trained on is `FAITHFUL_WEIGHT` times this.

    Raises `ConfideError` when rows differ in length or hold numbers outside [0, 1].

    >>> faithfulness([[1.0], [0.8, None], []], [[0.5], [0.8, 0.5], []]).tolist()
    [0.75, 0.0, -1.0]
    """
    if form not in get_args(Form):
        raise ConfideError(f"no form {form!r} of faithfulness: there is {', '.join(get_args(Form))}")
    return _mean_of_pairs(stated, intrinsic, lambda c, g: _closeness(c, g, form), empty=UNREADABLE)


def factuality(correct: ArrayLike, stated: Values) -> FloatArray:
    """1 − (correct − mean c)² [n], in [0, 1]; `UNREADABLE` where nothing is stated (2606.32032, the factual reward).

    ``correct`` [n] is 0 or 1 (or a degree between); the mean is over the statements whose confidence can be read.
    Raises `ConfideError` on missing marks, other lengths, and numbers outside [0, 1].
    """
    marks, means = _unit("correct", correct), _stated_means(stated)
    _same_length(correct=marks, stated=means)
    return np.where(np.isnan(means), UNREADABLE, 1 - (marks - means) ** 2)


def objective(strict: ArrayLike, soft: ArrayLike, correct: ArrayLike, factual: ArrayLike) -> FloatArray:
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


def f_gold(stated: Values, intrinsic: Values, tolerance: float = 0.1) -> FloatArray:
    """Share of each completion's statements with |c − g| ≤ tolerance [n], in [0, 1] (2606.32032, F_gold).

    A statement that cannot be read counts 0 (−1 in the released code, which leaves [0, 1]); without statements it is
    0. With one statement a completion it is 0 or 1, and `multiplier` is one minus a binary Brier score.

    >>> f_gold([[0.4], [0.4, None]], [[0.3], [0.3, 0.3]]).tolist()
    [1.0, 0.5]
    """
    if not 0 <= tolerance <= 1:
        raise ConfideError(f"the tolerance of F_gold is in [0, 1], not {tolerance}")
    return _mean_of_pairs(
        stated, intrinsic, lambda c, g: (np.abs(c - g) <= tolerance + SLACK).astype(np.float64), empty=0.0, missing=0.0
    )


def multiplier(f_pred: ArrayLike, f_gold: ArrayLike) -> FloatArray:
    """Z = 1 − (F_pred − F_gold)² [n], in [0, 1] (2606.32032, the metacognitive score).

    A self-judgement that could not be read is NaN and gives −1, so that k + Z is 0 at k = 1: such a completion earns
    nothing for being faithful. Raises `ConfideError` naming the rows outside [0, 1], and those where F_gold is NaN.
    """
    predicted, gold = np.asarray(f_pred, dtype=np.float64), _unit("F_gold", f_gold)
    _same_length(F_pred=predicted, F_gold=gold)
    unread = np.isnan(predicted)
    _unit("F_pred", np.where(unread, 0.0, predicted))
    return np.where(unread, -1.0, 1 - (predicted - gold) ** 2)


def advantages(o: ArrayLike, f: ArrayLike, z: ArrayLike | None, group_size: int, k: float = 1.0) -> FloatArray:
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


def rlcr_reward(correct: ArrayLike, stated: Values) -> FloatArray:
    """correct − (correct − c)² [n], in [−1, 1]: correctness less the Brier score (2507.16806, the RLCR reward).

    c is the mean of the confidences that can be read. Where there is none the reward is −1, as for a wrong answer
    stated with certainty: RLCR's bounded score has nothing below, so silence never pays. Its format reward is apart.
    """
    marks, means = _unit("correct", correct), _stated_means(stated)
    _same_length(correct=marks, stated=means)
    return np.where(np.isnan(means), UNREADABLE, marks - (marks - means) ** 2)


def shuffled_within(z: ArrayLike, group_size: int, rng: np.random.Generator) -> FloatArray:
    """``z`` [n] permuted within each group: the control that keeps how large Z is but not whose it is."""
    return rng.permuted(_grouped(_finite("Z", z), group_size), axis=1).reshape(-1)


class RunningMean:
    """Mean of all values seen so far: the control in which every completion gets the same, usual Z.

    >>> mean = RunningMean()
    >>> mean.update([1.0, 0.0]), mean.update([1.0, 1.0])
    (0.5, 0.75)
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    def update(self, values: ArrayLike) -> float:
        """Add ``values`` [n] and return the mean with them; raises `ConfideError` when there was never a value."""
        added = _finite("Z", values)
        self.count += added.size
        self.total += float(added.sum())
        if not self.count:
            raise ConfideError("there is no value to take the mean of")
        return self.total / self.count

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs to go on."""
        return {"count": self.count, "total": self.total}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from `state_dict`."""
        self.count, self.total = int(state["count"]), float(state["total"])


def silent_groups(o: ArrayLike, f: ArrayLike, stated: Values, group_size: int) -> NDArray[np.bool_]:
    """Groups that cannot teach [groups]: to be skipped, and counted.

    Those in which no completion states a confidence that can be read, and those in which all completions have the
    same ``o`` and the same ``f``, so that every advantage is 0. Answers that all agree make a group silent only
    when they are stated alike as well: where g is 1 throughout, one that says 0.9 is still better than one that says
    0.2, and leaving these groups out would train on uncertain questions alone.
    """
    reward, faithful = _finite("o", o), _finite("f", f)
    read = np.array([any(c is not None for c in row) for row in stated], dtype=np.bool_)
    _same_length(o=reward, f=faithful, stated=read)
    spreads = [np.ptp(_grouped(values, group_size), axis=1) for values in (reward, faithful)]
    none_read = ~_grouped(read, group_size).any(axis=1)
    return none_read | (np.maximum(*spreads) <= SLACK)


def _closeness(c: FloatArray, g: FloatArray, form: Form) -> FloatArray:
    """1 where c = g, at least 0 [statements]."""
    if form == "quadratic":
        return 1 - (c - g) ** 2
    if form == "linear":
        return 1 - np.abs(c - g)
    c, g = np.clip(c, EDGE, 1 - EDGE), np.clip(g, EDGE, 1 - EDGE)
    divergence = g * np.log(g / c) + (1 - g) * np.log((1 - g) / (1 - c))
    # The largest divergence is that of one edge from the other.
    return 1 - divergence / ((1 - 2 * EDGE) * np.log((1 - EDGE) / EDGE))


def _mean_of_pairs(
    stated: Values,
    intrinsic: Values,
    value: Callable[[FloatArray, FloatArray], FloatArray],
    *,
    empty: float,
    missing: float = UNREADABLE,
) -> FloatArray:
    """Mean of ``value(c, g)`` over a row's statements [n]: ``missing`` for one without c or g, ``empty`` for none."""
    if len(stated) != len(intrinsic):
        raise ConfideError(f"{len(stated)} rows of stated confidences and {len(intrinsic)} of intrinsic ones")
    lengths = np.array([len(row) for row in stated], dtype=np.int64)
    _refuse("stated", lengths != [len(row) for row in intrinsic], "not as long as the intrinsic ones")
    owner = np.repeat(np.arange(len(stated)), lengths)
    c, g = _flat("stated", stated, owner), _flat("intrinsic", intrinsic, owner)
    # A value in the place of what is missing is computed and thrown away.
    known = ~(np.isnan(c) | np.isnan(g))
    scores = np.where(known, value(np.where(known, c, 0.0), np.where(known, g, 0.0)), missing)
    totals = np.bincount(owner, weights=scores, minlength=len(stated))
    return np.where(lengths > 0, totals / np.maximum(lengths, 1), empty)


def _stated_means(stated: Values) -> FloatArray:
    """Mean of the confidences that can be read [n]; NaN where there are none."""
    owner = np.repeat(np.arange(len(stated)), np.array([len(row) for row in stated], dtype=np.int64))
    c = _flat("stated", stated, owner)
    counts = np.bincount(owner[~np.isnan(c)], minlength=len(stated))
    totals = np.bincount(owner, weights=np.nan_to_num(c), minlength=len(stated))
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _flat(name: str, rows: Values, owner: NDArray[np.intp]) -> FloatArray:
    """All values of ``rows`` in one array, None as NaN; a NaN that was there before is refused."""
    values = [value for row in rows for value in row]
    given = np.array([value is not None for value in values], dtype=np.bool_)
    flat = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        bad = given & ~((flat >= 0) & (flat <= 1))
    _refuse(name, np.bincount(owner[bad], minlength=len(rows)) > 0, "outside [0, 1] or not a number")
    return flat


def _finite(name: str, values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ConfideError(f"{name}: one value a completion is wanted, not an array of shape {array.shape}")
    _refuse(name, ~np.isfinite(array), "not a finite number")
    return array


def _unit(name: str, values: ArrayLike) -> FloatArray:
    array = _finite(name, values)
    _refuse(name, (array < 0) | (array > 1), "outside [0, 1]")
    return array


def _refuse(name: str, bad: NDArray[np.bool_], what: str) -> None:
    """Raise `ConfideError` naming the first rows that are ``bad``."""
    if bad.any():
        rows = np.flatnonzero(bad).tolist()
        shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
        raise ConfideError(f"{name}: {len(rows)} of {len(bad)} rows are {what}: {shown} (counted from 0)")


def _same_length(**arrays: NDArray[Any]) -> None:
    if len({len(array) for array in arrays.values()}) > 1:
        told = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ConfideError(f"rows do not match: {told}")


def _grouped(values: NDArray[_T], group_size: int) -> NDArray[_T]:
    """``values`` [n] as [groups, group_size]."""
    if group_size < 2:
        raise ConfideError(f"a group has at least 2 completions, not {group_size}: advantages compare within it")
    if len(values) % group_size:
        raise ConfideError(
            f"{len(values)} completions are no whole groups of {group_size}: rows from "
            f"{len(values) - len(values) % group_size} on are left over"
        )
    return values.reshape(-1, group_size)


def _centred(values: FloatArray, group_size: int) -> FloatArray:
    """``values`` [n] less their group's mean."""
    groups = _grouped(values, group_size)
    return (groups - groups.mean(axis=1, keepdims=True)).reshape(-1)
