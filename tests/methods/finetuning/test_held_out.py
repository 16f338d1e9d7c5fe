from __future__ import annotations

import json

import pytest

from confide.methods.finetuning.held_out import HeldOut, losses_of, waited


@pytest.mark.parametrize(("losses", "epochs"), [([], 0), ([0.4], 0), ([0.5, 0.4], 0), ([0.4, 0.4, 0.5], 2)])
def test_epochs_since_the_best(losses, epochs):
    assert waited(losses) == epochs


@pytest.mark.parametrize(
    ("losses", "step", "ended"), [([0.4, 0.3], 20, False), ([0.3, 0.4, 0.5], 30, True), ([0.5, 0.4], 80, True)]
)
def test_a_run_has_ended_by_its_steps_or_its_epochs(tmp_path, losses, step, ended):
    history = [{"loss": 9.0, "step": 1}, *({"eval_loss": loss, "step": i} for i, loss in enumerate(losses))]
    (tmp_path / "trainer_state.json").write_text(
        json.dumps({"global_step": step, "max_steps": 80, "log_history": history})
    )
    held = HeldOut([], lambda z: 0.0, patience=2)
    assert held.ended(tmp_path) is ended
    assert not held.ended(None)
    assert losses_of(history) == losses
