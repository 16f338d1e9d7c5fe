"""What a row costs, by the size of the model: ``OMP_NUM_THREADS=1 python -m benchmarks.scale`` (five minutes).

Models of the bundled one's make with random weights, of 1, 2 and 4 times its size, read, write and train; rounds of the
three sizes take turns. Beside it: what gradient checkpointing saves, three ways to batch short rows, and the bytes that
rows take. `benchmarks.scale_tables` makes a plan for a larger model of these numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import scale_tables
from benchmarks.common import MODEL, RESULTS, Json, load_engine, machine, read_json, write_result
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.finetuning.labelled_rows import LabelledRow, collate, logits_at
from confide.methods.finetuning.supervised import add_adapter, answer_loss, attention_of, of_next_token, optimizer
from confide.methods.frozen.frozen_training import layers_read
from confide.methods.reader.reader_config import ReaderConfig

SIZES: tuple[Json, ...] = (
    {"times": 1, "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
    {"times": 2, "hidden_size": 768, "num_hidden_layers": 36, "num_attention_heads": 12, "num_key_value_heads": 4},
    {"times": 4, "hidden_size": 1152, "num_hidden_layers": 34, "num_attention_heads": 18, "num_key_value_heads": 6},
)
"""Shapes of Llama models with heads of 64 numbers, as the bundled one has; the feed-forward part is 8/3 as wide."""
ROWS, PROMPT, ANSWER, WRITTEN, TRAINED = 8, 60, 4, 12, 4
ROUNDS = 2
LONG, LONG_ROWS = 512, 1
"""Tokens a row and rows a step where gradient checkpointing is measured."""
SHORT_ROWS = 48
Step = Callable[[], object]


@dataclass(frozen=True)
class Sized:
    """A model of one size: the passes that are timed, how many tokens each takes, and its parameters."""

    steps: dict[str, tuple[Step, int]]
    about: Json


def model_of(size: Json) -> Any:
    """A model with random weights, in the bundled one's precision."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = {name: value for name, value in size.items() if name != "times"}
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        head_dim=64,
        intermediate_size=size["hidden_size"] * 8 // 3,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        eos_token_id=2,
        **shape,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def sized(size: Json, tokenizer: Any) -> Sized:
    """The passes of one size: reading states of answers, writing, and a step of the reader's training."""
    model = model_of(size)
    engine = TransformersEngine(model, tokenizer, "random")
    layers = layers_read(engine)
    prompts, answers = (torch.randint(5, 40_000, (ROWS, n)).tolist() for n in (PROMPT, ANSWER))
    inside = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    kept = len(layers) * 3 * engine.width * 2
    about = {"parameters": sum(p.numel() for p in model.parameters()), "inside": inside, "state_bytes": kept}
    trained = model_of(size)
    rows = [LabelledRow.of(str(i), ids, [], [7], str(i)) for i, ids in enumerate(prompts[:TRAINED])]
    steps: dict[str, tuple[Step, int]] = {
        "read": (lambda: engine.closed(prompts, answers, layers=layers).states(), ROWS * (PROMPT + ANSWER + 1)),
        "write": (lambda: engine.answer(prompts, WRITTEN), ROWS * WRITTEN),
        "train": (training_step(trained, [rows], share=False), TRAINED * (PROMPT + 1)),
    }
    return Sized(steps, about)


def training_step(
    model: Any, batches: Sequence[Sequence[LabelledRow]], *, share: bool, again: bool = False
) -> Callable[[], float]:
    """Steps of the reader's training, a batch each; returns what gives their mean loss."""
    config = ReaderConfig()
    attention_of(model)
    adapted = add_adapter(model, (), config, whole=True).train()
    if again:
        adapted.get_base_model().gradient_checkpointing_enable()
        adapted.enable_input_require_grads()
    chosen = optimizer(adapted, config)

    def step() -> float:
        losses = []
        for rows in batches:
            batch = collate([row.columns() for row in rows], 0, share=share)
            labels = of_next_token(batch["labels"], -100)
            loss = answer_loss(logits_at(adapted, batch, labels != -100), labels[labels != -100])
            loss.backward()  # type: ignore[no-untyped-call]
            chosen.step()
            chosen.zero_grad()
            losses.append(float(loss.detach()))
        return sum(losses) / len(losses)

    return step


