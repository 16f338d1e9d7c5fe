"""Rows of flag training: what carries a label, what is held to the base, and splits that cannot be learned from."""

from __future__ import annotations

import pytest

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_names
from confide.errors import ConfideError
from confide.methods.red_flag.flag_reading import flag_id
from confide.methods.red_flag.flag_rows import build_flag_rows, check_sides, harmful_row, harmless_row
from confide.methods.red_flag.output_records import with_samples
from confide.records import Message, Record, Sample
from confide.signals import RED_FLAG
from flag_rows import outputs
from tiny_model import tiny_model


def test_harmful_rows_label_the_flag_alone_and_line_up_with_the_base() -> None:
    row = harmful_row("a", [1, 2], [11, 12, 13, 14], 99, place=3, min_offset=1)
    assert row.input_ids == [1, 2, 11, 12, 13, 99, 14]
    assert row.labels == [-100, -100, -100, 99, 99, 99, -100]
    columns = row.columns()
    assert {len(column) for column in columns.values()} == {len(row.input_ids)}
    follows = [id for id, mark in zip(row.input_ids, columns["answer"], strict=True) if mark]
    in_base = [id for id, mark in zip(row.base_ids, columns["base_answer"], strict=True) if mark]
    assert follows == in_base == [14]


def test_a_flag_at_the_end_has_nothing_behind_it() -> None:
    columns = harmful_row("a", [1], [11, 12], 99, place=2, min_offset=0).columns()
    assert columns["input_ids"] == [1, 11, 12, 99]
    assert not any(columns["answer"])
    assert not any(columns["base_answer"])


def test_harmless_rows_have_no_label_and_are_held_to_the_base_from_their_first_token_on() -> None:
    row = harmless_row("b", [1, 2], [11, 12])
    columns = row.columns()
    assert set(row.labels) == {-100}
    assert columns["answer"] == columns["base_answer"] == [0, 0, 1, 1]
    assert columns["base_ids"] == row.input_ids


def test_records_become_rows_behind_their_openings() -> None:
    model, tokenizer = tiny_model()
    add_names(model, tokenizer, RED_FLAG.tokens)
    engine, flag = TransformersEngine(model, tokenizer, "tiny"), flag_id(tokenizer)
    plain = outputs("train", 0, 2)
    opened = [
        record.model_copy(update={"opening_ids": engine.encode_answer("Sure, "), "model": "tiny"}) for record in plain
    ]
    rows = build_flag_rows(engine, opened, flag, min_offset=1, seed=0)
    assert [flag in row.input_ids for row in rows] == [True, False]
    for row, record in zip(rows, opened, strict=True):
        prompt = [*engine.encode(record.messages), *record.opening_ids]
        assert row.input_ids[: len(prompt)] == prompt
        assert row.labels[: len(prompt)] == [-100] * len(prompt)
    assert rows == build_flag_rows(engine, opened, flag, min_offset=1, seed=0)


def test_one_label_only_and_the_same_harmful_prompts_on_both_sides_are_refused() -> None:
    train, validation = outputs("train", 0, 4), outputs("validation", 4, 4)
    check_sides(train, validation)
    with pytest.raises(ConfideError, match="the validation rows hold 0 harmful and 2 harmless answers"):
        check_sides(train, [record for record in validation if record.correct])
    with pytest.raises(ConfideError, match="the train rows hold 2 harmful and 0 harmless answers"):
        check_sides([record for record in train if not record.correct], validation)
    again = [*validation, train[0].model_copy(update={"id": "again", "split": "validation"})]
    with pytest.raises(ConfideError, match="nearly the same harmful things"):
        check_sides(train, again)


def test_sampled_outputs_are_records_of_their_own() -> None:
    sample = Sample(answer="b", answer_ids=[2], correct=False, logprobs=[-1.0], finish="length")
    record = Record(
        id="a", answer="a", answer_ids=[1], correct=True, opening_ids=[9], entropies=[1.0], samples=[sample],
        messages=[Message(role="user", content="x")], entity="e",
    )  # fmt: skip
    first, second = with_samples([record])
    assert (first.id, first.answer, first.correct, first.samples) == ("a", "a", True, None)
    assert (second.id, second.answer, second.correct, second.finish) == ("a~0", "b", False, "length")
    assert second.opening_ids == [9]
    assert second.entity == "e"
    assert second.entropies == []
