"""How a reader is trained, and what training may choose from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from confide.errors import ConfideError
from confide.methods.finetuning.supervised_config import option, option_of


@dataclass(frozen=True)
class ReaderConfig:
    """How a reader with ask tokens is trained; every choice is made on validation rows."""

    ask_tokens: int = option(4, "Number of ask tokens; 0 reads at the closing token.")
    epochs: int = option(24, "At most this many passes.", min=1)
    learning_rate: float = option(2e-3, "Peak learning rate.", min=0)
    batch_size: int = option(32, "Rows per step.")
    patience: int = option(3, "Stop after this many epochs without a better validation loss.")
    seed: int = option(0, "Seed of what training draws: weights, folds, the order of rows.")


@dataclass(frozen=True)
class ReaderOptions:
    """What `train_confidence` trains, and what it may choose from, in the words of the command line.

    The reader is a LoRA adapter, unless ``ask_tokens`` say otherwise.

    Raises:
        ConfideError: a value that cannot be used, by the name of its flag.

    >>> [config.ask_tokens for config in ReaderOptions(ask_tokens="0,4").candidates]
    [0, 4]
    """

    target: str = option("correctness", "`correctness`, or with `--ask-tokens` also `consistency` with the K samples.")
    ask_tokens: str | None = option(
        None, "Ask tokens in place of the adapter: counts to choose from, such as 4 (0 reads at the closing token)."
    )
    epochs: int | None = option(None, "At most this many passes; by default 8, and 24 of ask tokens.", min=1)
    learning_rate: float | None = option(None, "Peak learning rate; by default 5e-4, and 2e-3 of ask tokens.", min=0)
    prefix_cache: str = option("4GB", "Memory for kept keys and values of ask tokens' rows; a file past it.")
    positions: bool = option(False, "Also fit a probe at each token position (`probe@closing` …).")
    shuffle_labels: bool = option(False, "Control: shuffle labels by the seed; over five seeds nothing may rank.")
    other_model: bool = option(False, "The answers are another model's; train on this one's states.")
    seed: int = option_of(ReaderConfig, "seed")

    def __post_init__(self) -> None:
        if self.target not in ("correctness", "consistency"):
            raise ConfideError(f"--target is correctness or consistency, not {self.target!r}")
        if self.adapter and self.target == "consistency":
            raise ConfideError("the adapter learns right and wrong; consistency is for ask tokens: --ask-tokens 4")
        _ = self.candidates, parse_size(self.prefix_cache)

    @property
    def adapter(self) -> bool:
        """Whether the reader is an adapter."""
        return self.ask_tokens is None

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for of a training; the rest is by the kind of reader."""
        asked = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        return {"seed": self.seed, **{name: value for name, value in asked.items() if value is not None}}

    @property
    def candidates(self) -> tuple[ReaderConfig, ...]:
        """The readers with ask tokens to train, of which the best on validation rows is kept."""
        if self.ask_tokens is None:
            return ()
        try:
            counts = [int(part) for part in self.ask_tokens.split(",") if part.strip()]
        except ValueError:
            raise ConfideError(f"--ask-tokens are numbers separated by commas, not {self.ask_tokens!r}") from None
        if any(count < 0 or count > 64 for count in counts):
            raise ConfideError("--ask-tokens lie between 0 and 64")
        return tuple(ReaderConfig(ask_tokens=count, **self.given) for count in counts)


def parse_size(text: str) -> int:
    """``"4GB"`` → 4_000_000_000 bytes; raises `ConfideError` on anything else than a number and KB, MB, GB."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)i?b?\s*", text.lower())
    if not match:
        raise ConfideError(f"{text!r} is not a size; write it like 4GB or 500MB")
    return int(float(match[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[match[2]])
