"""confide's side of each comparison, in the loop of the peers' sides."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.peers.side_loop import Config, Found, Work, serve


def prepare(config: Config) -> Mapping[str, Work]:
    """The works of ``config["section"]``."""
    made: dict[str, Callable[[Config], Mapping[str, Work]]] = {
        "annotation": answers,
        "scoring": answers,
        "reading": reading,
        "training": training,
        "metrics": metrics,
    }
    return made[config["section"]](config)


def answers(config: Config) -> Mapping[str, Work]:
    """Answers to the questions of a task, marked and scored by every free source, from the file that it writes."""
    from confide.annotation import annotate
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.free import FREE, free_columns
    from confide.records import read_records
    from confide.tasks import load_task

    engine = TransformersEngine.load(config["model"], dtype="float32")
    task = load_task(config["task"], limit=config["count"], seed=0)

    def work() -> dict[str, Any]:
        engine.forget_prefixes()  # of the round before
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "records.jsonl"
            annotate(engine, task, path, batch_size=config["confide_batch"])
            records = {record.id: record for record in read_records(path)}
        ordered = [records[prompt["id"]] for prompt in config["prompts"]]
        columns = free_columns(ordered, FREE)
        return {
            "answers": [record.answer_ids for record in ordered],
            "texts": [record.answer for record in ordered],
            "correct": [record.correct for record in ordered],
            "end_logprob": [record.end_logprob for record in ordered],
            "logprobs": [record.logprobs for record in ordered],
            "entropies": [record.entropies for record in ordered],
            **{name: column.values.tolist() for name, column in columns.items()},
        }

    return {"annotate": work, "score": work}


def reading(config: Config) -> Mapping[str, Work]:
    """The free sources of answers whose log-probabilities are there."""
    from confide.methods.free import free_columns
    from confide.records import Record

    records = [Record(id=str(row), logprobs=values) for row, values in enumerate(config["logprobs"])]
    names = ("logprob_sum", "logprob_mean", "logprob_min")

    def work() -> dict[str, Any]:
        return {name: column.values.tolist() for name, column in free_columns(records, names).items()}

    return {"read": work}


def training(config: Config) -> Mapping[str, Work]:
    """The training loop of Self-REF and of the reader."""
    from confide.engines.transformers.loading import load_model
    from confide.methods.finetuning.labelled_rows import LabelledRow, collate
    from confide.methods.finetuning.supervised import fit, verdict_logits
    from confide.methods.finetuning.supervised_config import SupervisedConfig

    def train(job: Config) -> Callable[[], Found]:
        model, tokenizer = load_model(job["model"], dtype="float32")
        rows, held = ([LabelledRow(**row) for row in job[part]] for part in ("rows", "held"))
        settings = SupervisedConfig(
            rank=job["rank"], alpha=job["alpha"], learning_rate=job["learning_rate"],
            row_learning_rate=job["row_learning_rate"], epochs=job["epochs"], batch_size=job["batch"],
            warmup_steps=job["warmup"], save_steps=10_000,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            fitted = fit(
                model, tokenizer, rows, job["new_ids"], settings, Path(folder), None, whole=not job["new_ids"],
                verdict=tuple(job["verdict"]),
            )  # fmt: skip

        def found() -> Found:
            z = verdict_logits(fitted.model, held, tuple(job["verdict"]), partial(collate, pad_id=0))
            return {"losses": fitted.losses, "held": z.tolist()}

        return found

    return {name: partial(train, job) for name, job in config["jobs"].items()}


def metrics(config: Config) -> Mapping[str, Work]:
    """Metrics and calibrators."""
    import numpy as np

    from confide.metrics import auroc, brier, ece
    from confide.policies.calibrators import fit_calibrator

    with np.load(config["arrays"]) as arrays:
        confidence, correct = arrays["confidence"], arrays["correct"]

    def calibrated(kind: Any) -> dict[str, Any]:
        fitted = fit_calibrator(confidence, correct, kind)
        return {"value": brier(fitted.predict(confidence), correct)}

    return {
        "ece": lambda: {"value": ece(confidence, correct)},
        "auroc": lambda: {"value": auroc(confidence, correct)},
        "brier": lambda: {"value": brier(confidence, correct)},
        "temperature": partial(calibrated, "temperature"),
        "isotonic": partial(calibrated, "isotonic"),
    }


if __name__ == "__main__":
    serve(prepare, ("confide", "torch", "transformers", "trl", "peft", "numpy"))
