"""Sources: the names of confidences in records, as values that parse and print, and their families."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from confide.numeric import Floats
from confide.signals import PART_SIGNALS, along_signals

FAMILIES: dict[str, tuple[str, ...]] = {
    "learned": (
        "stack",
        "portable",
        "reader",
        "self_ref",
        "graded",
        "tagged",
        "f_pred",
        "probe",
        *PART_SIGNALS,
        *along_signals(),
    ),
    "asked": ("p_true", "verbalized"),
    "sampled": ("self_consistency", "semantic_entropy"),
    "outside": ("verifier",),
    "given": ("given",),
    "free": ("option_probability", "logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length"),
    "prior": ("question_only", "answer_only"),
    "floor": ("constant", "shuffled"),
}
"""Family to the names of its sources, in the order in which tables list them. Other names are "other"."""

BASELINES = ("free", "prior", "floor", "control")
"""Families that others are compared with. They never compete themselves."""

LOG_SPACE = ("logprob_sum",)
"""Sources whose values are log-probabilities in nats (≤ 0): as probabilities, long answers would all be 0."""

_KNOWN = {name: family for family, names in FAMILIES.items() for name in names}

_NAME = re.compile(
    r"(?P<other>other_)?(?P<base>.*?)(?:@(?P<position>.*?))?"
    r"(?P<shuffled>_shuffled_labels(?:_(?P<seed>0|[1-9][0-9]*))?)?(?P<swapped>_swapped)?(?P<calibrated>_calibrated)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Source:
    """One way to get a confidence, as the name of a column in the records.

    Args:
        base: The source without its variants, such as ``probe`` or ``logprob_sum``.
        position: The place in the conversation where it is read (``probe@prompt_end``); None: its usual place.
        other: It reads another model's states over the same text.
        shuffled: It was trained on shuffled labels, a control that must not rank answers.
        seed: The seed of that shuffle. None where the name carries none.
        swapped: It reads the same answer under another row's question, a control that must fall.
        calibrated: It was calibrated on the validation rows.

    Every string is the name of exactly one source: ``str(Source.parse(name)) == name``.

    Example:
        >>> Source.parse("probe@closing").position
        'closing'
        >>> str(Source("reader", shuffled=True, seed=2, calibrated=True))
        'reader_shuffled_labels_2_calibrated'
    """

    base: str
    position: str | None = None
    other: bool = False
    shuffled: bool = False
    seed: int | None = None
    swapped: bool = False
    calibrated: bool = False

    @classmethod
    def parse(cls, name: str) -> Source:
        """The source with this name."""
        match = _NAME.fullmatch(name)
        assert match is not None  # the pattern matches every string
        seed = match["seed"]
        return cls(
            match["base"],
            match["position"],
            other=match["other"] is not None,
            shuffled=match["shuffled"] is not None,
            seed=None if seed is None else int(seed),
            swapped=match["swapped"] is not None,
            calibrated=match["calibrated"] is not None,
        )

    def __str__(self) -> str:
        parts = [
            "other_" if self.other else "",
            self.base,
            "" if self.position is None else f"@{self.position}",
            "_shuffled_labels" if self.shuffled else "",
            "" if self.seed is None else f"_{self.seed}",
            "_swapped" if self.swapped else "",
            "_calibrated" if self.calibrated else "",
        ]
        return "".join(parts)

    @property
    def log_space(self) -> bool:
        """Whether its values are log-probabilities (`LOG_SPACE`); a calibrated source gives probabilities."""
        return self.base in LOG_SPACE and not self.calibrated

    @property
    def auxiliary(self) -> bool:
        """Whether it only serves a comparison with its base source and is not judged by itself."""
        return self.position is not None or self.swapped

    @property
    def family(self) -> str:
        """One of `FAMILIES`, "control" or "other". Longer names go with their start (``p_true:2`` with ``p_true``)."""
        if self.other or self.shuffled or self.auxiliary:
            return "control"
        return "other" if self.known is None else _KNOWN[self.known]

    @property
    def competes(self) -> bool:
        """Whether it is judged against the `BASELINES` instead of being one."""
        return self.family not in BASELINES

    @property
    def known(self) -> str | None:
        """The name in `FAMILIES` that the base starts with, the longest of several."""
        names = [n for n in _KNOWN if self.base.startswith(n) and not self.base[len(n) : len(n) + 1].isalpha()]
        return max(names, key=len, default=None)


def family(name: str) -> str:
    """The family of the source with this name."""
    return Source.parse(name).family


@functools.lru_cache(maxsize=4096)  # asked for every confidence of a file
def log_space(name: str) -> bool:
    """Whether the values of the source with this name are log-probabilities."""
    return Source.parse(name).log_space


def as_probability(name: str, values: ArrayLike) -> Floats:
    """Values of a source where a probability is wanted: e to a log-probability, others as they are; any shape.

    To rank, or to fit, take the values themselves: e to the log-probability of a long answer is 0.

    >>> float(as_probability("logprob_sum", -0.5).round(3)), float(as_probability("stack", 0.5))
    (0.607, 0.5)
    """
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(np.exp(values)) if log_space(name) else values


def in_order(names: Iterable[str]) -> list[str]:
    """Source names in the order of tables: learned first, then other families, controls last."""
    families = ["learned", "given", "other", "asked", "sampled", "outside", "free", "prior", "floor", "control"]
    known = list(_KNOWN)

    def key(name: str) -> tuple[int, int, str]:
        source = Source.parse(name)
        # Another model's reading follows all controls of this one.
        place = len(known) if source.other or source.known is None else known.index(source.known)
        return families.index(source.family), place, name

    return sorted(names, key=key)
