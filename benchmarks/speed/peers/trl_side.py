"""TRL and PEFT alone: the same rows in the same order, with the adapter and the loss that confide trains."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.speed.peers.side_loop import Config, Found, Work, serve


def prepare(config: Config) -> Mapping[str, Work]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    def train(job: Config) -> Callable[[], Found]:
        tokenizer = AutoTokenizer.from_pretrained(job["model"])
        model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
        set_seed(0)
        lora = LoraConfig(
            r=job["rank"], lora_alpha=job["alpha"], lora_dropout=0.0, task_type="CAUSAL_LM",
            target_modules=job["targets"],
            trainable_token_indices={"embed_tokens": job["new_ids"]} if job["new_ids"] else None,
        )  # fmt: skip
        adapted = get_peft_model(model, lora)
        if job["new_ids"]:  # TRL's loss asks the wrapped output layer for a bias
            model.get_output_embeddings().register_parameter("bias", None)
        named = [(name, one) for name, one in adapted.named_parameters() if one.requires_grad]
        groups = [
            {"params": [one for name, one in named if "trainable_tokens" not in name]},
            {"params": [one for name, one in named if "trainable_tokens" in name], "lr": job["row_learning_rate"]},
        ]
        rows = [{name: job["rows"][place][name] for name in ("input_ids", "labels")} for place in job["order"]]
        with tempfile.TemporaryDirectory() as folder:
            settings = SFTConfig(
                output_dir=folder, per_device_train_batch_size=job["batch"], num_train_epochs=1, max_length=None,
                train_sampling_strategy="sequential", learning_rate=job["learning_rate"], warmup_steps=job["warmup"],
                bf16=False, gradient_checkpointing=False, save_strategy="no", logging_steps=1, report_to="none",
                disable_tqdm=True, dataloader_pin_memory=False, use_cpu=True, seed=0,
            )  # fmt: skip
            trainer = SFTTrainer(
                model=adapted, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
                optimizers=(torch.optim.AdamW(groups, lr=job["learning_rate"], weight_decay=0.0), None),
            )  # fmt: skip
            trainer.train()
        losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]

        def found() -> Found:
            return {"losses": losses, "held": held_logits(adapted.eval(), job)}

        return found

    @torch.no_grad()
    def held_logits(model: Any, job: Config) -> list[float]:
        """By how much the yes is likelier than the no at the verdict of each held-out row, in logits."""
        yes, no = job["verdict"]
        found = []
        for row in job["held"]:
            place = next(i for i, label in enumerate(row["labels"]) if label in (yes, no))
            logits = model(input_ids=torch.tensor([row["input_ids"][:place]])).logits[0, -1].float()
            found.append(float(logits[yes] - logits[no]))
        return found

    return {name: partial(train, job) for name, job in config["jobs"].items()}


if __name__ == "__main__":
    serve(prepare, ("trl", "peft", "transformers", "torch"))
