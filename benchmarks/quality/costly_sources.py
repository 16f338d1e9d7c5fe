"""The parts of the quality table that need passes of their own: readers, P(True), Self-REF, equality, costs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from answer_probability import answer_log_probability
from benchmarks.common import MODEL, Json, Work, load_engine, read_json
from benchmarks.quality.cells import LAYERS, Parts, picked
from benchmarks.quality.study import completions, fit_readers, fit_self_ref, of_split, read_logits, self_ref_confidence
from confide.engines.transformers.loading import load_model
from confide.methods.method import labels
from confide.methods.p_true import PROMPTS, choose_prompt, yes_shares
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.methods.self_ref.self_ref_training import SelfRefResult, choose_ratio
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.numeric import sigmoid
from confide.records import Message, Record
from confide.tasks import load_task

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
SERVED = {"reader:rows": "any engine that returns log-probabilities", "reader:4_words_rank8": "in process"}
SELF_REF_ROWS, GRID_ROWS, SELF_REF_EPOCHS = 600, 200, 1


def untrained(parts: Parts) -> NDArray[np.int64]:
    """The rows on which sources that need a pass of their own are judged."""
    return np.concatenate([parts["calibration"][:CALIBRATION], parts["test"][:TEST]])


def save_values(work: Work, name: str, n: int, rows: Any, values: dict[str, Any]) -> None:
    """Keep what sources say of some rows, NaN for the others."""
    columns = {source: np.full(n, np.nan) for source in values}
    for source, some in values.items():
        columns[source][rows] = some
    np.savez_compressed(work.folder / f"values-{name}.npz", **columns)  # type: ignore[arg-type]


# Readers


def ladder(work: Work, records: Sequence[Record], parts: Parts) -> Json:
    """Every step of the ladder on the first seed; the served step is chosen on validation."""
    train, validation = picked(records, parts["train"][:ROWS]), picked(records, parts["validation"])
    rows = untrained(parts)
    about: Json = {"rows": len(train), "readers": {}, "chosen": ""}
    values, least = {}, np.inf
    for name, reader in fit_readers(work.engine, train, validation, LADDER):
        values[name] = sigmoid(read_logits(work.engine, reader, picked(records, rows)))
        loss = min(epoch["validation_loss"] for epoch in reader.history)
        served = SERVED.get(name, "any engine")
        about["readers"][name] = {"history": reader.history, "tokens": reader.tokens, "served": served}
        if name not in SERVED and loss < least:
            least, about["chosen"], values["reader"] = loss, name, values[name]
            torch.save({"ask": reader.ask, "verdict": reader.verdict}, work.folder / "reader.pt")
    save_values(work, "standard-0-readers", len(records), rows, values)
    return about


def chosen_reader(work: Work, records: Sequence[Record], parts: Parts) -> Json:
    """The chosen step on the split by new answers."""
    config = LADDER[read_json(work.folder / "ladder.json")["chosen"]]
    train, validation = picked(records, parts["train"][:ROWS]), picked(records, parts["validation"])
    rows = untrained(parts)
    for name, reader in fit_readers(work.engine, train, validation, {"reader": config}):
        values = {name: sigmoid(read_logits(work.engine, reader, picked(records, rows)))}
        save_values(work, "answered-country-0-readers", len(records), rows, values)
    return {"rows": len(train)}


def equality(work: Work, records: Sequence[Record], parts: Parts) -> Json:
    """Answers of the exported reader checkpoint against the base model's, every test question, same batches."""
    rows, folder = torch.load(work.folder / "reader.pt"), work.folder / "exported"
    exported = load_engine(MODEL)
    ids = exported.add_reader_tokens(rows["ask"], rows["verdict"])
    exported.save(folder, suppressed=ids.all)
    asked, room = [r.messages for r in picked(records, parts["test"])], load_task("geography", limit=1).max_new_tokens
    pairs = zip(*(completions(engine, asked, room) for engine in (work.engine, load_engine(str(folder)))), strict=True)
    return {"questions": len(asked), "equal": sum(base.ids == other.ids for base, other in pairs)}


# P(True)


def p_true(work: Work, records: Sequence[Record], parts: Parts) -> Json:
    """P(True) on the first seed: prompt and sign chosen on validation."""
    held, rows = picked(records, parts["validation"])[:300], untrained(parts)
    prompt, reversed_ = choose_prompt(yes_shares(work.engine, held, range(len(PROMPTS)))[0], labels(held))
    shares, cost = yes_shares(work.engine, picked(records, rows), [prompt])
    confidence = 1 - shares[:, prompt] if reversed_ else shares[:, prompt]
    save_values(work, "standard-0-p_true", len(records), rows, {"p_true": confidence})
    return {"prompt": prompt, "reversed": reversed_, "tokens": cost.tokens, "seconds_a_row": cost.seconds}


# Self-REF


