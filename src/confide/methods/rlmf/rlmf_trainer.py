"""RLMF on TRL's GRPO: a config subclass and two overrides, everything else is TRL's.

`RLMFTrainer._calculate_rewards` reads and grades the completions once, for both reward functions; with their sum and
no division by the group's deviation TRL's own advantages are standard RL. `_generate_and_score_completions` asks the
policy to judge what it stated, with no gradient, and puts the refined advantages in their place.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from confide.errors import ConfideError
from confide.files import write_text
from confide.methods.rlmf import feedback
from confide.methods.rlmf.feedback import Form
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge
from confide.methods.rlmf.rollouts import Asked, Rollouts, Stating, observe, sample
from confide.metrics import spearman
from confide.tasks import Task

Feedback = Literal["self", "none", "constant", "shuffled", "frozen"]


@dataclass
class RLMFConfig(GRPOConfig):
    """GRPO's settings, with RLMF's defaults and what it adds (2606.32032, sections A1 and A9)."""

    feedback: Feedback = field(
        default="self",
        metadata={
            "help": "What refines the advantages: the policy's own judgement, none (standard RL), its running mean "
            "(constant), the judgements shuffled within each group, or those of the frozen starting model."
        },
    )
    offset: float = field(
        default=1.0, metadata={"help": "k in the multiplier k + Z of faithfulness above the group's mean."}
    )
    faithfulness: Form = field(default="quadratic", metadata={"help": "The form of the faithfulness reward."})
    rewarded: Literal["rlmf", "rlcr"] = field(
        default="rlmf", metadata={"help": "The reward: RLMF's, or RLCR's correct − Brier."}
    )
    intrinsic: Literal["group", "frozen"] = field(
        default="group",
        metadata={"help": "g: agreement with the group's other completions, or with the records' samples (frozen)."},
    )
    tolerance: float = field(default=0.1, metadata={"help": "How near c must be to g to count as faithful in F_gold."})
    accuracy_margin: float = field(
        default=0.05, metadata={"help": "Accuracy on validation may fall by this much before the run is stopped."}
    )
    patience: int = field(
        default=5, metadata={"help": "Steps in a row with one stated value only before the run is stopped."}
    )

    learning_rate: float = field(default=2e-4, metadata={"help": "Peak learning rate of the low-rank weights."})
    beta: float = field(default=0.1, metadata={"help": "Weight of the KL divergence to the starting model."})
    num_generations: int | None = field(default=16, metadata={"help": "Completions a question (a group)."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Completions that pass at once."})
    gradient_accumulation_steps: int = field(default=4, metadata={"help": "Such passes a step."})
    max_steps: int = field(default=100, metadata={"help": "Optimisation steps."})
    eval_steps: float | None = field(default=20, metadata={"help": "Steps between looks at the validation rows."})
    save_steps: float = field(default=20, metadata={"help": "Steps between checkpoints to continue from."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "How the learning rate falls."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up, as a share of all steps."})
    max_grad_norm: float = field(default=0.5, metadata={"help": "Gradients are clipped to this norm."})
    loss_type: str = field(default="grpo", metadata={"help": "TRL's loss."})
    scale_rewards: str = field(default="none", metadata={"help": "No division by the group's deviation."})
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the completions; g depends on it."})
    bf16: bool | None = field(default=False, metadata={"help": "The model has its own precision."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Trade time for memory."})
    logging_steps: float = field(default=1, metadata={"help": "Every step is logged."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept."})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Where else logs go."})
    disable_tqdm: bool | None = field(default=True, metadata={"help": "confide shows its own bar."})
    remove_unused_columns: bool | None = field(default=False, metadata={"help": "The row number is a column."})
    dataloader_pin_memory: bool = field(default=False, metadata={"help": "Batches are text, not tensors."})

    def __post_init__(self) -> None:
        # A field that transformers renames: nothing that a user could act on.
        warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
        super().__post_init__()


@dataclass(frozen=True)
class Scored:
    """The feedback on one batch of completions [n]."""

    rollouts: Rollouts
    o: NDArray[np.float64]
    f: NDArray[np.float64]
    f_gold: NDArray[np.float64]
    silent: NDArray[np.bool_]


class RLMFTrainer(GRPOTrainer):
    """TRL's trainer whose advantages are refined by how well the policy judges itself.

    Args:
        stating: reads completions; its engine generates with the very weights that are trained.
        task: the grader.
        asked: the questions; the dataset's column ``row`` numbers them.
        judge: compares statements in place of the grader.
    """

    args: RLMFConfig

    def __init__(
        self,
        model: Any,
        args: RLMFConfig,
        *,
        stating: Stating,
        task: Task,
        asked: Sequence[Asked],
        judge: SentenceJudge | None = None,
        **kwargs: Any,
    ):
        self.stating, self.task, self.asked, self.judge = stating, task, asked, judge
        self.scored: Scored | None = None
        self.usual = feedback.RunningMean()
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
        assert self.scored is not None
        return [float(value) for value in self.scored.o]

    def faithful(self, prompts: Sequence[Any], **_: Any) -> list[float]:
        """f: `feedback.FAITHFUL_WEIGHT` times how close what is stated is to g (0 under RLCR)."""
        assert self.scored is not None
        return [float(value) for value in self.scored.f]

    def rollout(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Completions by confide's engine: prompts are encoded safely, and one that comes several times runs once."""
        asked = [self.asked[int(prompt)] for prompt in prompts]
        size = self.num_generations
        with self._generating():
            self.completions = sample(
                self.stating,
                asked[::size],
                size,
                int(self.max_completion_length),
                temperature=float(self.temperature),
                seed=self.args.seed * 100_003 + self.state.global_step,
            )
        return {
            "prompt_ids": [one.prompt for one in asked],
            "completion_ids": [self.stating.written(c) for c in self.completions],
            "logprobs": None,
        }

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        rollouts = observe(
            self.stating,
            self.task,
            [self.asked[int(row["prompt"])] for row in inputs[:: self.num_generations]],
            self.completions,
            frozen=self.args.intrinsic == "frozen",
            judge=self.judge,
        )
        self.scored = score(rollouts, self.args)
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if bad := rewards.isnan().any(1).nonzero()[:, 0].tolist():
            ids = [self.asked[int(inputs[i]["prompt"])].question.id for i in bad if i < len(inputs)]
            raise ConfideError(f"a reward function returned NaN for {len(bad)} completions: {', '.join(ids[:3])}")
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        assert self.scored is not None
        scored, rollouts = self.scored, self.scored.rollouts
        f_pred = self._self_judged(rollouts)
        rng = np.random.default_rng([self.args.seed, self.state.global_step])
        values = refined(scored, f_pred, self.args, self.usual, rng)
        output["advantages"] = torch.as_tensor(values, dtype=output["advantages"].dtype, device=self.accelerator.device)
        self._note(scored, f_pred)
        return output

    def _self_judged(self, rollouts: Rollouts) -> NDArray[np.float64]:
        """F_pred [n] of the current policy, or of the frozen start; NaN where it cannot be read or is not wanted."""
        if self.args.rewarded == "rlcr" or self.args.feedback == "none":
            return np.full(len(rollouts.completions), np.nan)
        began = time.perf_counter()
        model = self.accelerator.unwrap_model(self.model)
        start: AbstractContextManager[Any] = (
            model.disable_adapter() if self.args.feedback == "frozen" else nullcontext()
        )
        with torch.no_grad(), self._generating(), start:
            found = self.stating.judge(rollouts.prompts, rollouts.completions)
        self.judged_seconds += time.perf_counter() - began
        self._metrics["train"]["f_pred/seconds"].append(time.perf_counter() - began)
        return found

    def _generating(self) -> AbstractContextManager[Any]:
        return _Evaluating(self.model)

    def _note(self, scored: Scored, f_pred: NDArray[np.float64]) -> None:
        """What every step logs beside TRL's own numbers (divergence from the start is its ``kl``)."""
        rollouts = scored.rollouts
        stated = [c for row in rollouts.stated for c in row if c is not None]
        known = np.isfinite(f_pred)
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["accuracy"].append(float(rollouts.correct.mean()))
        metrics["format_failures"].append(float(1 - rollouts.parsed.mean()))
        metrics["distinct_confidences"].append(float(len(set(stated))))
        metrics["stated"].append(float(np.mean(stated)) if stated else math.nan)
        intrinsic = [g for row in rollouts.intrinsic for g in row if g is not None]
        metrics["intrinsic"].append(float(np.mean(intrinsic)) if intrinsic else math.nan)
        metrics["f_gold"].append(float(scored.f_gold.mean()))
        metrics["silent_groups"].append(float(scored.silent.sum()))
        metrics["unanimous_groups"].append(float(rollouts.unanimous.sum()))
        if known.any():
            metrics["f_pred"].append(float(f_pred[known].mean()))
            if np.ptp(f_pred[known]) > 0 and np.ptp(scored.f_gold[known]) > 0:
                metrics["f_spearman"].append(float(spearman(f_pred[known], scored.f_gold[known])))

    def _send_telemetry(self) -> None:
        """TRL tells the hub about every run; confide tells nobody."""


