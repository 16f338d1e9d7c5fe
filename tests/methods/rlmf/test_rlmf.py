from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

import confide
from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.hedging.statements import Reading, Statement
from confide.methods.checkpoint import export_checkpoint
from confide.methods.finetuning.supervised import last_checkpoint
from confide.methods.rlmf import feedback, rlmf_trainer
from confide.methods.rlmf import reinforcement as rlmf
from confide.methods.rlmf.format_stage import FormatConfig, judgement_rows, share, statement_rows, train_format
from confide.methods.rlmf.graded import Graded
from confide.methods.rlmf.reinforcement import Guard, RLMFResult, train_rlmf
from confide.methods.rlmf.rlmf_trainer import RLMFConfig, RLMFTrainer, refined
from confide.methods.rlmf.rlmf_trainer import score as scored
from confide.methods.rlmf.rollouts import Asked, Policy, Rollouts, ask, observe
from confide.methods.scoring import score
from confide.records import Record
from confide.signals import GRADED
from confide.tasks import Task
from stating_model import graded_engine, question, saved, toy_records, toy_task

QUICK = FormatConfig(
    epochs=1, batch_size=8, answers=2, rollouts=6, rank=4, alpha=8, learning_rate=1e-2, row_learning_rate=5e-2
)


pytestmark = pytest.mark.usefixtures("one_thread")


def config(folder, **more) -> RLMFConfig:
    settings = {
        "max_steps": 4, "num_generations": 6, "per_device_train_batch_size": 12, "gradient_accumulation_steps": 1,
        "eval_steps": 2, "save_steps": 2, "accuracy_margin": 1.0, "patience": 100, "learning_rate": 1e-2,
    }  # fmt: skip
    return RLMFConfig(output_dir=str(folder), use_cpu=True, **(settings | more))


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """A tiny model that has passed the format stage, and what was said of it."""
    folder = tmp_path_factory.mktemp("formed")
    rows = toy_records()
    train, validation = ([r for r in rows if r.split == part] for part in ("train", "validation"))
    found = train_format(
        saved(folder / "base"), toy_task(), train, validation, QUICK, folder / "format", progress=False
    )
    return folder, found


def parts() -> tuple[list[Record], list[Record]]:
    rows = toy_records()
    return [r for r in rows if r.split == "train"], [r for r in rows if r.split == "validation"]


def run(formed, out, **more) -> RLMFResult:
    return train_rlmf(str(formed[0] / "format"), toy_task(), toy_records(), config(out, **more), out, rank=4, samples=6)


# -- the format stage ------------------------------------------------------------------------------------------


def test_rows_end_in_the_grade_of_their_own_leave_one_out_agreement():
    stating = Graded(graded_engine())
    rows = statement_rows(stating, toy_task(), toy_records(8), QUICK)
    assert len(rows) == 16
    for row in rows:
        target = stating.ids.index(row.input_ids[-1])
        even = int(row.id[1:]) % 2 == 0
        assert target == 10 if even else target in (0, 2)  # six answers, every place once or twice: 0/5 or 1/5
        start, end = row.answer
        assert row.labels[:start] == [-100] * start
        assert row.labels[start:] == row.input_ids[start:]
        assert end == len(row.input_ids) - 1


def test_constant_and_shuffled_targets_know_nothing_of_the_question():
    stating, records = Graded(graded_engine()), toy_records(24)
    grades = {}
    for target in ("consistency", "constant", "shuffled"):
        rows = statement_rows(stating, toy_task(), records, FormatConfig(**{**vars(QUICK), "target": target}))
        grades[target] = [stating.ids.index(row.input_ids[-1]) for row in rows]
    assert len(set(grades["constant"])) == 1
    assert grades["constant"][0] == round(np.mean(grades["consistency"]))
    assert sorted(grades["shuffled"]) == sorted(grades["consistency"])
    assert grades["shuffled"] != grades["consistency"]


def test_the_self_judgement_learns_whether_what_was_stated_is_near_g():
    stating = Graded(graded_engine())
    with torch.no_grad():  # every token alike, so that grades are sampled now and then
        stating.engine.model.get_output_embeddings().weight *= 0
    asked = ask(stating, toy_task(), toy_records(4))
    rows = judgement_rows(stating, toy_task(), asked, FormatConfig(**{**vars(QUICK), "rollouts": 40}))
    assert rows
    for row in rows:
        assert row.labels[-1] in (stating.ids[0], stating.ids[10])
        assert set(row.labels[:-1]) == {-100}
        assert row.input_ids[-1 - len(stating.query) : -1] == stating.query


