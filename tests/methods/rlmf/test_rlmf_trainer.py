from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from confide.engines.engine import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.rlmf import feedback, rlmf_trainer
from confide.methods.rlmf.rlmf_trainer import RLMFTrainer, refine_advantages, reward_rollouts
from confide.methods.rlmf.rollouts import Environment, QuestionPrompt, Rollouts
from confide.methods.rlmf.stating import Graded
from confide.tasks import Task
from stating_model import graded_engine, question, quick, run_rlmf, toy_task

pytestmark = pytest.mark.usefixtures("one_thread")


def rollouts(stating, task: Task) -> Rollouts:
    said = [("Japan", 10), ("Japan", 4), ("Chile", 0), ("Japan", None)] + [("Chile", 3)] * 4
    completions = [
        Completion(text, [5], [], [], None, "stop", stating.engine.turn_end if g is None else stating.ids[g])
        for text, g in said
    ]
    questions = [QuestionPrompt(question(2), [1]), QuestionPrompt(question(3), [1])]
    return Environment(stating, task).grade(questions, completions)


def test_advantages_are_the_papers_with_each_control(tmp_path):
    seen = rollouts(Graded(graded_engine()), toy_task())
    rng, usual = np.random.default_rng(0), feedback.RunningMean()
    f_pred = np.array([0.9, 0.2, 0.5, np.nan, 1.0, 1.0, 1.0, 1.0])
    base = reward_rollouts(seen, quick(tmp_path))
    # g = 2/3, 2/3, 0, 2/3 in the first group; one says nothing.
    assert base.f[:4] == pytest.approx([12 * (1 - (1 - 2 / 3) ** 2), 12 * (1 - (0.4 - 2 / 3) ** 2), 12.0, -12.0])
    assert base.o[:4] == pytest.approx([3 + 1 + 1, 3 + 1 + 1 - 0.36, 3 + 0 + 1, -3 - 3 + 1 - 1])
    assert base.silent.tolist() == [False, True]  # the second group says one thing in one way
    gap_o, gap_f = base.o[:4] - base.o[:4].mean(), base.f[:4] - base.f[:4].mean()
    standard = refine_advantages(base, f_pred, quick(tmp_path, feedback="none"), usual, rng)
    assert standard[:4] == pytest.approx(gap_o + gap_f)
    assert standard[4:].tolist() == [0] * 4
    z = np.array([1 - 0.9**2, 1 - 0.2**2, 1 - 0.5**2, -1])
    own = refine_advantages(base, f_pred, quick(tmp_path, feedback="self"), usual, rng)
    expected = gap_o + np.where(gap_f > 0, gap_f * (1 + z), gap_f)
    assert base.f_gold[:4].tolist() == [0, 0, 1, 0]
    assert own[:4] == pytest.approx(expected)
    doubled = refine_advantages(base, f_pred, quick(tmp_path, feedback="self", offset=2.0), usual, rng)
    assert doubled[:4] == pytest.approx(gap_o + np.where(gap_f > 0, gap_f * (2 + z), gap_f))
    constant = refine_advantages(base, f_pred, quick(tmp_path, feedback="constant"), feedback.RunningMean(), rng)
    mean = np.concatenate([z, feedback.multiplier(f_pred[4:], base.f_gold[4:])]).mean()
    assert constant[:4] == pytest.approx(gap_o + np.where(gap_f > 0, gap_f * (1 + mean), gap_f))
    shuffled = refine_advantages(base, f_pred, quick(tmp_path, feedback="shuffled"), usual, np.random.default_rng(1))
    rivals = [gap_o + np.where(gap_f > 0, gap_f * (1 + z[list(order)]), gap_f) for order in permutations(4)]
    assert any(shuffled[:4] == pytest.approx(rival) for rival in rivals)
    rlcr = reward_rollouts(seen, quick(tmp_path, rewarded="rlcr"))
    assert rlcr.f.tolist() == [0] * 8
    assert rlcr.o[:4] == pytest.approx([1 - 0 + 3, 1 - 0.36 + 3, 0 - 0 + 3, -1 - 3 - 3])


def permutations(n):
    from itertools import permutations as every

    return every(range(n))


@pytest.mark.parametrize(("kind", "judged"), [("self", True), ("none", False), ("frozen", True), ("shuffled", True)])
def test_the_trainer_puts_the_refined_advantages_in_trls_place(formed, tmp_path, monkeypatch, kind, judged):
    seen = []
    original = RLMFTrainer._generate_and_score_completions

    def spy(self, inputs):
        output = original(self, inputs)
        seen.append((self.batch, output["advantages"].clone(), self.judged_seconds, self.mean_z))
        return output

    monkeypatch.setattr(RLMFTrainer, "_generate_and_score_completions", spy)
    fakes = iter([np.linspace(0, 1, 12)] * 10)
    monkeypatch.setattr(Graded, "judge", lambda self, prompts, completions: next(fakes))
    run_rlmf(formed, tmp_path / "run", max_steps=1, eval_steps=1, feedback=kind)
    batch, advantages, seconds, usual = seen[0]
    f_pred = np.linspace(0, 1, 12) if judged else np.full(12, np.nan)
    expected = refine_advantages(batch, f_pred, quick(tmp_path, feedback=kind), usual, np.random.default_rng([42, 0]))
    assert advantages.numpy() == pytest.approx(expected, abs=1e-5)
    assert (seconds > 0) == judged
    # The self-judgement is a query outside the completions: it leaves no gradient and no trace in them.
    assert not advantages.requires_grad


def test_a_frozen_judgement_is_the_starting_models(formed, tmp_path, monkeypatch):
    found = {}
    original = RLMFTrainer._self_judged

    def spy(self, seen):
        if self.state.global_step == 3:
            closed = [
                replace(c, closed_by=self.environment.stating.ids[i % 11]) for i, c in enumerate(seen.completions)
            ]
            seen = replace(seen, completions=closed)
            for kind in ("self", "frozen"):
                self.args.feedback = kind
                found[kind] = original(self, seen)
            start = Graded(TransformersEngine.load(str(formed[0] / "format")))
            found["start"] = start.judge(seen.prompts, seen.completions)
        return original(self, seen)

    monkeypatch.setattr(RLMFTrainer, "_self_judged", spy)
    run_rlmf(formed, tmp_path / "run", learning_rate=3e-2)
    known = np.isfinite(found["frozen"])
    assert known.any()
    assert found["frozen"][known] == pytest.approx(found["start"][known], abs=0.03)
    assert found["self"][known] != pytest.approx(found["start"][known], abs=1e-4)


def test_a_reward_that_is_no_number_stops_the_run_with_its_rows(formed, tmp_path, monkeypatch):
    monkeypatch.setattr(RLMFTrainer, "faithful", lambda self, prompts, **_: [1.0] * (len(prompts) - 1) + [float("nan")])
    with pytest.raises(ConfideError, match=r"returned NaN for 1 completions: q\d+"):
        run_rlmf(formed, tmp_path / "run")


def test_no_gradient_has_moved_the_policy_at_the_first_step(formed, tmp_path):
    run_rlmf(
        formed,
        tmp_path / "run",
        max_steps=1,
        eval_steps=1,
        per_device_train_batch_size=6,
        gradient_accumulation_steps=2,
    )
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # the reference is the model that the format stage left


def test_telemetry_is_off():
    assert RLMFTrainer._send_telemetry is not rlmf_trainer.GRPOTrainer._send_telemetry
