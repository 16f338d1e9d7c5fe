"""Supervised training on TRL and PEFT, of Self-REF and of RLMF's format stage: loss, adapter, optimiser, row order."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from confide.errors import ConfideError
from confide.methods.finetuning.labelled_rows import LabelledRow, collate, logits_at
from confide.methods.finetuning.runs import last_checkpoint, merge_adapter, report_progress
from confide.methods.finetuning.supervised_config import SupervisedConfig
from confide.progress import Progress

# What attention's query, key and value projections are called; the first set that a model has is adapted.
PROJECTIONS = (("q_proj", "k_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("c_attn",), ("Wqkv",))


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Next-token cross-entropy, averaged over the labels that are not −100."""
    total = functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return total / (labels != -100).sum().clamp(min=1)


def kl_to_base(logits: Tensor, base: Tensor, new_ids: Sequence[int]) -> Tensor:
    """KL divergence from the base model's next-token distribution to the trained one, a mean over positions.

    The base model knows no new tokens, so the probability that it would give them is taken out.
    """
    base = base.clone()
    base[:, list(new_ids)] = -torch.inf
    total = functional.kl_div(logits.log_softmax(-1), base.softmax(-1), reduction="sum")
    return total / max(len(logits), 1)


class SupervisedTrainer(SFTTrainer):
    """TRL's trainer with a loss whose logits exist only where there is a label."""

    def __init__(self, *args: Any, new_ids: Sequence[int], kl_weight: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.new_ids = list(new_ids)
        self.kl_weight = kl_weight

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Cross-entropy at the labels, plus the weighted KL to the base on the answer tokens."""
        model = self.accelerator.unwrap_model(model)
        labels, answer = of_next_token(inputs["labels"], -100), of_next_token(inputs["answer"], 0).bool()
        positions = labels != -100
        if self.kl_weight:
            positions |= answer
        logits = logits_at(model, inputs, positions)
        loss = answer_loss(logits, labels[positions])
        if self.kl_weight:
            with torch.no_grad(), model.disable_adapter():
                base = logits_at(model, inputs, answer)
            loss = loss + self.kl_weight * kl_to_base(logits[answer[positions]], base, self.new_ids)
        return loss

    def _send_telemetry(self) -> None:
        """TRL tells the hub about every run; confide tells nobody."""


def fit(
    model: Any,
    tokenizer: Any,
    rows: Sequence[LabelledRow],
    new_ids: Sequence[int],
    config: SupervisedConfig,
    checkpoints: Path,
    progress: Progress | None,
    *,
    title: str = "self-ref",
    whole: bool = False,
) -> tuple[Any, list[float]]:
    """Train an adapter on ``rows`` and merge it; a killed run continues from its last whole checkpoint.

    Args:
        new_ids: the vocabulary rows to train beside the adapter; none: the vocabulary stays.
        checkpoints: the folder of the run's checkpoints.
        title: what progress calls the run.
        whole: adapt every linear layer, not queries, keys and values alone.

    Returns:
        The model, and the losses logged on the way.
    """
    set_seed(config.seed)  # the low-rank weights are drawn before TRL sets its own seed
    columns = [{"input_ids": row.input_ids, "labels": row.labels, "answer": row.answer_mask} for row in rows]
    order = row_order(rows, config.epochs, config.batch_size, config.seed)
    pad_id = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    # Versions of transformers rename what TRL still sets; nothing that a user could act on.
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
    model = add_adapter(model, new_ids, config, whole=whole)
    trainer = SupervisedTrainer(
        model=model,
        args=_arguments(config, len(order), checkpoints),
        train_dataset=Dataset.from_list(columns).select(order),
        processing_class=tokenizer,
        data_collator=lambda batch: collate(batch, pad_id),
        optimizers=(optimizer(model, config), None),
        new_ids=new_ids,
        kl_weight=config.kl_weight,
    )
    report_progress(trainer, progress, title)
    last = last_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return merge_adapter(trainer), losses


def _arguments(config: SupervisedConfig, rows: int, checkpoints: Path) -> SFTConfig:
    """TRL's settings of a run over ``rows`` rows, those of all epochs."""
    return SFTConfig(
        output_dir=str(checkpoints),
        per_device_train_batch_size=config.batch_size,
        # The order spells out all epochs, so that a run that continues sees the rows an unbroken one would.
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        learning_rate=config.learning_rate,
        warmup_steps=min(config.warmup_steps, -(-rows // config.batch_size) // 10),
        seed=config.seed,
        max_length=None,
        bf16=False,
        fp16=False,
        gradient_checkpointing=False,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def add_adapter(model: Any, new_ids: Sequence[int], config: SupervisedConfig, *, whole: bool = False) -> Any:
    """The model with low-rank weights (on q, k and v, or ``whole``) and the new rows to train, all in float32."""
    names = dict(model.named_modules())
    last_parts = {name.rpartition(".")[2] for name in names}
    targets = next((group for group in PROJECTIONS if last_parts.issuperset(group)), None)
    if targets is None:
        raise ConfideError(f"{type(model).__name__} has no query, key and value layers that Self-REF knows")
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head.weight is embedding.weight
    if getattr(head, "bias", None) is not None:
        # PEFT's wrapper around single output rows leaves the bias out.
        raise ConfideError(f"{type(model).__name__} has an output layer with a bias, which Self-REF cannot train")
    # Tied: naming the input rows trains both. Untied: the output rows must be named too, or they never move.
    trained = [embedding] if tied else [embedding, head]
    rows = {name: list(new_ids) for name, module in names.items() if any(module is layer for layer in trained)}
    peft = get_peft_model(
        model,
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=0.0,
            target_modules="all-linear" if whole else list(targets),
            trainable_token_indices=rows if new_ids else None,
            task_type="CAUSAL_LM",
        ),
    )
    # With a base name PEFT asks the hub at every checkpoint whether the vocabulary grew.
    peft.peft_config["default"].base_model_name_or_path = ""
    return peft


def optimizer(model: Any, config: SupervisedConfig) -> torch.optim.Optimizer:
    """AdamW in which the new rows may move at a rate of their own."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = [parameter for name, parameter in trained if "trainable_tokens" in name]
    others = [parameter for name, parameter in trained if "trainable_tokens" not in name]
    rate = config.learning_rate if config.row_learning_rate is None else config.row_learning_rate
    groups: list[dict[str, Any]] = [{"params": others}, {"params": rows, "lr": rate}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def row_order(rows: Sequence[LabelledRow], epochs: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the rows for all epochs: shuffled, with rows of like prompt and length side by side.

    Batches of like rows share the longest prefix and waste the least padding; they are alike only within
    a window of 32 batches, and the batches of a window are shuffled again.
    """
    chance = random.Random(seed)
    stream: list[int] = []
    for _ in range(epochs):
        epoch = list(range(len(rows)))
        chance.shuffle(epoch)
        stream += epoch
    order: list[int] = []
    window = 32 * batch_size
    for start in range(0, len(stream), window):
        near = sorted(stream[start : start + window], key=lambda i: (rows[i].context, len(rows[i].input_ids)))
        batches = [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
        whole = batches if len(batches[-1]) == batch_size else batches[:-1]
        chance.shuffle(whole)
        order += [index for batch in whole for index in batch]
        order += [] if whole is batches else batches[-1]
    return order


def of_next_token(columns: Tensor, filler: int) -> Tensor:
    """At each position, the value that belongs to the token after it."""
    return functional.pad(columns[:, 1:], (0, 1), value=filler)
