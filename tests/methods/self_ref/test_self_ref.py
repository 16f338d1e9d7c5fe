from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

import confide
from confide.errors import ConfideError
from confide.methods.finetuning import labelled_rows as labelled
from confide.methods.finetuning import supervised
from confide.methods.finetuning.labelled_rows import collate, logits_at
from confide.methods.finetuning.supervised import (
    adapted,
    answer_loss,
    kl_to_base,
    last_checkpoint,
    optimizer,
    row_order,
)
from confide.methods.self_ref.self_ref_training import (
    SelfRefConfig,
    answer_log_probability,
    build_rows,
    choose_ratio,
    emit,
    mix,
    read_verdicts,
    train_self_ref,
)
from confide.records import Message, Record
from confide.signals import add_to, encode_text, token_ids
from tiny_model import tiny_model

SYSTEM = Message(role="system", content="Answer with the name only.")
QUICK = SelfRefConfig(
    epochs=6, batch_size=8, learning_rate=2e-2, row_learning_rate=None, warmup_steps=0, save_steps=1000
)


pytestmark = pytest.mark.usefixtures("one_thread")


def record(number: int, answer: str, correct: bool | None, **more: object) -> Record:
    user = Message(role="user", content=f"Which country is city {number} in?")
    return Record(id=f"q{number}", messages=[SYSTEM, user], answer=answer, correct=correct, **more)


def toy(count: int = 48) -> list[Record]:
    """Answers naming France are right, those naming Japan are wrong."""
    return [record(i, "France" if i % 3 else "Japan", bool(i % 3), split="train") for i in range(count)]


def rows_of(records, *, tied=True, mask=True):
    model, tokenizer = tiny_model(tied=tied)
    ids = add_to(model, tokenizer)
    return model, tokenizer, ids, build_rows(records, tokenizer, ids, mask_wrong_answers=mask)


def columns(rows):
    return [{"input_ids": r.input_ids, "labels": r.labels, "answer": r.answer_mask} for r in rows]


def trainer_loss(model, batch, ids, kl_weight=0.0):
    """The loss that the trainer computes, without the trainer around it."""
    stand_in = type("StandIn", (), {})()
    stand_in.accelerator = type("Accelerator", (), {"unwrap_model": staticmethod(lambda m: m)})()
    stand_in.kl_weight, stand_in.new_ids = kl_weight, ids.all
    return supervised.SelfRefTrainer.compute_loss(stand_in, model, dict(batch))


# -- rows ------------------------------------------------------------------------------------------------


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


# -- mixing ----------------------------------------------------------------------------------------------


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


# -- the loss --------------------------------------------------------------------------------------------


