"""RLMF on the bundled model, as small as it can be: real weights, real questions, every stage."""

from __future__ import annotations

import json

import confide
from confide.annotation import annotate, split_questions
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.rlmf.reinforcement import train_rlmf
from confide.methods.rlmf.rlmf_config import FormatConfig
from confide.methods.rlmf.rlmf_trainer import RLMFConfig
from confide.methods.scoring import score
from confide.records import read_records
from confide.tasks import load_task

FORMAT = FormatConfig(
    answers=2, epochs=2, rollouts=6, batch_size=8, rank=8, alpha=16, learning_rate=2e-3, row_learning_rate=2e-2
)


def test_the_bundled_model_learns_to_state_a_number_and_is_trained_on(tmp_path):
    task = load_task("geography", limit=40, seed=0)
    engine = TransformersEngine.load("smollm2")
    engine.name = "smollm2"
    records = tmp_path / "records.jsonl"
    splits = {name: "validation" if i % 5 == 0 else "train" for i, name in enumerate(split_questions(task.questions))}
    annotate(engine, task, records, splits=splits, samples=6)
    rows = read_records(records)
    config = RLMFConfig(
        output_dir=str(tmp_path), max_steps=2, num_generations=6, per_device_train_batch_size=12,
        gradient_accumulation_steps=1, eval_steps=2, save_steps=2, accuracy_margin=1.0,
    )  # fmt: skip
    out = tmp_path / "rlmf"
    found = train_rlmf("smollm2", task, rows, config, out, statement=FORMAT, rank=8, samples=6)
    assert found.steps == 2
    formed = json.loads((out / "format" / "format.json").read_text())["validation"]
    assert formed["parsed"] > 0.5
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "reward" in line]
    assert len(steps) == 2
    assert all(line["format_failures"] < 0.7 for line in steps)
    model = confide.load(out)
    after = tmp_path / "after.jsonl"
    annotate(TransformersEngine.load(str(out)), task, after, splits=dict.fromkeys(list(splits)[:8], "test"), samples=6)
    scored = score(read_records(after), ["graded", "f_pred"], model=model)
    stated = [r.confidence["graded"] for r in scored if r.confidence["graded"] is not None]
    assert len(stated) >= 4
    assert all(0 <= value <= 1 for value in stated)
