"""The schedule: which tokens are due, whole and piece by piece."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.methods.along.schedule import check_schedule, due_rows, is_due, needs_text, pieces_of


def test_every_token_is_due_and_the_prompt_is_not() -> None:
    assert due_rows("tokens", 4).tolist() == [1, 2, 3, 4]
    assert due_rows("tokens", 0).tolist() == []


@pytest.mark.parametrize(("read", "due"), [(1, [1]), (6, [3, 6]), (7, [3, 6, 7])])
def test_every_third_token_and_the_last_one(read: int, due: list[int]) -> None:
    assert due_rows("every:3", read).tolist() == due


LINES = ["Step", " one", ".", "\n", "\n", "3", ".", "14", " is", " it", ".", " So", " be", " it"]


def test_lines_end_at_the_last_of_their_line_ends() -> None:
    assert due_rows("lines", len(LINES), LINES).tolist() == [5, 14]


def test_sentences_end_at_full_stops_that_end_a_word_and_at_lines() -> None:
    assert due_rows("sentences", len(LINES), LINES).tolist() == [5, 11, 14]


def test_a_cut_answer_is_due_at_the_last_token_that_was_read() -> None:
    assert due_rows("lines", 8, LINES).tolist() == [5, 8]


def test_a_token_without_text_of_its_own_is_passed_over() -> None:
    pieces = ["a", "\n", "", "b", ""]
    assert due_rows("lines", 5, pieces).tolist() == [2, 5]


def test_a_quote_after_the_full_stop_belongs_to_the_sentence() -> None:
    assert is_due("sentences", 1, 'Peru."', " It")
    assert not is_due("sentences", 1, "Peru,", " it")


@pytest.mark.parametrize("schedule", ["", "token", "every:0", "every:-1", "every:", "every:two", "lines "])
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ConfideError, match="a schedule is tokens, sentences, lines or every:N"):
        check_schedule(schedule)


def test_which_schedules_need_the_text() -> None:
    assert [needs_text(check_schedule(s)) for s in ("tokens", "every:8", "sentences", "lines")] == [
        False, False, True, True,
    ]  # fmt: skip


def test_pieces_are_the_text_between_the_starts() -> None:
    assert pieces_of("Lima, Peru", [0, 4, 5, 5]) == ["Lima", ",", "", " Peru"]
