"""A tiny model on disk, a toy task, and records with samples, for what trains models to state a confidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_graded
from confide.methods.rlmf.rlmf_config import FormatConfig
from confide.records import Message, Record, Sample
from confide.tasks import Question, Task
from tiny_model import tiny_model

if TYPE_CHECKING:
    from confide.methods.rlmf.reinforcement import RLMFResult
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig

PLACES = ("France", "Germany", "Japan", "Chile")

QUICK = FormatConfig(
    epochs=1, batch_size=8, answers=2, rollouts=6, rank=4, alpha=8, learning_rate=1e-2, row_learning_rate=5e-2
)


def saved(folder: Path, *, graded: bool = False) -> str:
    """The tiny model as a folder; ``graded``: with rows for the graded tokens, as they start."""
    model, tokenizer = tiny_model(context=768)
    if graded:
        add_graded(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def graded_engine() -> TransformersEngine:
    model, tokenizer = tiny_model(context=768)
    add_graded(model, tokenizer)
    return TransformersEngine(model.float(), tokenizer, "tiny")


def question(number: int) -> Question:
    return Question(
        id=f"q{number}", kind="short", question=f"Which country is city {number} in?", answer=[PLACES[number % 4]]
    )


def toy_task(count: int = 24) -> Task:
    return Task("toy", [question(i) for i in range(count)], max_new_tokens=6)


def toy_records(count: int = 24, samples: int = 6) -> list[Record]:
    """Even questions are answered alike every time, odd ones with every place in turn; the last quarter validates."""
    rows = []
    for i in range(count):
        told = [PLACES[i % 4] if i % 2 == 0 else PLACES[(i + k) % 4] for k in range(samples)]
        rows.append(
            Record(
                id=f"q{i}",
                task="toy",
                model="tiny",
                split="train" if i < count * 3 // 4 else "validation",
                messages=[Message(role="user", content=f"Which country is city {i} in?")],
                answer=told[0],
                reference=[PLACES[i % 4]],
                correct=True,
                consistency=sum(t == told[0] for t in told) / samples,
                samples=[Sample(answer=t, answered=t, correct=t == PLACES[i % 4]) for t in told],
            )
        )
    return rows


def toy_splits() -> tuple[list[Record], list[Record]]:
    """The train and the validation rows of `toy_records`."""
    rows = toy_records()
    return [r for r in rows if r.split == "train"], [r for r in rows if r.split == "validation"]


def quick(folder: Path, **more: Any) -> RLMFConfig:
    """Settings of a reinforcement run of four short steps."""
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig

    settings: dict[str, Any] = {
        "max_steps": 4, "num_generations": 6, "per_device_train_batch_size": 12, "gradient_accumulation_steps": 1,
        "eval_steps": 2, "save_steps": 2, "accuracy_margin": 1.0, "patience": 100, "learning_rate": 1e-2,
    }  # fmt: skip
    return RLMFConfig(output_dir=str(folder), use_cpu=True, **(settings | more))


def run_rlmf(formed: tuple[Path, Any], out: Path, **more: Any) -> RLMFResult:
    """A reinforcement run from the model that passed the format stage."""
    from confide.methods.rlmf.reinforcement import train_rlmf

    config, start = quick(out, **more), str(formed[0] / "format")
    return train_rlmf(start, toy_task(), toy_records(), config, out, rank=4, samples=6)