def test_records_without_samples_or_with_too_few_are_refused(tmp_path):
    train, validation = parts()
    for samples, sentence in ((None, "q0 has 0 samples: annotate with --samples"), (4, "take at least 6")):
        rows = [r.model_copy(update={"samples": r.samples[:samples] if samples else None}) for r in train]
        with pytest.raises(ConfideError, match=sentence):
            train_format("none", toy_task(), rows, validation, QUICK, tmp_path / "out", progress=False)
    few = FormatConfig(**{**vars(QUICK), "rollouts": 3})
    with pytest.raises(ConfideError, match="take at least 6"):
        train_format("none", toy_task(), train, validation, few, tmp_path / "out", progress=False)


def test_a_judge_compares_answers_in_every_part_of_the_format_stage():
    class Judge:
        name = "judge"

        def left_out(self, answers, claims):
            return [[0.5] * len(row) for row in claims]

    stating = Graded(graded_engine())
    rows = statement_rows(stating, toy_task(), toy_records(4), QUICK, Judge())
    assert {stating.ids.index(row.input_ids[-1]) for row in rows} == {5}


def test_the_parts_of_the_format_stage_share_no_entity():
    rows = [r.model_copy(update={"entity": f"e{i % 5}"}) for i, r in enumerate(toy_records(20))]
    one, other = share(rows, 0.4, 0)
    assert {r.entity for r in one}.isdisjoint({r.entity for r in other})
    assert len(other) == 8


def test_the_format_stage_is_seen_on_validation_rows_and_not_trained_twice(formed):
    folder, found = formed
    assert {"parsed", "f_spearman", "spearman"} <= set(found["validation"])
    assert found["judged_rows"] >= 0
    again = train_format(str(folder / "base"), toy_task(), *parts(), QUICK, folder / "format", progress=False)
    assert again == json.loads((folder / "format" / "format.json").read_text())
    model = confide.load(folder / "format")
    assert model.checkpoint.statement == "graded"
    assert set(model.engine.grades) <= set(model.engine.model.generation_config.eos_token_id)
    with pytest.raises(ConfideError, match=r"other records or settings \(config.rank\)"):
        train_format(
            str(folder / "base"),
            toy_task(),
            *parts(),
            FormatConfig(**{**vars(QUICK), "rank": 2}),
            folder / "format",
            progress=False,
        )


# -- rewards and advantages ------------------------------------------------------------------------------------


def rollouts(stating, task: Task) -> Rollouts:
    said = [("Japan", 10), ("Japan", 4), ("Chile", 0), ("Japan", None)] + [("Chile", 3)] * 4
    completions = [
        Completion(text, [5], [], [], None, "stop", stating.engine.turn_end if g is None else stating.ids[g])
        for text, g in said
    ]
    return observe(stating, task, [Asked(question(2), [1]), Asked(question(3), [1])], completions)


