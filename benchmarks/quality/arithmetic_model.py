"""A copy of the bundled model that knows some arithmetic, and its answers to the task ``arithmetic``.

    python -m benchmarks.quality.arithmetic_model                 # runs/arithmetic/model and …/records.jsonl
    python -m benchmarks.quality.arithmetic_model --steps 600     # a better one

Plain supervised fine-tuning on generated problems, with the loss on the answer alone, by low-rank weights that are
merged at the end. Pairs of numbers that the task asks about are never taught (``confide.tasks.arithmetic``).
``model/model.json`` holds the accuracy on taught pairs that no step has seen: there to judge whether the model errs
often enough and in varied ways, without a look at the task.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from benchmarks.common import MODEL, annotated, load_engine, show_progress
from benchmarks.quality.study import ARITHMETIC
from confide.engines.transformers.encoding import encode_chat, encode_text
from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.turn_end import turn_end_id
from confide.files import locked, write_text
from confide.methods.finetuning.labelled_rows import collate, logits_at
from confide.tasks import load_task
from confide.tasks.arithmetic import Expression, error_kind, expressions

STEPS, BATCH, RANK, LEARNING_RATE, WARM_UP = 300, 32, 32, 1e-3, 20
VALIDATION = 330
RECORDS = 6000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/arithmetic"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder: Path = arguments.out / "model"
    if not (folder / "config.json").exists():
        with locked(arguments.out):
            train(folder, arguments.steps, arguments.seed)
    engine = load_engine(str(folder))
    engine.name = ARITHMETIC
    validate(engine, folder, arguments.steps, arguments.seed)
    task = load_task("arithmetic", limit=arguments.records, seed=arguments.seed)
    out: Path = arguments.out / "records.jsonl"
    annotated(lambda: engine, task, out, title="arithmetic")


def train(folder: Path, steps: int, seed: int) -> None:
    """Fine-tune the bundled model by low-rank weights and save it, with its tokenizer, under ``folder``."""
    torch.manual_seed(seed)
    model, tokenizer = load_model(MODEL, dtype="float32")
    model = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    rows = [row(tokenizer, messages(e), str(e.value)) for e in taught(steps * BATCH, seed)]
    fine_tune(model, rows, tokenizer.pad_token_id, BATCH, LEARNING_RATE)
    save(model.merge_and_unload(), tokenizer, folder)


def fine_tune(
    model: Any, rows: Sequence[dict[str, list[int]]], pad_id: int, batch_size: int, learning_rate: float
) -> None:
    """Train a model once through the rows, in their order, by the loss on their labels."""
    steps = len(rows) // batch_size
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, (steps - step) / max(1, steps - WARM_UP))
    )
    device = next(iter(model.parameters())).device
    progress = show_progress("training")
    for step in range(steps):
        began = time.monotonic()
        batch = collate(rows[step * batch_size : (step + 1) * batch_size], pad_id)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        labels = functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        with torch.autocast(device.type, torch.bfloat16):
            logits = logits_at(model, batch, labels != -100)
        loss = functional.cross_entropy(logits, labels[labels != -100])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        progress(step + 1, steps, f"loss {loss.item():.3f}, {time.monotonic() - began:.1f} s a step")


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a model in bfloat16 with its tokenizer, whole or not at all."""
    half_done = folder.with_suffix(".part")
    model.to(torch.bfloat16).save_pretrained(half_done)
    tokenizer.save_pretrained(half_done)
    half_done.rename(folder)


def taught(count: int, seed: int) -> list[Expression]:
    """The problems to train on, of all domains in turn."""
    return [expression for _, expression in islice(expressions("taught", seed), count)]


def row(tokenizer: Any, asked: list[dict[str, str]], right: str) -> dict[str, list[int]]:
    """One problem, its right answer and the closing token; labels on the last two alone."""
    prompt = encode_chat(tokenizer, asked)
    answer = [*encode_text(tokenizer, right), turn_end_id(tokenizer)]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def messages(expression: Expression) -> list[dict[str, str]]:
    """As the task asks."""
    task = load_task("arithmetic", limit=1)
    return task.prompt(task.questions[0].model_copy(update={"question": expression.question}))


def validate(engine: TransformersEngine, folder: Path, steps: int, seed: int) -> None:
    """Write ``model.json``: accuracy by domain on taught pairs that training did not use."""
    if (folder / "model.json").exists():
        return
    task = load_task("arithmetic", limit=1)
    used = set(taught(steps * BATCH, seed))
    fresh = [(d, e) for d, e in islice(expressions("taught", f"{seed}-validation"), 4 * VALIDATION) if e not in used]
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, VALIDATION, 32):
        batch = fresh[start : min(start + 32, VALIDATION)]
        answers = engine.answer([engine.encode(messages(e)) for _, e in batch], task.max_new_tokens)
        for (domain, expression), answer in zip(batch, answers, strict=True):
            right[domain].append(error_kind(expression, answer.text) is None)
    every = [value for values in right.values() for value in values]
    found = {
        "name": ARITHMETIC, "base": MODEL, "steps": steps, "batch": BATCH, "learning_rate": LEARNING_RATE, "seed": seed,
        "validation": {"n": len(every), "accuracy": sum(every) / len(every)}
        | {domain: sum(values) / len(values) for domain, values in sorted(right.items())},
    }  # fmt: skip
    write_text(folder / "model.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["validation"]))


if __name__ == "__main__":
    main()
