from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from confide.methods.finetuning import labelled_rows as labelled
from confide.methods.finetuning import supervised
from confide.methods.finetuning.labelled_rows import collate, logits_at
from confide.methods.finetuning.row_order import row_order
from confide.methods.finetuning.supervised import (
    add_adapter,
    answer_loss,
    kl_to_base,
    optimizer,
    verdict_logits,
)
from self_ref_rows import QUICK, record, rows_of, toy

pytestmark = pytest.mark.usefixtures("one_thread")


def columns(rows):
    return [row.columns() for row in rows]


def trainer_loss(model, batch, ids, kl_weight=0.0):
    """The loss that the trainer computes, without the trainer around it."""
    stand_in = type("StandIn", (), {})()
    stand_in.accelerator = type("Accelerator", (), {"unwrap_model": staticmethod(lambda m: m)})()
    stand_in.settings, stand_in.new_ids, stand_in.share = replace(QUICK, kl_weight=kl_weight), ids.all, lambda _: 1.0
    return supervised.SupervisedTrainer.loss(stand_in, model, dict(batch))


def test_logits_only_where_asked_equal_the_plain_ones():
    model, _, _, rows = rows_of([record(i, "France" if i % 2 else "South Japan", bool(i % 2)) for i in range(5)])
    batch = collate(columns(rows), 0)
    assert batch["prefix_ids"].shape[1] > 10, "the prompts share their start"
    positions = functional.pad(batch["labels"][:, 1:] != -100, (0, 1))
    with torch.no_grad():
        picked = logits_at(model, batch, positions)
        plain = torch.cat(
            [
                model(torch.tensor([row.input_ids])).logits[0, [i - 1 for i, x in enumerate(row.labels) if x != -100]]
                for row in rows
            ]
        )
    assert picked.shape == (sum(x != -100 for row in rows for x in row.labels), model.config.vocab_size)
    torch.testing.assert_close(picked, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_the_loss_and_its_gradients_are_those_of_plain_cross_entropy(tied, monkeypatch):
    records = [record(i, "France" if i % 2 else "Japan", bool(i % 2)) for i in range(4)]
    model, _, ids, rows = rows_of(records, tied=tied)
    model = add_adapter(model, ids.all, QUICK)
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
    model = add_adapter(model, ids.all, QUICK)
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


@pytest.mark.parametrize(("rate", "expected"), [(None, 2e-2), (5e-3, 5e-3)])
def test_new_rows_learn_at_their_own_rate(rate, expected):
    model, _, ids, _ = rows_of(toy(4), tied=False)
    config = replace(QUICK, row_learning_rate=rate)
    groups = optimizer(add_adapter(model, ids.all, config), config).param_groups
    assert [group["lr"] for group in groups] == [2e-2, expected]
    assert [len(group["params"]) for group in groups] == [2 * 3 * 2, 2], "A, B of q, k, v in 2 layers; rows"


def test_row_order_gives_each_epoch_whole_batches_of_different_rows():
    _, _, _, rows = rows_of(toy(45))
    order = row_order(rows, epochs=3, batch_size=8, seed=1)
    assert len(order) == 3 * 40
    epochs = [order[start : start + 40] for start in (0, 40, 80)]
    assert all(len(set(epoch)) == 40 for epoch in epochs), "no row twice in an epoch"
    assert len({frozenset(epoch) for epoch in epochs}) > 1, "other rows sit out"
    assert order == row_order(rows, epochs=3, batch_size=8, seed=1)
    assert order != row_order(rows, epochs=3, batch_size=8, seed=2)


def test_batches_hold_rows_that_start_alike_and_leftovers_share_the_rest():
    _, _, _, rows = rows_of(toy(45))
    rows = [replace(row, context="ab"[i % 3 == 0]) for i, row in enumerate(rows)]
    order = row_order(rows, epochs=1, batch_size=8, seed=0)
    contexts = [{rows[i].context for i in order[at : at + 8]} for at in range(0, 40, 8)]
    # 15 and 30 rows: one whole batch and three, and one of the 7 and 6 left over
    assert sorted(len(found) for found in contexts) == [1, 1, 1, 1, 2]


def test_verdict_logits_are_the_plain_ones_whatever_the_order_and_the_batches():
    model, _, ids, rows = rows_of([record(i, "France" * (1 + i % 3), bool(i % 2)) for i in range(5)])
    z = verdict_logits(model, rows, (ids.cn, ids.un), lambda batch: collate(batch, 0), size=2)
    with torch.no_grad():
        for value, row in zip(z, rows, strict=True):
            logits = model(torch.tensor([row.input_ids[: row.answer[1]]])).logits[0, -1]
            assert value == pytest.approx((logits[ids.cn] - logits[ids.un]).item(), abs=1e-4)
