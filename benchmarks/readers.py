"""The parts of the quality table that need passes of their own: readers, P(True), Self-REF, equality, costs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cells import LAYERS, Floats, Parts
from confide.engines.transformers.kept import Kept
from confide.engines.transformers.loading import load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.p_true import PROMPTS, choose, yes_shares
from confide.methods.reader.closed_rows import make_rows
from confide.methods.reader.kept_prefixes import PrefixStore
from confide.methods.reader.reader import Reader
from confide.methods.reader.reader_training import ReaderConfig, train_reader
from confide.methods.self_ref.self_ref_training import (
    SelfRefConfig,
    answer_log_probability,
    choose_ratio,
    read_verdicts,
    train_self_ref,
)
from confide.methods.stack.states import collect
from confide.records import Record

if TYPE_CHECKING:
    from quality import Work

ROWS = 2000
"""Training rows of the readers (the first ones of each split's training part)."""

CALIBRATION, TEST = 400, 1600
"""Rows that sources with a pass of their own are calibrated and judged on (without a GPU)."""

LADDER = {
    "reader:rows": ReaderConfig(ask_tokens=0, epochs=3, learning_rate=5e-3),
    "reader:4_random": ReaderConfig(ask_tokens=4, start="random", epochs=2),
    "reader:4_words": ReaderConfig(ask_tokens=4, epochs=3),
    "reader:4_words_rank8": ReaderConfig(ask_tokens=4, rank=8, epochs=2),
}
SERVED = {
    "reader:rows": "any engine that returns log-probabilities",
    "reader:4_random": "any engine",
    "reader:4_words": "any engine",
    "reader:4_words_rank8": "in process",
    "stack": "in process",
}

SELF_REF_ROWS = {"grid": 200, "final": 600}
SELF_REF_EPOCHS = {"grid": 1, "final": 1}


def picked(records: Sequence[Record], rows: Any) -> list[Record]:
    return [records[i] for i in rows]


def save(work: Work, split: str, seed: int, name: str, n: int, rows: Any, values: dict[str, Any]) -> None:
    columns = {}
    for source, some in values.items():
        columns[source] = np.full(n, np.nan)
        columns[source][rows] = some
    np.savez_compressed(work.folder / f"values-{split}-{seed}-{name}.npz", **columns)  # type: ignore[arg-type]


def fit(
    engine: TransformersEngine, records: Sequence[Record], parts: Parts, configs: dict[str, ReaderConfig]
) -> tuple[dict[str, Any], dict[str, Floats], dict[str, Reader]]:
    """Train readers on the same rows and read every row that is not trained on."""
    from quality import shown

    train, held = picked(records, parts["train"][:ROWS]), picked(records, parts["validation"])
    fitting, validation = make_rows(engine, train), make_rows(engine, held)
    began = time.monotonic()
    store = PrefixStore(engine, [*fitting, *validation], budget=8 * 10**9, progress=shown("prefixes"))
    about: dict[str, Any] = {"prefix_seconds": time.monotonic() - began, "rows": len(fitting), "readers": {}}
    readers: dict[str, Reader] = {}
    for name, config in configs.items():  # low-rank weights come last: they stay in the model until removed
        began = time.monotonic()
        readers[name] = reader = train_reader(engine, fitting, validation, config, store=store, progress=shown(name))
        about["readers"][name] = {
            "history": reader.history,
            "training_seconds": time.monotonic() - began,
            "tokens": config.ask_tokens + 1,
            "served": SERVED[name],
            "validation_log_loss": min(epoch["validation_loss"] for epoch in reader.history),
        }
        print(f"  {name}: {about['readers'][name]['validation_log_loss']:.4f} on validation", flush=True)
    store.close()

    def read(kept: Kept) -> Floats:
        return np.stack([r.z(engine, kept).cpu().numpy().astype(np.float64) for r in readers.values()], 1)

    _, z = collect(
        engine, picked(records, untrained(parts)), (), batch_size=96, progress=shown("readings"), reader=read
    )
    for reader in readers.values():
        if reader.low_rank:
            reader.low_rank.remove()
    return about, {name: 1 / (1 + np.exp(-z[:, i])) for i, name in enumerate(readers)}, readers


def untrained(parts: Parts) -> NDArray[np.int64]:
    """The rows on which sources that need a pass of their own are judged."""
    return np.concatenate([parts["calibration"][:CALIBRATION], parts["test"][:TEST]])


def ladder(work: Work, records: Sequence[Record], parts: Parts) -> None:
    """Every step of the ladder on the first seed; the served step is chosen on validation."""

    def make() -> dict[str, Any]:
        about, values, readers = fit(work.engine, records, parts, LADDER)
        servable = [name for name in LADDER if "rank" not in name and name != "reader:rows"]
        chosen = min(servable, key=lambda name: about["readers"][name]["validation_log_loss"])
        values["reader"] = values[chosen]
        save(work, "standard", 0, "readers", len(records), untrained(parts), values)
        rows = {"ask": readers[chosen].ask, "verdict": readers[chosen].verdict}
        torch.save(rows, work.folder / "reader.pt")
        return about | {"chosen": chosen}

    work.stage("ladder", make)


def best(work: Work, records: Sequence[Record], parts: Parts, split: str, seed: int) -> None:
    """The chosen reader on another split or seed."""

    def make() -> dict[str, Any]:
        chosen = work.stage("ladder", dict)["chosen"]
        config = ReaderConfig(**{**vars(LADDER[chosen]), "seed": seed})
        about, values, _ = fit(work.engine, records, parts, {chosen: config})
        save(work, split, seed, "readers", len(records), untrained(parts), {"reader": values[chosen]})
        return about

    work.stage(f"reader-{split}-{seed}", make)


def p_true(work: Work, records: Sequence[Record], parts: Parts) -> None:
    """P(True) on the first seed: prompt and sign chosen on validation."""
    from quality import shown

    def make() -> dict[str, Any]:
        held = picked(records, parts["validation"])[:300]
        shares, _, _ = yes_shares(work.engine, held, range(len(PROMPTS)), progress=shown("p_true chooses"))
        chosen = choose(shares, np.array([bool(r.correct) for r in held]))
        rows = untrained(parts)
        shares, tokens, seconds = yes_shares(
            work.engine, picked(records, rows), [chosen.prompt], progress=shown("p_true")
        )
        save(work, "standard", 0, "p_true", len(records), rows, {"p_true": chosen.predict(shares)})
        return {
            "prompt": chosen.prompt,
            "reversed": chosen.reversed,
            "tokens": tokens,
            "seconds_a_row": seconds,
        }

    work.stage("p_true", make)


def self_ref(work: Work, records: Sequence[Record], parts: dict[int, Parts]) -> None:
    """Self-REF on the standard split of every seed (ratio chosen on the first), and the masking comparison."""
    first = parts[0]

    def split_rows(found: Parts, count: int, held: int) -> list[Record]:
        train = [r.model_copy(update={"split": "train"}) for r in picked(records, found["train"][:count])]
        return train + [
            r.model_copy(update={"split": "validation"}) for r in picked(records, found["validation"][:held])
        ]

    def grid() -> dict[str, Any]:
        config = SelfRefConfig(epochs=SELF_REF_EPOCHS["grid"], max_rows=SELF_REF_ROWS["grid"])
        choice = choose_ratio(
            lambda: load_model("smollm2"),
            split_rows(first, ROWS, 200),
            config,
            work.folder / "self-ref-grid",
            progress=False,
        )
        return {
            "ratio": choice.ratio,
            "candidates": choice.candidates,
            "rows": SELF_REF_ROWS["grid"],
            "epochs": SELF_REF_EPOCHS["grid"],
        }

    ratio = work.stage("self-ref-grid", grid)["ratio"]

    def train(seed: int, mask: bool) -> Any:
        found = parts[seed]
        model, tokenizer = load_model("smollm2")
        config = SelfRefConfig(
            epochs=SELF_REF_EPOCHS["final"],
            max_rows=SELF_REF_ROWS["final"],
            ratio=ratio,
            seed=seed,
            mask_wrong_answers=mask,
        )
        name = f"self-ref-{seed}" + ("" if mask else "-unmasked")
        return train_self_ref(
            model,
            tokenizer,
            split_rows(found, ROWS, 0),
            config,
            work.folder / name,
            base_model="smollm2",
            progress=False,
        )

    def wrong(seed: int) -> list[Record]:
        return [r for r in picked(records, parts[seed]["test"]) if not r.correct][:600]

    def final(seed: int) -> dict[str, Any]:
        found = parts[seed]
        result = train(seed, mask=True)
        rows = untrained(found)
        began = time.monotonic()
        values = read_verdicts(result.model, result.tokenizer, picked(records, rows), result.ids, batch_size=64)
        seconds = (time.monotonic() - began) / len(rows)
        save(work, "standard", seed, "self-ref", len(records), rows, {"self_ref": values})
        about = {
            "rows": result.right + result.wrong,
            "training_seconds": result.seconds,
            "epoch_seconds": result.epoch_seconds,
            "seconds_a_row": seconds,
        }
        if seed == 0:
            about["wrong_answer_logprob"] = answer_log_probability(result.model, result.tokenizer, wrong(0), 64)
        return about

    for seed in sorted(parts):
        work.stage(f"self-ref-{seed}", lambda s=seed: final(s))  # type: ignore[misc]

    def masking() -> dict[str, Any]:
        result = train(0, mask=False)
        unmasked = np.array(answer_log_probability(result.model, result.tokenizer, wrong(0), 64))
        masked = np.array(work.stage("self-ref-0", dict)["wrong_answer_logprob"])
        base = np.array([sum(r.logprobs) for r in wrong(0)])
        difference = masked - unmasked
        error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        mean = float(difference.mean())
        return {
            "n": len(base),
            "base": float(base.mean()),
            "masked": float(masked.mean()),
            "unmasked": float(unmasked.mean()),
            "masked_minus_unmasked": {"value": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error},
        }

    work.stage("masking", masking)


def equality(work: Work, records: Sequence[Record], parts: Parts) -> None:
    """Answers of the exported reader checkpoint against the base model's, every test question, same batches."""
    from confide.methods.checkpoint import write_rows
    from confide.signals import add_to

    def make() -> dict[str, Any]:
        test = picked(records, parts["test"])
        rows = torch.load(work.folder / "reader.pt")
        folder = work.folder / "exported"
        model, tokenizer = load_model("smollm2")
        ids = add_to(model, tokenizer, ask_tokens=len(rows["ask"]))
        write_rows(model, ids.cn, ids.un, ids.ask, Reader(rows["ask"], rows["verdict"]))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        exported = TransformersEngine.load(str(folder))
        equal = sum(a == b for a, b in zip(answers(work.engine, test), answers(exported, test), strict=True))
        return {"questions": len(test), "equal": equal}

    work.stage("equality", make)


def answers(engine: TransformersEngine, records: Sequence[Record], batch_size: int = 96) -> list[list[int]]:
    prompts = [engine.encode(record.messages) for record in records]
    groups = engine.share_prefixes(prompts)
    order = sorted(range(len(prompts)), key=lambda i: (groups[i], len(prompts[i])))
    found: list[list[int]] = [[] for _ in prompts]
    start = 0
    while start < len(order):
        some = [i for i in order[start : start + batch_size] if groups[i] == groups[order[start]]]
        for i, completion in zip(some, engine.generate([prompts[i] for i in some], 20)[0], strict=True):
            found[i] = completion.ids
        start += len(some)
    return found


def costs(work: Work) -> None:
    """What a reading adds to answering with 32 new tokens at batch 32; medians of five in one run."""

    def make() -> dict[str, Any]:
        engine = work.engine
        text = "Write a long story about a city, its harbour and the people who live there, please: number"
        prompts = [engine.encode([{"role": "user", "content": f"{text} {i}"}]) for i in range(32)]
        width = engine.model.config.hidden_size
        seconds: dict[str, list[float]] = defaultdict(list)
        tokens = 0
        for _ in range(5):
            began = time.monotonic()
            engine.generate(prompts, 32)
            seconds["answer"].append(time.monotonic() - began)
            began = time.monotonic()
            completions, _, kept = engine.generate(prompts, 32, layers=LAYERS, keep=True)
            seconds["answer_kept"].append(time.monotonic() - began)
            assert kept is not None
            tokens = sum(len(c.ids) for c in completions)
            for m in (0, 4, 8):
                began = time.monotonic()
                with torch.no_grad():
                    engine.read(kept, torch.zeros(m, width), layers=LAYERS if m == 0 else ())
                seconds[f"read_{m}"].append(time.monotonic() - began)
            asked = [
                Record(id=str(i), messages=[{"role": "user", "content": f"{text} {i}"}], answer=c.text)
                for i, c in enumerate(completions)
            ]
            began = time.monotonic()
            yes_shares(engine, asked, [0], batch_size=32)
            seconds["p_true"].append(time.monotonic() - began)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        # Keeping keys, values and states costs too: it counts as reading.
        keeping = median["answer_kept"] - median["answer"]
        for name in ("read_0", "read_4", "read_8"):
            median[name] += keeping
        return {
            "tokens_written": tokens,
            "median_seconds": median,
            "share_of_answering": {n: v / median["answer"] for n, v in median.items() if n != "answer"},
        }

    work.stage("costs", make)


def epochs(work: Work, records: Sequence[Record], parts: Parts, rows: int = 128) -> None:
    """A reader epoch (the second one) and a Self-REF epoch on the same rows, one after the other in one run."""

    def make() -> dict[str, Any]:
        some = [r.model_copy(update={"split": "train"}) for r in picked(records, parts["train"][:rows])]
        fitting = make_rows(work.engine, some)
        store = PrefixStore(work.engine, fitting, budget=8 * 10**9)
        # Validation is the first row alone: its time is not an epoch's.
        reader = train_reader(work.engine, fitting[1:], fitting[:1], ReaderConfig(epochs=2), store=store)
        store.close()
        taken = []
        for count in (1, 2):  # the difference is an epoch without the run's set-up
            model, tokenizer = load_model("smollm2")
            config = SelfRefConfig(epochs=count, save_steps=10_000)
            out = work.folder / f"epochs-{count}"
            taken.append(train_self_ref(model, tokenizer, some, config, out, progress=False).seconds)
        seconds = {"reader": reader.history[1]["seconds"], "self_ref": taken[1] - taken[0]}
        return {"rows": rows, "seconds_an_epoch": seconds, "ratio": seconds["reader"] / seconds["self_ref"]}

    work.stage("epochs", make)
