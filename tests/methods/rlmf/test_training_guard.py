from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from confide.hedging.statements import Reading, Statement
from confide.methods.rlmf.stating import Graded
from confide.methods.rlmf.training_guard import Guard
from stating_model import run_rlmf

pytestmark = pytest.mark.usefixtures("one_thread")


class Adapted(torch.nn.Module):
    """A weight named as an adapter's is: ``lora_A.default.weight``."""

    def __init__(self):
        super().__init__()
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(1, 1, bias=False)})

    @property
    def weight(self) -> torch.Tensor:
        return self.lora_A["default"].weight.data


def guarded(seen: list[tuple[float, ...]]) -> tuple[Guard, Adapted]:
    """A guard whose evaluations give (accuracy, how far cMFG* is above its floor) one after another."""
    left = iter(seen)

    def evaluate() -> dict[str, float]:
        accuracy, star, distinct = (*next(left), 5)[:3]
        return {"accuracy": accuracy, "above_floor": star, "n": 4.0, "distinct": distinct}

    settings, model = SimpleNamespace(accuracy_margin=0.05, patience=2, eval_steps=1, max_steps=10), Adapted()
    guard = Guard(SimpleNamespace(model=model, args=settings, batch=None), evaluate)
    guard.begin()
    return guard, model


def step(guard: Guard, number: int, stated: list[float]) -> bool:
    guard.trainer.batch = SimpleNamespace(rollouts=SimpleNamespace(stated=[[c] for c in stated]))
    control = SimpleNamespace(should_training_stop=False)
    guard.on_step_end(None, SimpleNamespace(global_step=number), control)
    return control.should_training_stop


def test_the_best_look_is_kept_and_put_back():
    guard, model = guarded([(0.5, 0.6), (0.5, 0.8), (0.5, 0.7)])
    for number in (1, 2):
        model.weight.fill_(float(number))
        assert not step(guard, number, [0.1, 0.2])
    assert guard.best_step == 1
    assert guard.best["above_floor"] == 0.8
    guard.restore(model)
    assert model.weight.item() == 1.0


def test_a_fall_of_accuracy_beyond_the_margin_stops_the_run_with_the_reason():
    guard, _ = guarded([(0.5, 0.6), (0.46, 0.7), (0.44, 0.9)])
    assert not step(guard, 1, [0.1, 0.2])
    assert step(guard, 2, [0.1, 0.2])
    assert "fell from 0.500 to 0.440" in guard.stopped
    assert guard.best_step == 1  # a better score does not buy a worse model


def test_one_confidence_for_everything_stops_the_run_with_the_reason():
    guard, _ = guarded([(0.5, 0.6)] * 5)
    assert not step(guard, 1, [0.3, 0.3])
    assert not step(guard, 2, [0.3, 0.4])
    assert not step(guard, 3, [0.3, 0.3])
    assert step(guard, 4, [0.3, 0.3])
    assert "every completion stated 0.3 for 2 steps in a row" in guard.stopped


def test_one_confidence_for_all_validation_rows_stops_the_run_too():
    guard, _ = guarded([(0.5, 0.6), (0.5, 0.7, 2), (0.5, 0.7, 1)])
    assert not step(guard, 1, [0.3, 0.4])
    assert step(guard, 2, [0.3, 0.4])
    assert "one confidence for all 4 validation rows" in guard.stopped


def test_a_run_that_only_gets_worse_gives_the_start_back():
    guard, _ = guarded([(0.5, 0.6), (0.5, 0.5), (0.5, 0.4)])
    step(guard, 1, [0.1, 0.2])
    step(guard, 2, [0.1, 0.2])
    assert guard.best_step == 0


def test_a_run_that_was_stopped_stays_stopped(formed, tmp_path, monkeypatch):
    seen = []
    saved_at = Guard.on_save

    def then_killed(self, args, state, control, **more):
        saved_at(self, args, state, control, **more)
        seen.append(self.stopped)
        if self.stopped:
            raise KeyboardInterrupt

    monkeypatch.setattr(Guard, "on_save", then_killed)
    out, how = tmp_path / "out", {"patience": 1, "save_steps": 1, "eval_steps": 1}
    monkeypatch.setattr(Graded, "read", lambda self, c: Reading((Statement(c.text, 0.3),), True, 0.0))
    with pytest.raises(KeyboardInterrupt):
        run_rlmf(formed, out, **how)
    monkeypatch.setattr(Guard, "on_save", saved_at)
    found = run_rlmf(formed, out, **how)
    assert "every completion stated 0.3" in found.stopped
    assert found.steps == 1


def test_every_step_logs_what_could_go_wrong(formed, tmp_path):
    run_rlmf(formed, tmp_path / "run", patience=100)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "reward" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        assert {"kl", "accuracy", "format_failures", "distinct_confidences", "silent_groups", "f_gold"} <= set(line)
