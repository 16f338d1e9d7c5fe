from __future__ import annotations

import numpy as np
import pytest

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.method import labels
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.stack.probe import View, candidate_views
from confide.methods.stack.soft_targets import stack_targets, unseen_confidences
from confide.methods.stack.states import States
from confide.metrics import auroc
from graded_rows import graded
from tiny_model import tiny_model


def noisy(n: int, seed: int, strength: float) -> States:
    """States of 64 dimensions that tell nothing, but for one that tells what is right by ``strength``."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 1, 4, 64)).astype(np.float16)
    values[:, 0, 2, 0] += strength * np.where(labels(graded(n, seed)), 1, -1)
    return States((1,), values)


def targets(strength: float, records=None) -> np.ndarray:
    train, held = records or graded(300, 1), graded(100, 2)
    views = [View((1,), ("answer_last",), 0.1)]
    states = noisy(300, 1, strength)
    return unseen_confidences(views, states, train, noisy(100, 2, strength), held, fit_signals(train))


def test_what_states_know_is_in_the_targets():
    right = labels(graded(300, 1))
    assert auroc(targets(3.0), right) > 0.95
    assert auroc(targets(0.0), right) < 0.9


def test_rows_without_log_probabilities_are_refused(tmp_path):
    """The mixture would take them for answers that are certain."""
    bare = [r.model_copy(update={"logprobs": []}) if r.id == "1-3" else r for r in graded(40, 1)]
    with pytest.raises(ConfideError, match=r"1 training rows have none \(1-3"):
        stack_targets(TransformersEngine(*tiny_model(), "tiny"), bare, graded(20, 2), keep=tmp_path / "t.json")


def test_no_row_is_told_its_own_label():
    """Random labels cannot be found again in targets of rows that a probe did not see."""
    rng = np.random.default_rng(0)
    shuffled = [r.model_copy(update={"correct": bool(rng.random() < 0.5)}) for r in graded(300, 1)]
    assert abs(auroc(targets(0.0, shuffled), labels(shuffled)) - 0.5) < 0.12


@pytest.mark.usefixtures("one_thread")
def test_targets_of_a_model_are_by_id_and_kept_for_a_run_that_goes_on(tmp_path, monkeypatch):
    engine = TransformersEngine(*tiny_model(), "tiny")
    rows = [r.model_copy(update={"answer_ids": engine.encode_answer(r.answer)}) for r in graded(60, 1)]
    keep = tmp_path / "targets.json"
    found = stack_targets(engine, rows[:40], rows[40:], keep=keep)
    assert list(found) == [r.id for r in rows[:40]]
    assert all(0 < value < 1 for value in found.values())
    assert candidate_views(engine.depth), "the layers are those that a stack chooses from"
    with monkeypatch.context() as patched:
        patched.setattr(engine, "closed", None)  # nothing is read again
        assert stack_targets(engine, rows[:40], rows[40:], keep=keep) == found
    with pytest.raises(ConfideError, match="a set of targets that was made with other settings"):
        stack_targets(engine, rows[:40], rows[40:], 1, keep=keep)