def score(rollouts: Rollouts, config: RLMFConfig) -> Scored:
    """Rewards of completions and the groups that cannot teach.

    RLCR keeps the format rewards and replaces all else by correct − Brier (2507.16806).
    """
    strict = np.array([reading.strict for reading in rollouts.readings], dtype=np.bool_)
    soft = np.array([reading.soft for reading in rollouts.readings], dtype=np.float64)
    gold = rollouts.f_gold(config.tolerance)
    if config.rewarded == "rlcr":
        nothing = np.zeros(len(strict))
        o = feedback.rlcr_reward(rollouts.correct, rollouts.stated) + feedback.objective(strict, soft, nothing, nothing)
        f = nothing
    else:
        factual = feedback.factuality(rollouts.correct, rollouts.stated)
        o = feedback.objective(strict, soft, rollouts.correct, factual)
        f = feedback.FAITHFUL_WEIGHT * feedback.faithfulness(rollouts.stated, rollouts.intrinsic, config.faithfulness)
    return Scored(rollouts, o, f, gold, feedback.silent_groups(o, f, rollouts.stated, rollouts.size))


def refined(
    scored: Scored,
    f_pred: NDArray[np.float64],
    config: RLMFConfig,
    usual: feedback.RunningMean,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The advantages of completions [n]; those of silent groups are 0."""
    size = scored.rollouts.size
    z: NDArray[np.float64] | None = None
    if config.rewarded == "rlmf" and config.feedback != "none":
        z = feedback.multiplier(f_pred, scored.f_gold)
        if config.feedback == "constant":
            z = np.full(len(z), usual.update(z))
        elif config.feedback == "shuffled":
            z = feedback.shuffled_within(z, size, rng)
    values = feedback.advantages(scored.o, scored.f, z, size, config.offset)
    return np.where(np.repeat(scored.silent, size), 0.0, values)


class _Evaluating:
    """A model in evaluation mode for as long as the context is open."""

    def __init__(self, model: Any):
        self.model, self.training = model, model.training

    def __enter__(self) -> None:
        self.model.eval()

    def __exit__(self, *_: Any) -> None:
        self.model.train(self.training)


class Log(TrainerCallback):
    """Every step's numbers as JSON lines; a resumed run cuts what came after its checkpoint."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the lines up to the step that the run goes on from."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                if json.loads(line)["step"] <= state.global_step:
                    kept.append(line)
            except ValueError:
                break  # a kill left it half-written
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append one line."""
        numbers = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float) and math.isfinite(v)}
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"step": state.global_step, **numbers}) + "\n")