def test_advantages_are_the_papers_with_each_control(tmp_path):
    seen = rollouts(Graded(graded_engine()), toy_task())
    rng, usual = np.random.default_rng(0), feedback.RunningMean()
    f_pred = np.array([0.9, 0.2, 0.5, np.nan, 1.0, 1.0, 1.0, 1.0])
    base = scored(seen, config(tmp_path))
    # g = 2/3, 2/3, 0, 2/3 in the first group; one says nothing.
    assert base.f[:4] == pytest.approx([12 * (1 - (1 - 2 / 3) ** 2), 12 * (1 - (0.4 - 2 / 3) ** 2), 12.0, -12.0])
    assert base.o[:4] == pytest.approx([3 + 1 + 1, 3 + 1 + 1 - 0.36, 3 + 0 + 1, -3 - 3 + 1 - 1])
    assert base.silent.tolist() == [False, True]  # the second group says one thing in one way
    gap_o, gap_f = base.o[:4] - base.o[:4].mean(), base.f[:4] - base.f[:4].mean()
    standard = refined(base, f_pred, config(tmp_path, feedback="none"), usual, rng)
    assert standard[:4] == pytest.approx(gap_o + gap_f)
    assert standard[4:].tolist() == [0] * 4
    z = np.array([1 - 0.9**2, 1 - 0.2**2, 1 - 0.5**2, -1])
    own = refined(base, f_pred, config(tmp_path, feedback="self"), usual, rng)
    expected = gap_o + np.where(gap_f > 0, gap_f * (1 + z), gap_f)
    assert base.f_gold[:4].tolist() == [0, 0, 1, 0]
    assert own[:4] == pytest.approx(expected)
    doubled = refined(base, f_pred, config(tmp_path, feedback="self", offset=2.0), usual, rng)
    assert doubled[:4] == pytest.approx(gap_o + np.where(gap_f > 0, gap_f * (2 + z), gap_f))
    constant = refined(base, f_pred, config(tmp_path, feedback="constant"), feedback.RunningMean(), rng)
    mean = np.concatenate([z, feedback.multiplier(f_pred[4:], base.f_gold[4:])]).mean()
    assert constant[:4] == pytest.approx(gap_o + np.where(gap_f > 0, gap_f * (1 + mean), gap_f))
    shuffled = refined(base, f_pred, config(tmp_path, feedback="shuffled"), usual, np.random.default_rng(1))
    rivals = [gap_o + np.where(gap_f > 0, gap_f * (1 + z[list(order)]), gap_f) for order in permutations(4)]
    assert any(shuffled[:4] == pytest.approx(rival) for rival in rivals)
    rlcr = scored(seen, config(tmp_path, rewarded="rlcr"))
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
        seen.append((self.scored, output["advantages"].clone(), self.judged_seconds, self.usual))
        return output

    monkeypatch.setattr(RLMFTrainer, "_generate_and_score_completions", spy)
    fakes = iter([np.linspace(0, 1, 12)] * 10)
    monkeypatch.setattr(Graded, "judge", lambda self, prompts, completions: next(fakes))
    run(formed, tmp_path / "run", max_steps=1, eval_steps=1, feedback=kind)
    batch, advantages, seconds, usual = seen[0]
    f_pred = np.linspace(0, 1, 12) if judged else np.full(12, np.nan)
    expected = refined(batch, f_pred, config(tmp_path, feedback=kind), usual, np.random.default_rng([42, 0]))
    assert advantages.numpy() == pytest.approx(expected, abs=1e-5)
    assert (seconds > 0) == judged
    # The self-judgement is a query outside the completions: it leaves no gradient and no trace in them.
    assert not advantages.requires_grad


def test_a_frozen_judgement_is_the_starting_models(formed, tmp_path, monkeypatch):
    found = {}
    original = RLMFTrainer._self_judged

    def spy(self, seen):
        if self.state.global_step == 3:
            closed = [replace(c, closed_by=self.stating.ids[i % 11]) for i, c in enumerate(seen.completions)]
            seen = replace(seen, completions=closed)
            for kind in ("self", "frozen"):
                self.args.feedback = kind
                found[kind] = original(self, seen)
            start = Graded(TransformersEngine.load(str(formed[0] / "format")))
            found["start"] = start.judge(seen.prompts, seen.completions)
        return original(self, seen)

    monkeypatch.setattr(RLMFTrainer, "_self_judged", spy)
    run(formed, tmp_path / "run", learning_rate=3e-2)
    known = np.isfinite(found["frozen"])
    assert known.any()
    assert found["frozen"][known] == pytest.approx(found["start"][known], abs=0.03)
    assert found["self"][known] != pytest.approx(found["start"][known], abs=1e-4)


def test_a_reward_that_is_no_number_stops_the_run_with_its_rows(formed, tmp_path, monkeypatch):
    monkeypatch.setattr(RLMFTrainer, "faithful", lambda self, prompts, **_: [1.0] * (len(prompts) - 1) + [float("nan")])
    with pytest.raises(ConfideError, match=r"returned NaN for 1 completions: q\d+"):
        run(formed, tmp_path / "run")


def test_every_step_logs_what_could_go_wrong(formed, tmp_path):
    run(formed, tmp_path / "run", patience=100)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "reward" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        assert {"kl", "accuracy", "format_failures", "distinct_confidences", "silent_groups", "f_gold"} <= set(line)


