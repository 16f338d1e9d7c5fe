"""Kinds of question: how is asked, whatever it is asked about."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.question_kinds import COUNT, UNKNOWN, QuestionKinds
from graded_rows import KINDS, graded


def questions(n: int, seed: int) -> tuple[list[str], list[int]]:
    """Questions of the made-up world, and how each is asked."""
    texts = [record.question for record in graded(n, seed)]
    heads = [asked.split("{}")[0] for asked in KINDS]
    return texts, [next(i for i, head in enumerate(heads) if text.startswith(head)) for text in texts]


@pytest.fixture(scope="module")
def kinds() -> QuestionKinds:
    return QuestionKinds.fit(questions(300, 0)[0])


def test_the_kinds_of_a_world_of_templates_are_found_whatever_the_entity(kinds: QuestionKinds) -> None:
    for texts, asked in (
        questions(90, 1),
        (
            [template.format(name) for template in KINDS for name in ("Qazimodo", "東京", "X")],
            [0] * 3 + [1] * 3 + [2] * 3,
        ),
    ):
        found = kinds.predict(texts)
        assert UNKNOWN not in found
        pairs = {(kind, number) for kind, number in zip(found.tolist(), asked, strict=True)}
        # An entity that many training questions name may split a kind; none is ever two.
        assert len({kind for kind, _ in pairs}) == len(pairs)
        assert {number for _, number in pairs} == {0, 1, 2}


def test_a_kind_has_its_column(kinds: QuestionKinds) -> None:
    found = kinds.predict(questions(20, 2)[0])
    columns = kinds.one_hot(found)
    assert columns.shape == (20, len(kinds.centres))
    assert columns.sum(1).tolist() == [1.0] * 20
    assert columns.argmax(1).tolist() == found.tolist()


@pytest.mark.parametrize("text", ["", "  \n", "?!", "Wer kennt Qazimodo?", "这座城市属于哪个国家？", "👍"])
def test_a_question_without_common_words_is_unknown(kinds: QuestionKinds, text: str) -> None:
    found = kinds.predict([text])
    assert found.tolist() == [UNKNOWN]
    assert not kinds.one_hot(found).any()


def test_words_that_few_questions_share_make_no_kind() -> None:
    texts = questions(300, 0)[0]
    rare = [f"Quelle est la capitale de {i}?" for i in range(4)]
    assert QuestionKinds.fit(texts + rare).predict(rare).tolist() == [UNKNOWN] * 4
    often = [f"Quelle est la capitale de {i}?" for i in range(40)]
    assert UNKNOWN not in QuestionKinds.fit(texts + often).predict(often)


def test_there_are_no_more_kinds_than_that() -> None:
    heads = ["Who", "What colour", "How old", "When", "Why", "Whose dog", "Which river", "How tall", "Whence", "Where"]
    texts = [f"{head} was place{i} of {head}?" for head in heads for i in range(20)]
    kinds = QuestionKinds.fit(texts)
    assert len(kinds.centres) == COUNT < len(heads)
    assert len(set(kinds.predict(texts).tolist())) == COUNT


@pytest.mark.parametrize("texts", [["", "", ""], ["alpha", "beta", "gamma"], ["?"]])
def test_questions_that_share_nothing_have_no_kind(texts: list[str]) -> None:
    kinds = QuestionKinds.fit(texts)
    assert kinds.predict([*texts, "alpha"]).tolist() == [UNKNOWN] * (len(texts) + 1)
    again = QuestionKinds.from_json(json.loads(json.dumps(kinds.to_json())))
    assert again.predict(texts).tolist() == [UNKNOWN] * len(texts)
    assert kinds.one_hot(kinds.predict(texts)).shape == again.one_hot(again.predict(texts)).shape


def test_no_question_has_no_kind(kinds: QuestionKinds) -> None:
    assert kinds.predict([]).shape == (0,)
    assert kinds.one_hot(kinds.predict([])).shape == (0, len(kinds.centres))


def test_the_file_holds_numbers_and_gives_the_same_kinds(kinds: QuestionKinds) -> None:
    text = json.dumps(kinds.to_json())
    assert not set("abcdfghijklmnopqtuvwxyz") & set(
        text.replace("words", "").replace("rarity", "").replace("centres", "")
    )
    again = QuestionKinds.from_json(json.loads(text))
    assert all(np.array_equal(vars(again)[name], array) for name, array in vars(kinds).items())
    texts = questions(50, 3)[0]
    assert again.predict(texts).tolist() == kinds.predict(texts).tolist()


def test_a_seed_gives_the_same_kinds_and_company_changes_none(kinds: QuestionKinds) -> None:
    again = QuestionKinds.fit(questions(300, 0)[0])
    assert np.array_equal(again.centres, kinds.centres)
    texts = [*questions(50, 4)[0], ""]
    assert [int(kinds.predict([text])[0]) for text in texts] == kinds.predict(texts).tolist()