def self_ref(work: Work, records: Sequence[Record], parts: dict[int, Parts]) -> None:
    """Self-REF on the standard split of every seed (ratio chosen on the first), and the masking comparison."""
    ratio = work.stage("self-ref-grid", partial(self_ref_grid, work, records, parts[0]))["ratio"]
    wrong = [r for r in picked(records, parts[0]["test"]) if not r.correct][:600]

    def train(seed: int, mask: bool) -> SelfRefResult:
        config = SelfRefConfig(
            epochs=SELF_REF_EPOCHS, max_rows=SELF_REF_ROWS, ratio=ratio, seed=seed, mask_wrong_answers=mask
        )
        rows = of_split(records, "train", parts[seed]["train"][:ROWS])
        return fit_self_ref(rows, config, work.folder / (f"self-ref-{seed}" + ("" if mask else "-unmasked")))

    def final(seed: int) -> Json:
        trained, rows = train(seed, mask=True), untrained(parts[seed])
        began = time.monotonic()
        values = self_ref_confidence(trained, picked(records, rows))
        seconds = (time.monotonic() - began) / len(rows)
        save_values(work, f"standard-{seed}-self-ref", len(records), rows, {"self_ref": values})
        if seed == 0:
            np.save(work.folder / "masked.npy", answer_log_probability(trained.model, trained.tokenizer, wrong))
        return {"rows": trained.right + trained.wrong, "training_seconds": trained.seconds, "seconds_a_row": seconds}

    def masking() -> Json:
        trained, masked = train(0, mask=False), np.load(work.folder / "masked.npy")
        unmasked = np.array(answer_log_probability(trained.model, trained.tokenizer, wrong))
        bootstrap = Bootstrap([record.cluster for record in wrong])
        return {
            "n": len(wrong),
            "base": float(np.mean([sum(r.logprobs) for r in wrong])),
            "masked": float(masked.mean()),
            "unmasked": float(unmasked.mean()),
            "masked_minus_unmasked": estimate(bootstrap.mean(masked - unmasked, np.arange(len(wrong)))),
        }

    for seed in sorted(parts):
        work.stage(f"self-ref-{seed}", partial(final, seed))
    work.stage("masking", masking)


def self_ref_grid(work: Work, records: Sequence[Record], parts: Parts) -> Json:
    """The ratio of unconfident to confident rows that does best on validation rows."""
    train, held = parts["train"][:ROWS], parts["validation"][:200]
    rows = of_split(records, "train", train) + of_split(records, "validation", held)
    config = SelfRefConfig(epochs=SELF_REF_EPOCHS, max_rows=GRID_ROWS)
    choice = choose_ratio(lambda: load_model(MODEL), rows, config, work.folder / "self-ref-grid")
    return {"ratio": choice.ratio, "candidates": choice.candidates, "rows": GRID_ROWS, "epochs": SELF_REF_EPOCHS}


# Costs


def costs(work: Work, records: Sequence[Record], parts: Parts) -> Json:
    """What a reading adds to answering with 32 new tokens at batch 32; medians of five in one run."""
    engine = work.engine
    text = "Write a long story about a city, its harbour and the people who live there, please: number"
    asked = [Record(id=str(i), messages=[Message(role="user", content=f"{text} {i}")]) for i in range(32)]
    prompts = [engine.encode(record.messages) for record in asked]
    for record, completion in zip(asked, engine.answer(prompts, 32), strict=True):
        record.answer = completion.text
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        found = work()
        seconds[name].append(time.monotonic() - began)
        return found

    for _ in range(5):
        timed("answer", lambda: engine.answer(prompts, 32))
        closed = timed("answer_kept", lambda: engine.answer_and_close(prompts, 32, layers=LAYERS))
        timed("read_0", closed.states)
        for m in (4, 8):
            with torch.no_grad():
                timed(f"read_{m}", partial(closed.feed, torch.zeros(m, engine.width)))
        timed("p_true", partial(yes_shares, engine, asked, [0]))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    # Keeping keys, values and states costs too: it counts as reading.
    keeping = median["answer_kept"] - median["answer"]
    median |= {name: median[name] + keeping for name in ("read_0", "read_4", "read_8")}
    share = {name: value / median["answer"] for name, value in median.items() if name != "answer"}
    return {"median_seconds": median, "share_of_answering": share}


def epochs(work: Work, records: Sequence[Record], parts: Parts, rows: int = 128) -> Json:
    """A reader epoch (the second one) and a Self-REF epoch on the same rows, one after the other in one run."""
    some = of_split(records, "train", parts["train"][:rows])
    # Validation is the first row alone: its time is not an epoch's.
    readers = dict(fit_readers(work.engine, some[1:], some[:1], {"reader": ReaderConfig(epochs=2)}))
    taken = [  # the difference is an epoch without the run's set-up
        fit_self_ref(some, SelfRefConfig(epochs=n, save_steps=10_000), work.folder / f"epochs-{n}").seconds
        for n in (1, 2)
    ]
    seconds = {"reader": readers["reader"].history[1]["seconds"], "self_ref": taken[1] - taken[0]}
    return {"rows": rows, "seconds_an_epoch": seconds, "ratio": seconds["reader"] / seconds["self_ref"]}
