"""Supervised training on TRL and PEFT, of Self-REF and of RLMF's format stage: loss, adapter, optimiser, row order."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import TrainerControl, TrainerState, set_seed
from trl import SFTConfig, SFTTrainer

from confide.errors import ConfideError
from confide.methods import processes
from confide.methods.finetuning.held_out import LOSS, HeldOut, Patience, load_best, losses_of
from confide.methods.finetuning.labelled_rows import LabelledRow, collate, logits_at
from confide.methods.finetuning.row_order import row_order
from confide.methods.finetuning.runs import last_checkpoint, report_progress
from confide.methods.finetuning.supervised_config import SupervisedConfig
from confide.numeric import Floats
from confide.progress import Progress

# What attention's query, key and value projections are called; the first set that a model has is adapted.
PROJECTIONS = (("q_proj", "k_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("c_attn",), ("Wqkv",))


@dataclass(frozen=True)
class Fitted:
    """A model with its trained adapter, in training mode.

    Attributes:
        model: None under FSDP in all processes but the main one.
        losses: on training rows, logged on the way.
        held_losses: on held-out rows after each epoch; the adapter is that of the lowest one.
    """

    model: Any
    losses: list[float]
    held_losses: list[float]


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
    """TRL's trainer with a loss whose logits exist only where there is a label, and verdicts on held-out rows."""

    def __init__(
        self,
        *args: Any,
        new_ids: Sequence[int],
        settings: SupervisedConfig,
        verdict: tuple[int, int] | None = None,
        held: HeldOut | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.new_ids = list(new_ids)
        self.settings = settings
        self.verdict = verdict
        self.held = held

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Cross-entropy at the labels, plus the weighted KL to the base on the answer tokens."""
        return inside(model, partial(self.loss, self.accelerator.unwrap_model(model), inputs))

    def loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """The loss of one process's rows, by a model without the wrapping of several processes."""
        labels, answer = of_next_token(inputs["labels"], -100), of_next_token(inputs["answer"], 0).bool()
        positions = labels != -100
        if self.settings.kl_weight:
            positions |= answer
        logits = logits_at(model, inputs, positions)
        loss = answer_loss(logits, labels[positions]) * self.share((labels != -100).sum())
        if self.settings.kl_weight:
            with torch.no_grad(), model.disable_adapter():
                base = logits_at(model, inputs, answer)
            kl = kl_to_base(logits[answer[positions]], base, self.new_ids)
            loss = loss + self.settings.kl_weight * kl * self.share(answer.sum())
        return loss

    def share(self, count: Tensor) -> Tensor | float:
        """What a mean over ``count`` positions of this process is multiplied by.

        Processes average their losses and gradients: with this they come out as the mean over all positions, however
        these fall on the processes.
        """
        if processes.count() == 1:
            return 1.0
        everywhere = self.accelerator.reduce(count.double(), "sum").clamp(min=1)
        return (count * processes.count() / everywhere).float()

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        """`optimizer`, once the model is where it is trained."""
        self.optimizer: torch.optim.Optimizer | None
        if self.optimizer is None:
            self.optimizer = optimizer(self.accelerator.unwrap_model(self.model), self.settings)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """What the verdicts on the held-out rows cost now; processes share the rows."""
        assert self.held is not None
        assert self.verdict is not None
        model = self.accelerator.unwrap_model(self.model)
        z = verdict_logits(model, self.held.rows, self.verdict, self.data_collator)
        # The main process's number is everyone's: where they differ in the last bit, they would part ways.
        metrics = {LOSS: processes.on_main(partial(self.held.loss, z))}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _send_telemetry(self) -> None:
        """TRL tells the hub about every run; confide tells nobody."""


def inside(wrapped: Any, work: Callable[[], Tensor]) -> Tensor:
    """Run what uses a model as if it were one forward pass of the ``wrapped`` model.

    What wraps a model for several processes gathers weights before its forward pass, and gradients of what went through
    it alone; a loss here takes several passes through parts of the model.
    """
    if processes.count() == 1:
        return work()
    own = vars(getattr(wrapped, "module", wrapped))
    before = own.get("forward")  # TRL's
    own["forward"] = work
    try:
        loss: Tensor = wrapped()
    finally:
        own.pop("forward") if before is None else own.update(forward=before)
    return loss


@torch.no_grad()
def verdict_logits(
    model: Any, rows: Sequence[LabelledRow], verdict: tuple[int, int], collator: Callable[[Any], Any], size: int = 32
) -> Floats:
    """By how much the first token of the ``verdict`` is likelier than the second, in logits, in each row [n]."""
    model.eval()
    device = next(iter(model.parameters())).device
    z = np.zeros(len(rows))
    order = sorted(range(len(rows)), key=lambda i: (rows[i].context, len(rows[i].input_ids)))
    for some, counts in processes.shared([order[at : at + size] for at in range(0, len(order), size)]):
        batch = {name: value.to(device) for name, value in collator([rows[i].columns() for i in some]).items()}
        labels = of_next_token(batch["labels"], -100)
        wanted = (labels == verdict[0]) | (labels == verdict[1])
        logits = inside(model, partial(logits_at, model, batch, wanted))
        if counts:
            z[some] = (logits[:, verdict[0]] - logits[:, verdict[1]]).cpu().numpy()
    model.train()
    processes.merge(z)
    return z


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
    verdict: tuple[int, int] | None = None,
    held: HeldOut | None = None,
    trainer_class: type[SupervisedTrainer] = SupervisedTrainer,
) -> Fitted:
    """Train an adapter on ``rows``; a killed run continues from its last whole checkpoint.

    Args:
        new_ids: the vocabulary rows to train beside the adapter; none: the vocabulary stays.
        checkpoints: the folder of the run's checkpoints.
        title: what progress calls the run.
        whole: adapt every linear layer, not queries, keys and values alone.
        verdict: the tokens that say yes and no, which ``held`` rows end in.
        held: rows that choose the epoch; without them the last one is kept.
        trainer_class: what computes the loss, and judges the held-out rows.
    """
    set_seed(config.seed)  # the low-rank weights are drawn before TRL sets its own seed
    size, again = min(config.batch_size, len(rows)), config.gradient_checkpointing
    if size % processes.count():
        raise ConfideError(f"{size} rows a step do not split over {processes.count()} processes: set --batch-size")
    order = row_order(rows, config.epochs, size, config.seed)
    pad_id = next(i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if i is not None)
    # Versions of transformers rename what TRL still sets; nothing that a user could act on.
    warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing(_disable)?` is deprecated", FutureWarning)
    adapt = partial(add_adapter, new_ids=new_ids, config=config, whole=whole)
    # What is trained under FSDP stays in pieces; the main process puts the trained weights on a model that is whole.
    kept = model if processes.fully_sharded() and processes.is_main() else None
    model = model if kept is None else copy.deepcopy(model)
    before = attention_of(model)
    model = adapt(model)
    columns = Dataset.from_list([row.columns() for row in rows]).select(order)
    trainer = trainer_class(
        model=model,
        args=_arguments(config, len(order) // size, size, checkpoints, model, chosen=held is not None),
        train_dataset=columns,
        eval_dataset=columns.select([0]) if held else None,  # the trainer wants one; `evaluate` reads `held`
        processing_class=tokenizer,
        data_collator=partial(collate, pad_id=pad_id, share=not (again or processes.fully_sharded())),
        callbacks=[Patience(held.patience)] if held else None,
        new_ids=new_ids,
        settings=config,
        verdict=verdict,
        held=held,
    )
    report_progress(trainer, progress, title)
    _run(trainer, checkpoints, held)
    return _fitted(trainer, None if kept is None else partial(adapt, kept), before, checkpoints)


def _fitted(
    trainer: SupervisedTrainer, whole: Callable[[], Any] | None, before: str | None, checkpoints: Path
) -> Fitted:
    """The model with its best adapter, as it was ``before`` in all else; under FSDP the ``whole`` one takes it."""
    best = trainer.state.best_model_checkpoint
    folder = checkpoints / Path(best).name if best else None
    history = trainer.state.log_history
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    if processes.fully_sharded():
        whole_model = None if whole is None else whole()
        if whole_model is not None:
            newest = folder or last_checkpoint(checkpoints)
            assert newest is not None
            load_best(whole_model, newest)
        return Fitted(whole_model, losses, losses_of(history))
    if folder is not None:
        load_best(trainer.model, folder)
    if trainer.settings.gradient_checkpointing:  # both would outlive the adapter
        trainer.model.gradient_checkpointing_disable()
        trainer.model.disable_input_require_grads()
    if before is not None:
        trainer.model.get_base_model().set_attn_implementation(before)
    return Fitted(trainer.model, losses, losses_of(history))


def _run(trainer: SupervisedTrainer, checkpoints: Path, held: HeldOut | None) -> None:
    """Train from the last whole checkpoint on; a run that has ended is not begun again."""
    last = processes.on_main(partial(last_checkpoint, checkpoints))
    if last is not None and held is not None and held.ended(last):
        trainer.state = TrainerState.load_from_json(str(last / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(last) if last else None)


def attention_of(model: Any) -> str | None:
    """Turn a model's attention to plain matrix products where they are faster, and say what it was (None: no turn).

    On processors the fused kernel's backward pass over a few rows behind a shared prefix is slower than plain products.
    """
    if next(iter(model.parameters())).device.type != "cpu":
        return None
    before = str(model.config._attn_implementation)
    model.set_attn_implementation("eager")
    return before


def _arguments(
    config: SupervisedConfig, steps: int, size: int, checkpoints: Path, model: Any, *, chosen: bool
) -> SFTConfig:
    """TRL's settings of a run of ``steps`` batches of ``size`` rows, of whose epochs one is ``chosen`` in the end."""
    epoch = {"eval_strategy": "steps", "eval_steps": steps // config.epochs, "metric_for_best_model": LOSS}
    return SFTConfig(
        output_dir=str(checkpoints),
        per_device_train_batch_size=size // processes.count(),
        # The order spells out all epochs, so that a run that continues sees the rows an unbroken one would.
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        learning_rate=config.learning_rate,
        warmup_steps=min(config.warmup_steps, steps // 10),
        seed=config.seed,
        max_length=None,
        bf16=False,
        fp16=False,
        # An expert may see no token of a batch.
        ddp_find_unused_parameters=any("expert" in name for name, p in model.named_parameters() if p.requires_grad),
        use_cpu=not torch.cuda.is_available(),  # where several processes would not find each other otherwise
        gradient_checkpointing=config.gradient_checkpointing,
        save_strategy="steps",
        save_steps=steps // config.epochs if chosen else config.save_steps,
        save_total_limit=2,
        logging_steps=10,
        report_to="none",
        router_aux_loss_coef=0.0,  # experts keep their balance; its mask would not fit rows behind a shared prefix
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **(epoch if chosen else {}),
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
    if tied and new_ids and processes.fully_sharded():
        raise ConfideError(
            f"{type(model).__name__} has one matrix for its input and output layers, of which rows alone are trained: "
            "FSDP cannot take it apart; start it without FSDP"
        )
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
            target_modules=linear_layers(model) if whole else list(targets),
            trainable_token_indices=rows if new_ids else None,
            task_type="CAUSAL_LM",
        ),
    )
    # With a base name PEFT asks the hub at every checkpoint whether the vocabulary grew.
    peft.peft_config["default"].base_model_name_or_path = ""
    return peft


def linear_layers(model: Any) -> list[str]:
    """What the linear layers but the output layer are called; experts that are one block of numbers are none.

    PEFT's own "all-linear" adapts such blocks too, which neither the reader nor most servers can apply.
    """
    head = model.get_output_embeddings()
    linear = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return sorted({name.rpartition(".")[2] for name in linear})


def optimizer(model: Any, config: SupervisedConfig) -> torch.optim.Optimizer:
    """AdamW in which the new rows may move at a rate of their own."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    rows = [parameter for name, parameter in trained if "trainable_tokens" in name]
    others = [parameter for name, parameter in trained if "trainable_tokens" not in name]
    rate = config.learning_rate if config.row_learning_rate is None else config.row_learning_rate
    groups: list[dict[str, Any]] = [{"params": others}, {"params": rows, "lr": rate}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def of_next_token(columns: Tensor, filler: int) -> Tensor:
    """At each position, the value that belongs to the token after it."""
    return functional.pad(columns[:, 1:], (0, 1), value=filler)
