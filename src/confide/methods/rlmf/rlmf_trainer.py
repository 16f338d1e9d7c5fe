"""RLMF on TRL's GRPO: a config subclass and two overrides, everything else is TRL's.

`RLMFTrainer._calculate_rewards` reads and grades the completions once, for both reward functions; with their sum and
no division by the group's deviation TRL's own advantages are standard RL. `_generate_and_score_completions` asks the
policy to judge what it stated, with no gradient, and puts the refined advantages in their place.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from trl import GRPOConfig, GRPOTrainer

from confide.errors import ConfideError
from confide.methods.rlmf import feedback
from confide.methods.rlmf.rlmf_config import RLMFSettings
from confide.methods.rlmf.rollouts import Environment, QuestionPrompt, Rollouts
from confide.metrics import spearman
from confide.numeric import Floats


@dataclass
class RLMFConfig(RLMFSettings, GRPOConfig):
    """GRPO's settings, with RLMF's defaults and what it adds."""

    def __post_init__(self) -> None:
        # A field that transformers renames: nothing that a user could act on.
        warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
        super().__post_init__()


@dataclass(frozen=True)
class BatchRewards:
    """The rewards of one batch of completions [n].

    Attributes:
        o: the objective reward, shape [n].
        f: the faithfulness reward, shape [n].
        f_gold: what the self-judgement should be, shape [n].
        silent: groups that cannot teach, shape [groups].
    """

    rollouts: Rollouts
    o: Floats
    f: Floats
    f_gold: Floats
    silent: NDArray[np.bool_]


class RLMFTrainer(GRPOTrainer):
    """TRL's trainer whose advantages are refined by how well the policy judges itself.

    Args:
        environment: grades completions; its engine generates with the very weights that are trained.
        questions: the dataset's column ``prompt`` holds numbers of these.
    """

    args: RLMFConfig

    def __init__(
        self,
        model: Any,
        args: RLMFConfig,
        *,
        environment: Environment,
        questions: Sequence[QuestionPrompt],
        **kwargs: Any,
    ):
        self.environment, self.questions = environment, questions
        self.batch: BatchRewards | None = None
        self.mean_z = feedback.RunningMean()
        self.judged_seconds = 0.0
        super().__init__(
            model=model,
            reward_funcs=[self.objective, self.faithful],
            args=args,
            rollout_func=self.rollout,
            **kwargs,
        )

    def objective(self, prompts: Sequence[Any], **_: Any) -> list[float]:
        """o: format, correctness and factual calibration (RLCR: correct − Brier, and the format)."""
        assert self.batch is not None
        return [float(value) for value in self.batch.o]

    def faithful(self, prompts: Sequence[Any], **_: Any) -> list[float]:
        """f: `feedback.FAITHFUL_WEIGHT` times how close what is stated is to g (0 under RLCR)."""
        assert self.batch is not None
        return [float(value) for value in self.batch.f]

    def rollout(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Completions by confide's engine: prompts are encoded safely, and one that comes several times runs once."""
        questions = [self.questions[int(prompt)] for prompt in prompts]
        with evaluation_mode(self.model):
            self.completions = self.environment.sample(
                questions[:: self.num_generations],
                self.num_generations,
                temperature=float(self.temperature),
                seed=self.args.seed * 100_003 + self.state.global_step,
            )
        return {
            "prompt_ids": [asked.prompt for asked in questions],
            "completion_ids": [self.environment.stating.completion_ids(c) for c in self.completions],
            "logprobs": None,
        }

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        questions = [self.questions[int(row["prompt"])] for row in inputs[:: self.num_generations]]
        rollouts = self.environment.grade(questions, self.completions, frozen=self.args.intrinsic == "frozen")
        self.batch = reward_rollouts(rollouts, self.args)
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if bad := rewards.isnan().any(1).nonzero()[:, 0].tolist():
            ids = [self.questions[int(inputs[i]["prompt"])].question.id for i in bad if i < len(inputs)]
            raise ConfideError(f"a reward function returned NaN for {len(bad)} completions: {', '.join(ids[:3])}")
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        assert self.batch is not None
        f_pred = self._self_judged(self.batch.rollouts)
        rng = np.random.default_rng([self.args.seed, self.state.global_step])
        values = refine_advantages(self.batch, f_pred, self.args, self.mean_z, rng)
        output["advantages"] = torch.as_tensor(values, dtype=output["advantages"].dtype, device=self.accelerator.device)
        self._log_batch(self.batch, f_pred)
        return output

    def _self_judged(self, rollouts: Rollouts) -> Floats:
        """F_pred [n] of the current policy, or of the frozen start; NaN where it cannot be read or is not wanted."""
        if self.args.rewarded == "rlcr" or self.args.feedback == "none":
            return np.full(len(rollouts.completions), np.nan)
        began = time.perf_counter()
        model = self.accelerator.unwrap_model(self.model)
        start = model.disable_adapter() if self.args.feedback == "frozen" else nullcontext()
        with torch.no_grad(), evaluation_mode(self.model), start:
            f_pred = self.environment.stating.judge(rollouts.prompts, rollouts.completions)
        seconds = time.perf_counter() - began
        self.judged_seconds += seconds
        self._metrics["train"]["f_pred/seconds"].append(seconds)
        return f_pred

    def _log_batch(self, batch: BatchRewards, f_pred: Floats) -> None:
        """What every step logs beside TRL's own numbers (divergence from the start is its ``kl``)."""
        rollouts, known = batch.rollouts, np.isfinite(f_pred)
        stated = [c for row in rollouts.stated for c in row if c is not None]
        intrinsic = [g for row in rollouts.intrinsic for g in row if g is not None]
        numbers = {
            "accuracy": rollouts.correct.mean(),
            "format_failures": 1 - rollouts.parsed.mean(),
            "distinct_confidences": len(set(stated)),
            "stated": np.mean(stated) if stated else math.nan,
            "intrinsic": np.mean(intrinsic) if intrinsic else math.nan,
            "f_gold": batch.f_gold.mean(),
            "silent_groups": batch.silent.sum(),
            "unanimous_groups": rollouts.unanimous.sum(),
        }
        if known.any():
            numbers["f_pred"] = f_pred[known].mean()
            if np.ptp(f_pred[known]) > 0 and np.ptp(batch.f_gold[known]) > 0:
                numbers["f_spearman"] = spearman(f_pred[known], batch.f_gold[known])
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in numbers.items():
            metrics[name].append(float(value))

    def _send_telemetry(self) -> None:
        """TRL tells the hub about every run; confide tells nobody."""