def test_logits_only_where_asked_equal_the_plain_ones():
    model, _, _, rows = rows_of([record(i, "France" if i % 2 else "South Japan", bool(i % 2)) for i in range(5)])
    batch = collate(columns(rows), 0)
    assert batch["prefix_ids"].shape[1] > 10, "the prompts share their start"
    positions = functional.pad(batch["labels"][:, 1:] != -100, (0, 1))
    with torch.no_grad():
        picked = logits_at(model, batch, positions)
        narrow = logits_at(model, batch, positions, rows=[5, 3])
        plain = torch.cat(
            [
                model(torch.tensor([row.input_ids])).logits[0, [i - 1 for i, x in enumerate(row.labels) if x != -100]]
                for row in rows
            ]
        )
    assert picked.shape == (sum(x != -100 for row in rows for x in row.labels), model.config.vocab_size)
    torch.testing.assert_close(picked, plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(narrow, plain[:, [5, 3]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_and_its_gradients_are_those_of_plain_cross_entropy(tied, monkeypatch):
    records = [record(i, "France" if i % 2 else "Japan", bool(i % 2)) for i in range(4)]
    model, _, ids, rows = rows_of(records, tied=tied)
    model = adapted(model, ids.all, QUICK)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert sum("token" in n for n in trained) == (1 if tied else 2)

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return loss.item(), {n: p.grad.clone() for n, p in trained.items()}

    value, got = gradients(trainer_loss(model, collate(columns(rows), 0), ids))
    monkeypatch.setattr(labelled, "_shared", lambda rows: 0)
    batch = collate(columns(rows), 0)
    assert "prefix_ids" not in batch
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    plain = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100)
    expected, want = gradients(plain)
    assert value == pytest.approx(expected, rel=1e-5)
    for name in trained:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=1e-3)
    moved = [n for n in trained if "token" in n]
    assert all(bool(got[n].abs().sum() > 0) for n in moved), "new rows are trained, input and output"


def test_masked_tokens_get_exactly_no_direct_gradient(monkeypatch):
    """The final hidden states that predict a wrong answer's tokens have a gradient of exactly zero."""
    records = [record(0, "France", True), record(1, "Japan", False)]
    monkeypatch.setattr(labelled, "_shared", lambda rows: 0)

    def gradient(mask):
        model, _, ids, rows = rows_of(records, mask=mask)
        states = []
        model.model.register_forward_hook(lambda module, inputs, out: states.append(out.last_hidden_state))
        model.model.norm.register_forward_hook(lambda module, inputs, out: out.retain_grad())
        trainer_loss(model, collate(columns(rows), 0), ids).backward()
        return states[0].grad.abs().sum(-1), rows

    got, rows = gradient(mask=True)
    (start, stop), (first, last) = rows[1].answer, rows[0].answer
    assert bool((got[1, start - 1 : stop - 1] == 0).all()), "no gradient for the wrong answer"
    assert bool((got[1, stop - 1 : stop + 1] > 0).all()), "but for its verdict and the end of the turn"
    for before in (got[1, : start - 1], got[0, : first - 1]):
        assert bool((before == 0).all()), "nor for prompts"
    assert bool((got[0, first - 1 : last + 1] > 0).all()), "right answers and their verdicts are trained"
    unmasked, _ = gradient(mask=False)
    assert bool((unmasked[1, start - 1 : stop - 1] > 0).all())


def test_the_logits_of_masked_positions_have_no_gradient():
    logits = torch.randn(4, 9, requires_grad=True)
    answer_loss(logits, torch.tensor([3, -100, -100, 5])).backward()
    assert bool((logits.grad[1:3] == 0).all())
    assert bool((logits.grad[[0, 3]] != 0).all())


def test_kl_is_zero_at_the_base_and_grows_away_from_it():
    base = torch.randn(5, 11)
    same = base.clone()
    same[:, 10] = -torch.inf  # a base model gives no new tokens
    assert kl_to_base(same.clamp(min=-1e9), base, [10]).item() == pytest.approx(0, abs=1e-6)
    assert kl_to_base(torch.randn(5, 11), base, [10]).item() > 0.05
    p, q = functional.softmax(base[:, :10], -1), functional.log_softmax(same.clamp(min=-1e9) * 2, -1)[:, :10]
    by_hand = (p * (p.log() - q)).sum(-1).mean()
    assert kl_to_base(same.clamp(min=-1e9) * 2, base, [10]).item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_the_kl_term_counts_on_the_answer_tokens_of_every_row():
    records = [record(0, "France", True), record(1, "Japan", False)]
    model, _, ids, rows = rows_of(records)
    model = adapted(model, ids.all, QUICK)
    batch = collate(columns(rows), 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        plain, with_kl = trainer_loss(model, batch, ids), trainer_loss(model, batch, ids, kl_weight=0.5)
        answers = functional.pad(batch["answer"][:, 1:], (0, 1)).bool()
        trained = logits_at(model, batch, answers)
        with model.disable_adapter():
            base = logits_at(model, batch, answers)
    assert len(trained) == sum(sum(row.answer_mask) for row in rows)
    kl = kl_to_base(trained, base, ids.all)
    assert kl.item() > 0.01
    assert (with_kl - plain).item() == pytest.approx(0.5 * kl.item(), rel=1e-4)


# -- training --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def trained(request, tmp_path_factory):
    model, tokenizer = tiny_model(tied=request.param)
    out = tmp_path_factory.mktemp("self_ref")
    return train_self_ref(model, tokenizer, toy(), QUICK, out, base_model="tiny", progress=False), request.param


def test_training_lowers_the_loss_and_separates_right_from_wrong(trained):
    result, _ = trained
    assert (result.right, result.wrong) == (32, 16)
    assert result.losses[-1] < result.losses[0] / 2
    fresh = [record(100 + i, "France" if i % 2 else "Japan", bool(i % 2)) for i in range(20)]
    values = read_verdicts(result.model, result.tokenizer, fresh, result.ids, batch_size=6)
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


def test_the_trained_model_writes_its_verdict_inline(trained):
    result, _ = trained
    conversations = [record(200 + i, "", None).messages for i in range(3)]
    conversations[1] = [Message(role="user", content="Which country?")]  # another length
    emissions = emit(result.model, result.tokenizer, conversations, result.ids, max_new_tokens=8, batch_size=2)
    first = emissions[0]
    assert (first.answer, first.verdict, first.finish) == ("France", "<|confident|>", "stop")
    assert not set(first.answer_ids) & set(result.ids.all)
    given = [
        Record(id=str(i), messages=list(m), answer=e.answer, answer_ids=e.answer_ids)
        for i, (m, e) in enumerate(zip(conversations, emissions, strict=True))
    ]
    read = read_verdicts(result.model, result.tokenizer, given, result.ids)
    assert [e.confidence for e in emissions] == pytest.approx(read, abs=1e-3)


def test_a_cut_answer_still_gets_a_confidence(trained):
    result, _ = trained
    messages = record(1, "", None).messages
    (cut,) = emit(result.model, result.tokenizer, [messages], result.ids, max_new_tokens=1)
    assert (cut.finish, cut.verdict, len(cut.answer_ids)) == ("length", None, 1)
    given = Record(id="a", messages=messages, answer_ids=cut.answer_ids)
    assert read_verdicts(result.model, result.tokenizer, [given], result.ids) == pytest.approx([cut.confidence])


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


def test_a_loaded_model_writes_its_verdict_inline(tmp_path):
    model, tokenizer = tiny_model()
    train_self_ref(model, tokenizer, toy(), QUICK, tmp_path, progress=False)
    loaded = confide.load(tmp_path)
    conversation = [message.model_dump() for message in toy()[1].messages]
    answer = loaded.answer(conversation, max_new_tokens=8)
    assert answer.source == "self_ref"
    assert "confident" not in answer.text
    right, wrong = (loaded.confidence(conversation, text).confidence for text in ("France", "Japan"))
    assert right > wrong


def test_masking_leaves_wrong_answers_less_likely(tmp_path):
    wrong = [r for r in toy() if not r.correct]
    means = {}
    for masked in (True, False):
        model, tokenizer = tiny_model()
        config = replace(QUICK, mask_wrong_answers=masked, epochs=3)
        result = train_self_ref(model, tokenizer, toy(), config, tmp_path / str(masked), progress=False)
        means[masked] = np.mean(answer_log_probability(result.model, tokenizer, wrong))
    assert means[True] < means[False] - 1


def test_the_kl_weight_keeps_answers_near_the_base(tmp_path):
    base = answer_log_probability(*tiny_model(), toy()[:6])
    moved = []
    for weight in (0.0, 5.0):
        model, tokenizer = tiny_model()
        config = replace(QUICK, kl_weight=weight, epochs=2)
        result = train_self_ref(model, tokenizer, toy(), config, tmp_path / str(weight), progress=False)
        moved.append(np.abs(np.subtract(answer_log_probability(result.model, tokenizer, toy()[:6]), base)).mean())
    assert moved[1] < moved[0] / 2


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 7:
            raise KeyboardInterrupt


def test_a_killed_run_continues_and_ends_like_an_unbroken_one(tmp_path, monkeypatch):
    config = replace(QUICK, epochs=2, save_steps=3)

    def run(out, seed=0):
        model, tokenizer = tiny_model()
        return train_self_ref(model, tokenizer, toy(), replace(config, seed=seed), out, progress=False)

    unbroken = run(tmp_path / "whole")
    bar = supervised.Bar
    monkeypatch.setattr(supervised, "Bar", lambda steps, title: Killed())
    with pytest.raises(KeyboardInterrupt):
        train_self_ref(*tiny_model(), toy(), config, tmp_path / "broken")
    checkpoints = tmp_path / "broken" / "checkpoints"
    assert last_checkpoint(checkpoints).name == "checkpoint-6"
    assert not (tmp_path / "broken" / "confide.json").exists()
    (checkpoints / "checkpoint-7").mkdir()  # half-written: no state file
    with pytest.raises(ConfideError, match="other records or settings"):
        run(tmp_path / "broken", seed=1)
    monkeypatch.setattr(supervised, "Bar", bar)
    continued = run(tmp_path / "broken")
    assert not checkpoints.exists()
    for name, tensor in unbroken.model.state_dict().items():
        torch.testing.assert_close(continued.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(("rate", "expected"), [(None, 2e-2), (5e-3, 5e-3)])
def test_new_rows_learn_at_their_own_rate(rate, expected):
    model, _, ids, _ = rows_of(toy(4), tied=False)
    config = replace(QUICK, row_learning_rate=rate)
    groups = optimizer(adapted(model, ids.all, config), config).param_groups
    assert [group["lr"] for group in groups] == [2e-2, expected]
    assert [len(group["params"]) for group in groups] == [2 * 3 * 2, 2], "A, B of q, k, v in 2 layers; rows"


def test_row_order_covers_every_epoch():
    _, _, _, rows = rows_of(toy(45))
    order = row_order(rows, epochs=3, batch_size=8, seed=1)
    assert sorted(order) == sorted(list(range(45)) * 3)
    assert order == row_order(rows, epochs=3, batch_size=8, seed=1)
    assert order != row_order(rows, epochs=3, batch_size=8, seed=2)


def test_the_ratio_is_chosen_on_validation_and_kept(tmp_path):
    records = [record(i, "France" if i % 3 else "Japan", bool(i % 3), split="train") for i in range(30)]
    records += [record(i, "France" if i % 2 else "Japan", bool(i % 2), split="validation") for i in range(30, 40)]
    loads = []

    def load():
        loads.append(1)
        return tiny_model()

    config = replace(QUICK, epochs=1)
    choice = choose_ratio(load, records, config, tmp_path, ratios=(1.0, 0.5), progress=False)
    assert choice.ratio in (1.0, 0.5)
    assert [c["rows"] for c in choice.candidates] == [20, 20], "every ratio gets the same number of rows"
    assert all(0 <= c["auroc"] <= 1 for c in choice.candidates)
    assert choose_ratio(load, records, config, tmp_path, ratios=(1.0, 0.5), progress=False) == choice
    assert len(loads) == 2, "kept candidates are not trained again"
    with pytest.raises(ConfideError, match="other records or settings"):
        choose_ratio(load, records, replace(config, rank=4), tmp_path, ratios=(1.0, 0.5), progress=False)


# -- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("correct", "said"), [(True, "5 right and 0 wrong"), (False, "0 right and 5 wrong")])
def test_labels_of_one_kind_are_refused(tmp_path, correct, said):
    records = [record(i, "France", correct) for i in range(5)]
    with pytest.raises(ConfideError, match=said):
        train_self_ref(*tiny_model(), records, QUICK, tmp_path, progress=False)


def test_rows_longer_than_the_context_are_counted_and_named(tmp_path):
    records = [
        *toy(6),
        record(98, "France " * 200, True, split="train"),
        record(99, "Japan " * 200, False, split="train"),
    ]
    with pytest.raises(ConfideError, match=r"2 of 8 rows do not fit .* 128 tokens: q9\d, q9\d"):
        train_self_ref(*tiny_model(context=128), records, QUICK, tmp_path, progress=False)
    model, tokenizer = tiny_model(context=128)
    ids = add_to(model, tokenizer)
    with pytest.raises(ConfideError, match="q98"):
        read_verdicts(model, tokenizer, records[6:], ids)


def test_only_training_rows_are_trained_on(tmp_path):
    records = toy(12) + [record(i, "France", True, split="test") for i in range(50, 60)]
    model, tokenizer = tiny_model()
    result = train_self_ref(model, tokenizer, records, replace(QUICK, epochs=1), tmp_path, progress=False)
    assert result.right + result.wrong == 12
