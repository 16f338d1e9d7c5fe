"""A copy of the bundled model that works out chains, a line a step, and its answers to the task ``chains``.

    python -m benchmarks.inside.chains_model                 # runs/chains/model and …/records.jsonl
    python -m benchmarks.inside.chains_model --rows 1600     # a better one

Plain supervised fine-tuning of all weights, once through generated chains, with the loss on the answer alone. Pairs of
numbers that the task's steps meet are never taught. ``model/model.json`` holds the accuracy on taught chains that no
step has seen: there to judge whether the model is right often enough, without a look at the task.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import MODEL, annotated
from benchmarks.quality.arithmetic_model import fine_tune, row, save
from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.files import locked, write_text
from confide.tasks.chains import MAX_NEW_TOKENS, SYSTEM, Chain, chains, chains_task, first_error
from confide.tasks.task import chat

NAME = "smollm2-chains"
ROWS, BATCH, LEARNING_RATE = 800, 8, 3e-4
VALIDATION = 128
RECORDS = 5900


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/chains"))
    parser.add_argument("--rows", type=int, default=ROWS, help="chains to learn from (default: %(default)s)")
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    engine = adapted(arguments.out, arguments.rows, arguments.seed)
    task = chains_task(arguments.records, arguments.seed)
    annotated(lambda: engine, task, arguments.out / "records.jsonl", title="chains", count=arguments.records)


def adapted(folder: Path, rows: int = ROWS, seed: int = 0) -> TransformersEngine:
    """The adapted model under ``folder/model``, made where it is missing."""
    model = folder / "model"
    if not (model / "config.json").exists():
        with locked(folder):
            train(model, rows, seed)
    engine = TransformersEngine.load(str(model), dtype="bfloat16")  # as it is kept; float32 takes twice as long
    engine.name = NAME
    if not (model / "model.json").exists():
        validate(engine, model, rows, seed)
    return engine


def train(folder: Path, rows: int, seed: int) -> None:
    """Fine-tune the bundled model and save it, with its tokenizer, under ``folder``."""
    torch.manual_seed(seed)
    model, tokenizer = load_model(MODEL, dtype="float32")
    model.set_attn_implementation("eager")  # with its gradient the faster one on a CPU
    fine_tune(model, taught_rows(rows, seed, tokenizer), tokenizer.pad_token_id, BATCH, LEARNING_RATE)
    save(model, tokenizer, folder)


def taught_rows(count: int, seed: int, tokenizer: Any) -> list[dict[str, list[int]]]:
    """Chains to learn from, each with its worked answer."""
    return [row(tokenizer, messages(chain), chain.worked) for chain in islice(chains("taught", seed), count)]


def messages(chain: Chain) -> list[dict[str, str]]:
    """As the task asks."""
    return chat(SYSTEM, [], chain.question)


def validate(engine: TransformersEngine, folder: Path, rows: int, seed: int) -> None:
    """Write ``model.json``: how many taught chains that training did not use are worked out right."""
    used = set(islice(chains("taught", seed), rows))
    drawn = islice(chains("taught", f"{seed}-validation"), 2 * VALIDATION)
    fresh = [chain for chain in drawn if chain not in used][:VALIDATION]
    answers = []
    for start in range(0, len(fresh), engine.batch_size):
        prompts = [engine.encode(messages(chain)) for chain in fresh[start : start + engine.batch_size]]
        answers += engine.answer(prompts, MAX_NEW_TOKENS)
    right = [first_error(chain, answer.text) is None for chain, answer in zip(fresh, answers, strict=True)]
    found = {
        "name": NAME, "base": MODEL, "rows": rows, "batch": BATCH, "seed": seed,
        "validation": {"n": len(right), "accuracy": sum(right) / len(right)},
    }  # fmt: skip
    write_text(folder / "model.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["validation"]), flush=True)


if __name__ == "__main__":
    main()
