"""What both sides train: the same start, rows and order, for Self-REF and for the reader."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.common import MODEL, Json
from confide.engines.transformers.loading import resolve
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Record

EPOCHS, BATCH, HELD = 2, 8, 24


def training_jobs(count: int, start: Path) -> dict[str, Json]:
    """Name → all that a training needs, as JSON.

    Args:
        count: training rows; `HELD` more are held out.
        start: the folder of the model that training starts from, with the new tokens.
    """
    from confide.engines.transformers.vocabulary import add_to
    from confide.methods.finetuning.labelled_rows import LabelledRow
    from confide.methods.finetuning.row_order import row_order
    from confide.methods.finetuning.supervised import linear_layers
    from confide.methods.reader.reader import verdict_words
    from confide.methods.reader.reader_training import reader_rows
    from confide.methods.self_ref.self_ref_training import build_rows

    engine = TransformersEngine.load(resolve(MODEL), dtype="float32")
    records = _answered(engine, count + HELD)
    right = [bool(record.correct) for record in records[count:]]

    def job(rows: Sequence[LabelledRow], model: str, verdict: Sequence[int], **more: object) -> Json:
        steps, laid = EPOCHS * (count // BATCH), [asdict(row) for row in rows]
        return {
            "model": model, "rows": laid[:count], "held": laid[count:],
            "order": row_order(rows[:count], EPOCHS, BATCH, 0), "right": right, "verdict": list(verdict),
            "epochs": EPOCHS, "batch": BATCH, "rank": 8, "alpha": 16, "warmup": min(200, steps // 10),
            "row_learning_rate": 1e-3, **more,
        }  # fmt: skip

    read = reader_rows(engine, records)
    folder = str(engine.name)
    jobs = {"reader": job(read, folder, verdict_words(engine), new_ids=[], learning_rate=5e-4,
                          targets=linear_layers(engine.forward.model))}  # fmt: skip
    ids = add_to(engine.forward.model, engine.tokenizer)
    rows = build_rows(records, engine.tokenizer, ids)
    engine.save(start)
    jobs["self_ref"] = job(rows, str(start), ids.all, new_ids=ids.all, learning_rate=1e-3,
                           targets=["q_proj", "k_proj", "v_proj"])  # fmt: skip
    return jobs


def _answered(engine: TransformersEngine, count: int) -> list[Record]:
    from confide.annotation import annotate
    from confide.records import read_records
    from confide.tasks import load_task

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        annotate(engine, load_task("geography", limit=count, seed=1), path, batch_size=32)
        return read_records(path)