def reward_rollouts(rollouts: Rollouts, config: RLMFConfig) -> BatchRewards:
    """Rewards of completions and the groups that cannot teach.

    RLCR keeps the format rewards and replaces all else by correct − Brier (2507.16806).
    """
    strict = np.array([reading.strict for reading in rollouts.readings], dtype=np.bool_)
    soft = np.array([reading.soft for reading in rollouts.readings], dtype=np.float64)
    if config.rewarded == "rlcr":
        f = np.zeros(len(strict))
        o = feedback.rlcr_reward(rollouts.correct, rollouts.stated) + feedback.objective(strict, soft, f, f)
    else:
        factual = feedback.factuality(rollouts.correct, rollouts.stated)
        o = feedback.objective(strict, soft, rollouts.correct, factual)
        f = feedback.FAITHFUL_WEIGHT * feedback.faithfulness(rollouts.stated, rollouts.intrinsic, config.faithfulness)
    silent = feedback.silent_groups(o, f, rollouts.stated, rollouts.size)
    return BatchRewards(rollouts, o, f, rollouts.f_gold(config.tolerance), silent)


def refine_advantages(
    batch: BatchRewards,
    f_pred: Floats,
    config: RLMFConfig,
    mean_z: feedback.RunningMean,
    rng: np.random.Generator,
) -> Floats:
    """The advantages of completions [n] with their self-judgements ``f_pred`` [n]; those of silent groups are 0."""
    size = batch.rollouts.size
    z: Floats | None = None
    if config.rewarded == "rlmf" and config.feedback != "none":
        z = feedback.multiplier(f_pred, batch.f_gold)
        if config.feedback == "constant":
            z = np.full(len(z), mean_z.update(z))
        elif config.feedback == "shuffled":
            z = feedback.shuffled_within(z, size, rng)
    values = feedback.advantages(batch.o, batch.f, z, size, config.offset)
    return np.where(np.repeat(batch.silent, size), 0.0, values)


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """A model in evaluation mode for as long as the context is open."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
