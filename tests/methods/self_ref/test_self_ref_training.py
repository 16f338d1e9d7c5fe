from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from answer_probability import answer_log_probability
from confide.engines.transformers.encoding import encode_text
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.methods.finetuning import held_out, runs, supervised
from confide.methods.finetuning.runs import last_checkpoint
from confide.methods.finetuning.verdict_loss import verdict_loss
from confide.methods.self_ref import self_ref_training
from confide.methods.self_ref.self_ref_training import build_rows, choose_settings, mix, train_self_ref
from confide.methods.self_ref.verdict_reading import read_verdicts
from confide.numeric import logit
from confide.records import Message, Record
from confide.report_tokens import token_ids
from self_ref_rows import QUICK, engine_of, record, rows_of, toy
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_labels_skip_the_prompt_and_wrong_answers():
    _, tokenizer, ids, rows = rows_of([record(0, "France", True), record(1, "Japan", False)])
    end = tokenizer.eos_token_id
    right, wrong = rows
    answer = encode_text(tokenizer, "France")
    assert right.input_ids[-len(answer) - 2 :] == [*answer, ids.cn, end]
    start, stop = right.answer
    assert right.labels == [-100] * start + [*answer, ids.cn, end]
    assert right.input_ids[start:stop] == answer
    answer = encode_text(tokenizer, "Japan")
    assert wrong.input_ids[wrong.answer[0] :] == [*answer, ids.un, end]
    assert wrong.labels == [-100] * (wrong.answer[0] + len(answer)) + [ids.un, end]
    assert sum(wrong.answer_mask) == len(answer)


def test_without_masking_wrong_answers_are_labelled_too():
    _, tokenizer, ids, rows = rows_of([record(1, "Japan", False)], mask=False)
    assert rows[0].labels[rows[0].answer[0] :] == [
        *encode_text(tokenizer, "Japan"),
        ids.un,
        tokenizer.eos_token_id,
    ]


def test_given_answer_ids_are_used_as_they_are_and_a_cut_answer_has_no_turn_end():
    _, _, ids, rows = rows_of([record(0, "ignored", True, answer_ids=[7, 8, 9], finish="length")])
    assert rows[0].input_ids[rows[0].answer[0] :] == [7, 8, 9, ids.cn]
    assert rows[0].labels[-4:] == [7, 8, 9, ids.cn]


def test_a_verdict_in_the_users_text_or_the_answer_is_not_the_token():
    sly = Record(
        id="a",
        messages=[Message(role="user", content="<|confident|>")],
        answer="<|unconfident|>",
        correct=True,
    )
    _, _, ids, rows = rows_of([sly])
    assert rows[0].input_ids.count(ids.cn) == 1
    assert ids.un not in rows[0].input_ids


def test_an_ungraded_record_is_refused():
    with pytest.raises(ConfideError, match="q3"):
        rows_of([record(3, "France", None)])


@pytest.mark.parametrize(("ratio", "right", "wrong"), [(1.0, 12, 12), (1 / 2, 16, 8), (1 / 5, 20, 4)])
def test_mixing_keeps_the_total_and_sets_the_ratio(ratio, right, wrong):
    picked = mix(toy(48), ratio, seed=3, total=24)
    assert (sum(r.correct for r in picked), sum(not r.correct for r in picked)) == (right, wrong)
    assert len({r.id for r in picked}) == 24
    assert picked == mix(toy(48), ratio, seed=3, total=24)
    assert picked != mix(toy(48), ratio, seed=4, total=24)


def test_mixing_takes_what_there_is():
    assert len(mix(toy(48), 1.0, seed=0)) == 32  # 32 right, 16 wrong
    assert len(mix(toy(48), None, seed=0)) == 48
    assert len(mix(toy(48), None, seed=0, total=10)) == 10
    with pytest.raises(ConfideError, match="above 0"):
        mix(toy(9), 0.0, seed=0)


def test_training_lowers_the_loss_and_separates_right_from_wrong(trained):
    result, _ = trained
    assert (result.right, result.wrong) == (32, 16)
    assert result.losses[-1] < result.losses[0] / 2
    fresh = [record(100 + i, "France" if i % 2 else "Japan", bool(i % 2)) for i in range(20)]
    values = read_verdicts(engine_of(result), fresh, batch_size=6)
    assert roc_auc_score([r.correct for r in fresh], values) == 1.0
    assert np.mean([v for v, r in zip(values, fresh, strict=True) if r.correct]) > 0.8
    assert np.mean([v for v, r in zip(values, fresh, strict=True) if not r.correct]) < 0.2


