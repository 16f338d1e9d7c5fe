"""What a training on a frozen model is asked for besides its rows."""

from __future__ import annotations

from dataclasses import dataclass

from confide.methods.finetuning.supervised_config import option


@dataclass(frozen=True)
class FrozenOptions:
    """How stack and probes are trained; a reader has settings of its own."""

    positions: bool = option(False, "Also fit a probe at each token position (`probe@closing` …).")
    shuffle_labels: bool = option(False, "Control: shuffle labels by the seed; over five seeds nothing may rank.")
    other_model: bool = option(False, "The answers are another model's; train on this one's states.")
    seed: int = option(0, "Seed of what training draws: weights, folds, the order of rows.")
