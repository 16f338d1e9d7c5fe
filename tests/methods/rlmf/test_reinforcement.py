from __future__ import annotations

import json

import pytest
import torch
from transformers import TrainerCallback

import confide
from confide.errors import ConfideError
from confide.methods.checkpoint_export import export_checkpoint
from confide.methods.finetuning import runs
from confide.methods.finetuning.runs import last_checkpoint
from confide.methods.rlmf import reinforcement as rlmf
from confide.methods.rlmf.reinforcement import train_rlmf
from confide.methods.rlmf.training_guard import GUARD_FILES
from confide.methods.scoring import score
from confide.report_tokens import GRADED
from stating_model import QUICK, quick, run_rlmf, saved, toy_records, toy_splits, toy_task

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_a_killed_run_continues_and_ends_like_an_unbroken_one(formed, tmp_path, monkeypatch):
    whole = run_rlmf(formed, tmp_path / "whole", feedback="constant")
    report = runs.ProgressReport
    monkeypatch.setattr(runs, "ProgressReport", lambda *_: Killed())
    with pytest.raises(KeyboardInterrupt):
        train_rlmf(
            str(formed[0] / "format"), toy_task(), toy_records(), quick(tmp_path / "broken", feedback="constant"),
            tmp_path / "broken", rank=4, samples=6, progress=lambda *_: None,
        )  # fmt: skip
    assert not (tmp_path / "broken" / "confide.json").exists()
    monkeypatch.setattr(runs, "ProgressReport", report)
    with pytest.raises(ConfideError, match=r"config.feedback 'constant', now 'self'; config.offset 1.*, now 2.0"):
        run_rlmf(formed, tmp_path / "broken", feedback="self", offset=2.0)
    continued = run_rlmf(formed, tmp_path / "broken", feedback="constant")
    assert (continued.steps, continued.best_step) == (whole.steps, whole.best_step)
    assert continued.best == pytest.approx(whole.best)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "broken")]
    rewards = [[json.loads(line)["reward"] for line in log if "reward" in line] for log in logs]
    assert rewards[0] == pytest.approx(rewards[1])
    assert not (tmp_path / "broken" / "checkpoints").exists()
    one, other = (confide.load(tmp_path / name).engine.model.state_dict() for name in ("whole", "broken"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=2e-2, rtol=2e-2, msg=name)


def test_a_kill_before_the_guards_own_files_goes_on_from_the_checkpoint_before(formed, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ProgressReport", lambda *_: Killed())
    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        train_rlmf(
            str(formed[0] / "format"), toy_task(), toy_records(), quick(out, save_steps=1, eval_steps=1), out, rank=4,
            samples=6, progress=lambda *_: None,
        )  # fmt: skip
    (out / "checkpoints" / "checkpoint-2" / "guard.json").unlink()
    assert last_checkpoint(out / "checkpoints", GUARD_FILES).name == "checkpoint-1"
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "rew')
    monkeypatch.undo()
    found = run_rlmf(formed, out, save_steps=1, eval_steps=1)
    assert found.steps == 4
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    # Once more: nothing is trained again.
    monkeypatch.setattr(rlmf._Run, "prepare", None)
    assert run_rlmf(formed, out, save_steps=1, eval_steps=1) == found


def test_fewer_rows_than_a_step_asks_are_refused(formed, tmp_path):
    with pytest.raises(ConfideError, match="18 train records are fewer than the 20 questions of one step"):
        run_rlmf(formed, tmp_path / "run", per_device_train_batch_size=120)


def test_nothing_may_be_said_of_a_format_stage_that_is_over(formed, tmp_path):
    with pytest.raises(ConfideError, match="has passed its format stage"):
        run_rlmf(formed, tmp_path / "run", max_steps=0)
    with pytest.raises(ConfideError, match="has passed its format stage"):
        train_rlmf(
            str(formed[0] / "format"),
            toy_task(),
            toy_records(),
            quick(tmp_path),
            tmp_path / "o",
            statement=QUICK,
        )


def test_a_frozen_g_takes_samples_enough(formed, tmp_path):
    rows = [r.model_copy(update={"samples": r.samples[:3]}) for r in toy_records()]
    with pytest.raises(ConfideError, match="take at least 6"):
        train_rlmf(
            str(formed[0] / "format"),
            toy_task(),
            rows,
            quick(tmp_path, intrinsic="frozen"),
            tmp_path / "o",
            samples=6,
        )


def test_too_few_completions_for_the_tolerance_are_refused(formed, tmp_path):
    with pytest.raises(ConfideError, match="take at least 6"):
        run_rlmf(formed, tmp_path / "run", num_generations=4, per_device_train_batch_size=8)
    rows = toy_splits()[1]
    with pytest.raises(ConfideError, match="0 train and 6 validation"):
        train_rlmf(str(formed[0] / "format"), toy_task(), rows, quick(tmp_path), tmp_path / "other")


def test_no_steps_leave_the_format_stage_alone(tmp_path):
    base = saved(tmp_path / "base")
    found = train_rlmf(
        base,
        toy_task(),
        toy_records(),
        quick(tmp_path, max_steps=0),
        tmp_path / "out",
        statement=QUICK,
        samples=6,
    )
    assert found.steps == 0
    assert confide.load(tmp_path / "out").info.confidence.statement == "graded"


def test_a_trained_model_answers_states_and_is_scored(formed, tmp_path):
    run_rlmf(formed, tmp_path / "run", max_steps=2)
    model = confide.load(tmp_path / "run")
    answer = model.answer("Which country is city 3 in?", max_new_tokens=6)
    assert answer.source == "graded"
    assert answer.confidence is None or 0 <= answer.confidence <= 1
    rows = [r.model_copy(update={"model": str(tmp_path / "run")}) for r in toy_records(8)]
    found = score(rows, ["graded", "f_pred"], model=model)
    new = [r for r in found if r.split != "train"]
    assert all(set(r.confidence) == {"graded", "f_pred"} for r in new)
    one = model.confidence("Which country is city 3 in?", "Chile")
    assert one.source == "graded"


def test_an_exported_model_is_an_ordinary_checkpoint_that_stops_where_it_states(formed, tmp_path):
    names = export_checkpoint(formed[0] / "format", tmp_path / "plain")
    assert list(names) == list(GRADED)
    assert set(names.values()) <= set(confide.load(tmp_path / "plain").engine.model.generation_config.eos_token_id)