# -- the run ---------------------------------------------------------------------------------------------------


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_a_killed_run_continues_and_ends_like_an_unbroken_one(formed, tmp_path, monkeypatch):
    whole = run(formed, tmp_path / "whole", feedback="constant")
    told = rlmf._Told
    monkeypatch.setattr(rlmf, "_Told", lambda *_: Killed())
    with pytest.raises(KeyboardInterrupt):
        train_rlmf(
            str(formed[0] / "format"), toy_task(), toy_records(), config(tmp_path / "broken", feedback="constant"),
            tmp_path / "broken", rank=4, samples=6, progress=lambda *_: None,
        )  # fmt: skip
    assert not (tmp_path / "broken" / "confide.json").exists()
    monkeypatch.setattr(rlmf, "_Told", told)
    with pytest.raises(ConfideError, match=r"other records or settings \(config.feedback, config.offset\)"):
        run(formed, tmp_path / "broken", feedback="self", offset=2.0)
    continued = run(formed, tmp_path / "broken", feedback="constant")
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
    monkeypatch.setattr(rlmf, "_Told", lambda *_: Killed())
    out = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        train_rlmf(
            str(formed[0] / "format"), toy_task(), toy_records(), config(out, save_steps=1, eval_steps=1), out, rank=4,
            samples=6, progress=lambda *_: None,
        )  # fmt: skip
    (out / "checkpoints" / "checkpoint-2" / "guard.json").unlink()
    assert last_checkpoint(out / "checkpoints", rlmf.OWN).name == "checkpoint-1"
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "rew')
    monkeypatch.undo()
    found = run(formed, out, save_steps=1, eval_steps=1)
    assert found.steps == 4
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3, 4]
    # Once more: nothing is trained again.
    monkeypatch.setattr(rlmf, "_prepared", None)
    assert run(formed, out, save_steps=1, eval_steps=1) == found


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
        run(formed, out, **how)
    monkeypatch.setattr(Guard, "on_save", saved_at)
    found = run(formed, out, **how)
    assert "every completion stated 0.3" in found.stopped
    assert found.steps == 1


def test_no_gradient_has_moved_the_policy_at_the_first_step(formed, tmp_path):
    run(
        formed,
        tmp_path / "run",
        max_steps=1,
        eval_steps=1,
        per_device_train_batch_size=6,
        gradient_accumulation_steps=2,
    )
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # the reference is the model that the format stage left


def test_fewer_rows_than_a_step_asks_are_refused(formed, tmp_path):
    with pytest.raises(ConfideError, match="18 train records are fewer than the 20 questions of one step"):
        run(formed, tmp_path / "run", per_device_train_batch_size=120)


def test_nothing_may_be_said_of_a_format_stage_that_is_over(formed, tmp_path):
    with pytest.raises(ConfideError, match="has passed its format stage"):
        run(formed, tmp_path / "run", max_steps=0)
    with pytest.raises(ConfideError, match="has passed its format stage"):
        train_rlmf(
            str(formed[0] / "format"), toy_task(), toy_records(), config(tmp_path), tmp_path / "o", statement=QUICK
        )


def test_a_frozen_g_takes_samples_enough(formed, tmp_path):
    rows = [r.model_copy(update={"samples": r.samples[:3]}) for r in toy_records()]
    with pytest.raises(ConfideError, match="take at least 6"):
        train_rlmf(
            str(formed[0] / "format"), toy_task(), rows, config(tmp_path, intrinsic="frozen"), tmp_path / "o", samples=6
        )


def looks(guard: Guard, monkeypatch, seen: list[tuple[float, ...]]) -> None:
    """Let the guard see (accuracy, how far cMFG* is above its floor) one after another."""
    left = iter(seen)

    def fake(*_, **__):
        accuracy, star, distinct = (*next(left), 5)[:3]
        return SimpleNamespace(
            numbers=lambda: {"accuracy": accuracy, "above_floor": star, "n": 4.0, "distinct": distinct}
        )

    monkeypatch.setattr(rlmf, "look", fake)


class Adapted(torch.nn.Module):
    """A weight named as an adapter's is: ``lora_A.default.weight``."""

    def __init__(self):
        super().__init__()
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(1, 1, bias=False)})

    @property
    def weight(self) -> torch.Tensor:
        return self.lora_A["default"].weight.data


