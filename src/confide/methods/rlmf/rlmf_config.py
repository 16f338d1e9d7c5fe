"""How RLMF is trained: its format stage, and the reinforcement learning after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from confide.methods.finetuning.supervised_config import SupervisedConfig, option

Statement = Literal["graded", "tagged"]
Target = Literal["consistency", "constant", "shuffled"]
Feedback = Literal["self", "none", "constant", "shuffled", "frozen"]
Form = Literal["quadratic", "linear", "log"]
How = Literal["metacognitive", "random", "active"]
"""How the questions to train on are chosen."""


@dataclass(frozen=True)
class FormatConfig(SupervisedConfig):
    """How the format stage trains; rank and learning rates suit models of a few hundred million parameters."""

    statement: Statement = option("graded", "State a confidence by graded tokens, or as tagged text.")
    target: Target = option("consistency", "What the format stage teaches: g, one constant, or another question's g.")
    answers: int = option(4, "Sampled answers per question to train on.")
    judged_share: float = option(0.4, "Share of the questions kept for rollouts that train the self-judgement.")
    rollouts: int = option(12, "Rollouts for each of these questions.")
    rank: int = option(32, "Rank of the low-rank weights, on all linear layers.", min=1)
    alpha: int = option(64, "Scale of the low-rank weights (alpha / rank).")
    learning_rate: float = option(5e-4, "Learning rate of the low-rank weights.", min=0)
    row_learning_rate: float | None = option(2e-3, "Learning rate of the graded tokens' rows.", min=0)
    epochs: int = option(2, "Passes of the format stage.", min=1)
    batch_size: int = option(32, "Rows per step.")
    warmup_steps: int = option(20, "Warm-up steps, at most a tenth of all steps.")


@dataclass
class RLMFSettings:
    """What RLMF adds to GRPO, and its own defaults of GRPO's settings (2606.32032, sections A1 and A9).

    `confide.methods.rlmf.rlmf_trainer.RLMFConfig` joins them with TRL's ``GRPOConfig``.
    """

    feedback: Feedback = option(
        "self",
        "What refines the advantages: the policy's self-judgement, none (standard RL), its running mean, "
        "shuffled in the group, or the starting model's.",
    )
    offset: float = option(1.0, "k in the multiplier k + Z.")
    faithfulness: Form = option("quadratic", "Form of the faithfulness reward.")
    rewarded: Literal["rlmf", "rlcr"] = option("rlmf", "RLMF's reward, or RLCR's correct − Brier.", flag="reward")
    intrinsic: Literal["group", "frozen"] = option(
        "group", "g: agreement within the group, or with the records' samples."
    )
    tolerance: float = option(0.1, "How near c must be to g to count as faithful in F_gold.")
    accuracy_margin: float = option(0.05, "Accuracy on validation may fall by this much before the run is stopped.")
    patience: int = option(5, "Steps in a row with one stated value only before the run is stopped.")

    learning_rate: float = option(2e-4, "Peak learning rate.", min=0)
    beta: float = option(0.1, "KL to the starting model.", flag="kl_weight", min=0)
    num_generations: int = option(16, "Completions a question.", flag="group_size", min=2)
    per_device_train_batch_size: int = option(32, "Completions that pass at once.")
    gradient_accumulation_steps: int = option(4, "Such passes per step.")
    max_steps: int = option(100, "Optimisation steps; 0 for the format stage alone.", flag="steps", min=0)
    eval_steps: int = option(20, "Steps between looks at validation, and checkpoints.", flag="look_every", min=1)
    save_steps: int = option(20, "Steps between checkpoints to continue from.")
    lr_scheduler_type: str = option("cosine", "How the learning rate falls.")
    warmup_steps: float = option(0.1, "Warm-up, as a share of all steps.")
    max_grad_norm: float = option(0.5, "Gradients are clipped to this norm.")
    loss_type: str = option("grpo", "TRL's loss.")
    scale_rewards: str = option("none", "No division by the group's deviation.")
    temperature: float = option(1.0, "Temperature of the completions; g depends on it.")
    bf16: bool = option(False, "The model has its own precision.")
    gradient_checkpointing: bool = option(False, "Trade time for memory.")
    logging_steps: int = option(1, "Every step is logged.")
    save_total_limit: int = option(2, "Checkpoints kept.")
    report_to: str = option("none", "Where else logs go.")
    disable_tqdm: bool = option(True, "confide shows its own bar.")
    remove_unused_columns: bool = option(False, "The row number is a column.")
    dataloader_pin_memory: bool = option(False, "Batches are text, not tensors.")
