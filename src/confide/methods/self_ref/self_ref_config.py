"""How Self-REF is trained, and what training may choose from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from confide.errors import ConfideError
from confide.methods.finetuning.supervised_config import ValidatedConfig, option


@dataclass(frozen=True)
class SelfRefConfig(ValidatedConfig):
    """How to train Self-REF, on top of how rows are trained on."""

    ratio: float | None = option(None, "Unconfident rows per confident row, such as 0.5; natural if unset.")
    mask_wrong_answers: bool = option(True, "No gradient on wrong answers' tokens.")
    learning_rate: float = option(1e-3, "Learning rate.", min=0)
    target_modules: str = option("attention", "What is adapted: `attention` (queries, keys, values) or `all-linear`.")
    max_rows: int | None = option(None, "Train on at most this many rows.", min=1)

    def __post_init__(self) -> None:
        if self.target_modules not in ("attention", "all-linear"):
            raise ConfideError(f"--target-modules is attention or all-linear, not {self.target_modules!r}")


NATURAL = "natural"


@dataclass(frozen=True)
class SelfRefOptions:
    """What `confide train self-ref` chooses from on validation rows, in the words of the command line."""

    ratio: str = option(
        NATURAL, "Unconfident rows per confident row, to choose from: numbers such as 0.5, `natural` for all rows."
    )
    learning_rate: str = option("1e-3", "Learning rates to choose from.")

    def candidates(self, config: SelfRefConfig) -> list[SelfRefConfig]:
        """``config`` with each of the settings to try.

        Raises:
            ConfideError: a value that cannot be used, by the name of its flag.

        >>> options = SelfRefOptions(ratio="natural,0.5", learning_rate="1e-3")
        >>> [(one.ratio, one.learning_rate) for one in options.candidates(SelfRefConfig())]
        [(None, 0.001), (0.5, 0.001)]
        """
        ratios = [None if part == NATURAL else _above_zero("--ratio", part) for part in _parts(self.ratio)]
        rates = [_above_zero("--learning-rate", part) for part in _parts(self.learning_rate)]
        if not ratios or not rates:
            raise ConfideError("--ratio and --learning-rate need one value at least")
        return [replace(config, ratio=ratio, learning_rate=rate) for rate in rates for ratio in ratios]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _above_zero(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfideError(f"{flag} is a number above 0, or several with commas, not {text!r}")
    return value