def guarded(monkeypatch, numbers) -> tuple[Guard, Adapted]:
    settings = SimpleNamespace(
        temperature=1.0, tolerance=0.1, seed=0, accuracy_margin=0.05, patience=2, eval_steps=1, max_steps=10
    )
    guard, model = Guard(None, None, [1, 2, 3, 4], settings, 6, None, None), Adapted()
    guard.trainer = SimpleNamespace(model=model, scored=None, usual=feedback.RunningMean(), judged_seconds=0.0)
    looks(guard, monkeypatch, numbers)
    guard.begin()
    return guard, model


def step(guard: Guard, number: int, stated: list[float]) -> bool:
    guard.trainer.scored = SimpleNamespace(rollouts=SimpleNamespace(stated=[[c] for c in stated]))
    control = SimpleNamespace(should_training_stop=False)
    guard.on_step_end(None, SimpleNamespace(global_step=number), control)
    return control.should_training_stop


def test_the_best_look_is_kept_and_put_back(monkeypatch):
    guard, model = guarded(monkeypatch, [(0.5, 0.6), (0.5, 0.8), (0.5, 0.7)])
    for number in (1, 2):
        model.weight.fill_(float(number))
        assert not step(guard, number, [0.1, 0.2])
    assert guard.best_step == 1
    assert guard.best["above_floor"] == 0.8
    guard.restore(model)
    assert model.weight.item() == 1.0


def test_a_fall_of_accuracy_beyond_the_margin_stops_the_run_with_the_reason(monkeypatch):
    guard, _ = guarded(monkeypatch, [(0.5, 0.6), (0.46, 0.7), (0.44, 0.9)])
    assert not step(guard, 1, [0.1, 0.2])
    assert step(guard, 2, [0.1, 0.2])
    assert "fell from 0.500 to 0.440" in guard.stopped
    assert guard.best_step == 1  # a better score does not buy a worse model


def test_one_confidence_for_everything_stops_the_run_with_the_reason(monkeypatch):
    guard, _ = guarded(monkeypatch, [(0.5, 0.6)] * 5)
    assert not step(guard, 1, [0.3, 0.3])
    assert not step(guard, 2, [0.3, 0.4])
    assert not step(guard, 3, [0.3, 0.3])
    assert step(guard, 4, [0.3, 0.3])
    assert "every completion stated 0.3 for 2 steps in a row" in guard.stopped


def test_one_confidence_for_all_validation_rows_stops_the_run_too(monkeypatch):
    guard, _ = guarded(monkeypatch, [(0.5, 0.6), (0.5, 0.7, 2), (0.5, 0.7, 1)])
    assert not step(guard, 1, [0.3, 0.4])
    assert step(guard, 2, [0.3, 0.4])
    assert "one confidence for all 4 validation rows" in guard.stopped


def test_a_run_that_only_gets_worse_gives_the_start_back(monkeypatch):
    guard, _ = guarded(monkeypatch, [(0.5, 0.6), (0.5, 0.5), (0.5, 0.4)])
    step(guard, 1, [0.1, 0.2])
    step(guard, 2, [0.1, 0.2])
    assert guard.best_step == 0


def test_too_few_completions_for_the_tolerance_are_refused(formed, tmp_path):
    with pytest.raises(ConfideError, match="take at least 6"):
        run(formed, tmp_path / "run", num_generations=4, per_device_train_batch_size=8)
    rows = parts()[1]
    with pytest.raises(ConfideError, match="0 train and 6 validation"):
        train_rlmf(str(formed[0] / "format"), toy_task(), rows, config(tmp_path), tmp_path / "other")


def test_no_steps_leave_the_format_stage_alone(tmp_path):
    base = saved(tmp_path / "base")
    found = train_rlmf(
        base, toy_task(), toy_records(), config(tmp_path, max_steps=0), tmp_path / "out", statement=QUICK, samples=6
    )
    assert found.steps == 0
    assert confide.load(tmp_path / "out").checkpoint.statement == "graded"


def test_a_trained_model_answers_states_and_is_scored(formed, tmp_path):
    run(formed, tmp_path / "run", max_steps=2)
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


def test_failures_of_the_format_are_failures(monkeypatch):
    nothing = np.full(4, np.nan)
    numbers = Policy(nothing, np.array([0.1, 0.9, 0.5, 1.0]), np.ones(4), nothing, np.zeros(4)).numbers()
    assert numbers["parsed"] == 0
    assert numbers["cmfg_star"] < 0.5


def test_telemetry_is_off():
    assert RLMFTrainer._send_telemetry is not rlmf_trainer.GRPOTrainer._send_telemetry