def seconds(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def by_size() -> list[Json]:
    """Seconds a token of each pass at each size: the median of rounds in turn, after one to warm up."""
    tokenizer = load_engine(MODEL).tokenizer
    models = [(size, sized(size, tokenizer)) for size in SIZES]
    times: dict[tuple[int, str], list[float]] = {}
    for turn in range(ROUNDS + 1):
        for size, one in models:
            for name, (step, tokens) in one.steps.items():
                taken = seconds(step) / tokens
                if turn:
                    times.setdefault((size["times"], name), []).append(taken)
        print(f"  round {turn} of {ROUNDS}", flush=True)
    found = []
    for size, one in models:
        passes = {name: times[size["times"], name] for name in one.steps}
        speeds = {name: {"tokens_per_second": 1 / median(some), "rounds": some} for name, some in passes.items()}
        found.append(size | one.about | speeds)
    return found


# Gradient checkpointing


def checkpointing() -> Json:
    """Peak memory and seconds a step of the bundled model with and without it, each in a process of its own."""
    found: Json = {"tokens": LONG, "rows": LONG_ROWS}
    for name, again in (("kept", False), ("again", True)):
        command = [sys.executable, "-m", "benchmarks.scale", "--long-rows", "again" if again else "kept"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found[name] = json.loads(told.splitlines()[-1])
    return found


def long_rows(*, again: bool) -> Json:
    """A step on long rows; the peak is this process's, beside what it held before them."""
    from confide.engines.transformers.loading import load_model

    model, _ = load_model(MODEL)
    rows = [
        LabelledRow.of(str(i), torch.randint(5, 40_000, (LONG,)).tolist(), [], [7], str(i)) for i in range(LONG_ROWS)
    ]
    step = training_step(model, [rows], share=False, again=again)
    before = peak_megabytes()
    taken = seconds(step)
    return {"megabytes_before": before, "megabytes": peak_megabytes(), "seconds": taken}


def peak_megabytes() -> float:
    """The most memory that this process has held; unlike `getrusage`'s figure it is not its parent's (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


# Short rows


def short_rows() -> Json:
    """Tokens a second of one pass over short rows in batches as they come, by length, and packed without padding."""
    from confide.engines.transformers.loading import load_model

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(30, 81, (SHORT_ROWS,), generator=generator).tolist()
    rows = [
        LabelledRow.of(str(i), torch.randint(5, 40_000, (n,), generator=generator).tolist(), [], [7], str(i))
        for i, n in enumerate(lengths)
    ]
    near = sorted(rows, key=lambda row: len(row.input_ids))
    size, tokens = ReaderConfig().batch_size, sum(len(row.input_ids) for row in rows)
    ways: dict[str, partial[float]] = {}
    for name, order in (("as they come", rows), ("by length", near)):
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        ways[name] = partial(padded_loss, batches=batches)
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    model, _ = load_model(MODEL)
    attention_of(model)
    ways["packed"] = partial(packed_loss, batches=batches)
    adapted = add_adapter(model, (), ReaderConfig(), whole=True).train()
    times: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, float] = {}
    for turn in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            losses[name] = way(adapted)
            if turn:
                times[name].append(time.perf_counter() - began)
        print(f"  short rows, round {turn} of {ROUNDS - 1}", flush=True)
    padded = {name: padding(some.keywords["batches"]) for name, some in ways.items() if name != "packed"}
    return {
        name: {
            "tokens_per_second": tokens / median(times[name]),
            "padding": padded.get(name, 0.0),
            "loss": losses[name],
        }
        for name in ways
    }


def padding(batches: Sequence[Sequence[LabelledRow]]) -> float:
    """The share of a batch's places that hold no token."""
    places = sum(len(rows) * max(len(row.input_ids) for row in rows) for rows in batches)
    return 1 - sum(len(row.input_ids) for rows in batches for row in rows) / places


def padded_loss(model: Any, batches: Sequence[Sequence[LabelledRow]]) -> float:
    """The mean loss of rows in padded batches, with their gradients."""
    total = 0.0
    for rows in batches:
        batch = collate([row.columns() for row in rows], 0, share=False)
        labels = of_next_token(batch["labels"], -100)
        loss = answer_loss(logits_at(model, batch, labels != -100), labels[labels != -100])
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        total += float(loss.detach()) * len(rows)
    return total / sum(map(len, batches))


def packed_loss(model: Any, batches: Sequence[Sequence[LabelledRow]]) -> float:
    """The same with the rows of a batch in one sequence, none of whose tokens sees another row's."""
    total = 0.0
    for rows in batches:
        ids = torch.tensor([[token for row in rows for token in row.input_ids]])
        labels = torch.tensor([[label for row in rows for label in [*row.labels[1:], -100]]])
        number = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(row.input_ids) for row in rows]))
        seen = (number[:, None] == number[None]).tril()
        mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)[None, None]
        places = torch.cat([torch.arange(len(row.input_ids)) for row in rows])[None]
        batch = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
        loss = answer_loss(logits_at(model, batch, labels != -100), labels[labels != -100])
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        total += float(loss.detach()) * len(rows)
    return total / sum(map(len, batches))


# Bytes


def bytes_a_row() -> Json:
    """Bytes of an annotated row and of one that is scored too, of the bundled model's answers about geography."""
    from confide.annotation import annotate
    from confide.methods.scoring import score
    from confide.records import read_records, write_records
    from confide.tasks import load_task

    engine = load_engine(MODEL)
    with tempfile.TemporaryDirectory() as folder:
        path, scored = Path(folder) / "rows.jsonl", Path(folder) / "scored.jsonl"
        annotate(engine, load_task("geography", limit=64), path)
        records = read_records(path)
        write_records(
            scored, score(records, ["logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length"])
        )
        sizes = [file.stat().st_size / len(records) for file in (path, scored)]
    return {"annotated": sizes[0], "scored": sizes[1], "rows": len(records)}


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"{what} …", flush=True)
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


PARTS: dict[str, Callable[[], Any]] = {
    "sizes": by_size,
    "short_rows": short_rows,
    "checkpointing": checkpointing,
    "bytes": bytes_a_row,
}


def measure(names: Sequence[str], before: Json) -> Json:
    """What is named, beside what was found ``before``."""
    found = before | {"machine": machine() | {"threads": torch.get_num_threads()}}
    for name in names:
        with told(name):
            found[name] = PARTS[name]()
    return found


def main() -> None:
    """Measure, and write result, tables and pictures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tables", action="store_true", help="write tables and pictures from the results there are")
    options.add_argument("--only", choices=tuple(PARTS), help="measure one part again, beside the results there are")
    options.add_argument("--long-rows", choices=("kept", "again"), help=argparse.SUPPRESS)
    given = options.parse_args()
    out = RESULTS / "scale.json"
    if given.long_rows:
        print(json.dumps(long_rows(again=given.long_rows == "again")))
        return
    if given.tables:
        scale_tables.write(read_json(out))
        return
    names, before = ([given.only], read_json(out)) if given.only else (list(PARTS), {})
    scale_tables.write(write_result(out, "scale.py", measure(names, before)))


if __name__ == "__main__":
    main()
