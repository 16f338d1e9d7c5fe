"""How a red-flag token is trained, and what training may choose from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from confide.errors import ConfideError
from confide.methods.finetuning.supervised_config import ValidatedConfig, option


@dataclass(frozen=True)
class FlagConfig(ValidatedConfig):
    """How to train a red-flag token, on top of how rows are trained on."""

    min_offset: int = option(2, "Tokens of a harmful answer before the flag is taught.", min=0)
    flag_weight: float = option(1.0, "Weight of the flag's cross-entropy on harmful answers.", min=0)
    follow_weight: float = option(1.0, "Weight of the KL to the base on what follows a flag.", min=0)
    harmless_weight: float = option(1.0, "Weight of the KL to the base on harmless answers.", min=0)
    learning_rate: float = option(3e-4, "Learning rate.", min=0)
    max_rows: int | None = option(None, "Train on at most this many answers of each kind.", min=1)


@dataclass(frozen=True)
class FlagOptions:
    """What training chooses from on validation rows, in the words of the command line."""

    harmless_weights: str = option("1,4", "Weights of the KL on harmless answers to choose from.")
    most_drift: float = option(
        0.05, "The most that harmless answers may drift: KL to the base in nats a token, on validation rows.", min=0
    )

    def candidates(self, config: FlagConfig) -> list[FlagConfig]:
        """``config`` with each of the weights to try.

        Raises:
            ConfideError: a weight that is no number above 0.

        >>> [one.harmless_weight for one in FlagOptions("1, 4").candidates(FlagConfig())]
        [1.0, 4.0]
        """
        try:
            weights = [float(part) for part in self.harmless_weights.split(",")]
        except ValueError:
            weights = []
        if not weights or not all(0 < weight < float("inf") for weight in weights):
            raise ConfideError(
                f"--harmless-weights are numbers above 0 with commas between, not {self.harmless_weights!r}"
            )
        return [replace(config, harmless_weight=weight) for weight in weights]