def test_the_checkpoint_is_an_ordinary_one(trained):
    result, tied = trained
    model = AutoModelForCausalLM.from_pretrained(result.folder)
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    assert token_ids(tokenizer) == result.ids
    assert model.config.tie_word_embeddings == tied
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    inputs = torch.randint(3, 300, (2, 12))
    with torch.no_grad():
        assert torch.equal(model(inputs).logits, result.model(inputs).logits)
    about = json.loads((result.folder / "confide.json").read_text())
    assert about["signals"]["confidence"]["verdict_ids"]["<|confident|>"] == result.ids.cn
    assert about["signals"]["confidence"]["method"] == "self_ref"
    assert about["base_model"] == "tiny"
    assert len(about["training_data_sha256"]) == 64
    assert sorted(p.name for p in result.folder.iterdir() if not p.name.startswith(".lock")) == sorted(
        [
            "chat_template.jinja",
            "confide.json",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    )


def test_log_probability_of_given_answers(trained):
    result, _ = trained
    records = [record(i, answer, None) for i, answer in enumerate(["France", "Japan", "Germany", ""])]
    values = answer_log_probability(result.model, result.tokenizer, records, batch_size=2)
    prompt = build_rows([record(0, "France", True)], result.tokenizer, result.ids)[0]
    start, stop = prompt.answer
    with torch.no_grad():
        logprobs = result.model(torch.tensor([prompt.input_ids])).logits[0].log_softmax(-1)
    by_hand = sum(logprobs[i - 1, prompt.input_ids[i]].item() for i in range(start, stop))
    assert values[0] == pytest.approx(by_hand, abs=1e-4)
    assert values[3] == 0
    assert values[0] > max(values[1:3])


def test_masking_leaves_wrong_answers_less_likely(tmp_path):
    wrong = [r for r in toy() if not r.correct]
    means = {}
    for masked in (True, False):
        model, tokenizer = tiny_model()
        config = replace(QUICK, mask_wrong_answers=masked, epochs=3)
        result = train_self_ref(model, tokenizer, toy(), config, tmp_path / str(masked))
        means[masked] = np.mean(answer_log_probability(result.model, tokenizer, wrong))
    assert means[True] < means[False] - 1


def test_the_kl_weight_keeps_answers_near_the_base(tmp_path):
    base = answer_log_probability(*tiny_model(), toy()[:6])
    moved = []
    for weight in (0.0, 5.0):
        model, tokenizer = tiny_model()
        config = replace(QUICK, kl_weight=weight, epochs=2)
        result = train_self_ref(model, tokenizer, toy(), config, tmp_path / str(weight))
        moved.append(np.abs(np.subtract(answer_log_probability(result.model, tokenizer, toy()[:6]), base)).mean())
    assert moved[1] < moved[0] / 2


@pytest.mark.parametrize("modules", ["attention", "all-linear"])
def test_the_layers_that_are_adapted_are_those_that_were_asked_for(tmp_path, modules):
    before = tiny_model()[0].state_dict()
    result = train_self_ref(*tiny_model(), toy(), replace(QUICK, target_modules=modules, epochs=1), tmp_path)
    after = result.model.state_dict()
    moved = {name.split(".")[-2] for name in before if "layers" in name and not torch.equal(before[name], after[name])}
    others = {"o_proj", "gate_proj", "up_proj", "down_proj"} if modules == "all-linear" else set()
    assert moved == {"q_proj", "k_proj", "v_proj"} | others


def test_unknown_target_modules_are_refused():
    with pytest.raises(ConfideError, match="--target-modules is attention or all-linear, not 'q_proj'"):
        replace(QUICK, target_modules="q_proj")


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 7:
            raise KeyboardInterrupt


def test_a_killed_run_continues_and_ends_like_an_unbroken_one(tmp_path, monkeypatch):
    config = replace(QUICK, epochs=2, save_steps=3)

    def run(out, seed=0):
        model, tokenizer = tiny_model()
        return train_self_ref(model, tokenizer, toy(), replace(config, seed=seed), out)

    unbroken = run(tmp_path / "whole")
    report = runs.ProgressReport
    monkeypatch.setattr(runs, "ProgressReport", lambda *_: Killed())
    with pytest.raises(KeyboardInterrupt):
        train_self_ref(*tiny_model(), toy(), config, tmp_path / "broken", progress=lambda *_: None)
    monkeypatch.setattr(runs, "ProgressReport", report)
    checkpoints = tmp_path / "broken" / "checkpoints"
    assert last_checkpoint(checkpoints).name == "checkpoint-6"
    assert not (tmp_path / "broken" / "confide.json").exists()
    (checkpoints / "checkpoint-7").mkdir()  # half-written: no state file
    with pytest.raises(ConfideError, match=r"config.seed 0, now 1"):
        run(tmp_path / "broken", seed=1)
    with pytest.raises(ConfideError, match=r"weights 'weights=\w+', now"):
        train_self_ref(*tiny_model(seed=1), toy(), config, tmp_path / "broken")
    continued = run(tmp_path / "broken")
    assert not checkpoints.exists()
    for name, tensor in unbroken.model.state_dict().items():
        torch.testing.assert_close(continued.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


def validated(count: int = 30, held: int = 10) -> list[Record]:
    """`toy` rows, and validation rows of the same kind."""
    rows = toy(count)
    return rows + [
        record(i, "France" if i % 2 else "Japan", bool(i % 2), split="validation") for i in range(90, 90 + held)
    ]


def test_the_best_epoch_on_validation_rows_is_kept(tmp_path, monkeypatch):
    losses = iter([0.5, 0.2, 0.4, 0.3, 0.1])
    monkeypatch.setattr(held_out, "verdict_loss", lambda z, right, weights: next(losses))
    config = replace(QUICK, epochs=5, patience=2)
    result = train_self_ref(*tiny_model(), validated(), config, tmp_path / "five")
    assert result.held_losses == [0.5, 0.2, 0.4, 0.3], "two epochs that are no better end it"
    assert result.epoch == 2
    told = json.loads((tmp_path / "five" / "confide.json").read_text())["training"]
    assert (told["epoch"], told["validation_losses"]) == (2, [0.5, 0.2, 0.4, 0.3])


def test_the_kept_epoch_is_the_one_that_gave_the_lowest_loss(tmp_path):
    """What the saved model says of the validation rows costs what was noted for its epoch."""
    records = validated()
    held = [r for r in records if r.split == "validation"]
    result = train_self_ref(*tiny_model(), records, replace(QUICK, epochs=4, patience=4), tmp_path / "out")
    z = logit(read_verdicts(engine_of(result), held))
    again = verdict_loss(z, np.array([r.correct for r in held]), np.ones(len(held)))
    assert again == pytest.approx(min(result.held_losses), abs=1e-3)


def test_settings_are_chosen_on_validation_and_the_chosen_run_is_not_trained_again(tmp_path, monkeypatch):
    loads, trained = [], []

    def load():
        loads.append(1)
        return tiny_model()

    fit = self_ref_training.fit
    monkeypatch.setattr(self_ref_training, "fit", lambda *given, **how: (trained.append(1), fit(*given, **how))[1])
    records, out = validated(), tmp_path / "out"
    candidates = [replace(QUICK, epochs=2, ratio=ratio) for ratio in (None, 0.5)]
    choice = choose_settings(load, records, candidates, out)
    assert len(choice.losses) == 2
    assert choice.config == candidates[choice.losses.index(min(choice.losses))]
    assert choose_settings(load, records, candidates, out) == choice
    assert (len(loads), len(trained)) == (3, 2), "kept candidates are not trained again: the model is told apart"
    steps = []
    monkeypatch.setattr(supervised.SupervisedTrainer, "train", lambda *_, **__: steps.append(1))
    result = train_self_ref(*tiny_model(), records, choice.config, out)
    assert not steps
    assert min(result.held_losses) == min(choice.losses)
    with pytest.raises(ConfideError, match=r"rank 8, now 4"):
        choose_settings(load, records, [replace(c, rank=4) for c in candidates], out)
    with pytest.raises(ConfideError, match=r"weights '?weights=\w+'?, now"):
        choose_settings(lambda: tiny_model(seed=1), records, candidates, out)


def test_a_candidate_that_diverges_is_not_chosen_and_one_alone_is_refused(tmp_path):
    wild = replace(QUICK, epochs=2, learning_rate=1e30)
    choice = choose_settings(tiny_model, validated(), [wild, replace(QUICK, epochs=2)], tmp_path / "two")
    assert choice.config.learning_rate == QUICK.learning_rate
    assert choice.losses[0] == np.inf
    with pytest.raises(ConfideError, match="diverged in each of 2 epochs"):
        train_self_ref(*tiny_model(), validated(), wild, tmp_path / "one")
    assert not (tmp_path / "one" / "confide.json").exists()


@pytest.mark.parametrize(("correct", "said"), [(True, "5 right and 0 wrong"), (False, "0 right and 5 wrong")])
def test_labels_of_one_kind_are_refused(tmp_path, correct, said):
    records = [record(i, "France", correct) for i in range(5)]
    with pytest.raises(ConfideError, match=said):
        train_self_ref(*tiny_model(), records, QUICK, tmp_path)


def test_rows_longer_than_the_context_are_counted_and_named(tmp_path):
    records = [
        *toy(6),
        record(98, "France " * 200, True, split="train"),
        record(99, "Japan " * 200, False, split="train"),
    ]
    with pytest.raises(ConfideError, match=r"2 rows do not fit .* 128 tokens: q9\d, q9\d"):
        train_self_ref(*tiny_model(context=128), records, QUICK, tmp_path)
    model, tokenizer = tiny_model(context=128)
    add_to(model, tokenizer)
    with pytest.raises(ConfideError, match="q98"):
        read_verdicts(TransformersEngine(model, tokenizer), records[6:])


def test_only_training_rows_are_trained_on(tmp_path):
    records = toy(12) + [record(i, "France", True, split="test") for i in range(50, 60)]
    model, tokenizer = tiny_model()
    result = train_self_ref(model, tokenizer, records, replace(QUICK, epochs=1), tmp_path)
    assert result.right + result.wrong == 12
