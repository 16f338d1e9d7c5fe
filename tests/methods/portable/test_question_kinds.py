"""Kinds of question: how is asked, whatever it is asked about."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.question_kinds import CLUSTERS, UNKNOWN, QuestionKinds
from graded_rows import KINDS, graded

ODD = ["", "  \n", "?!", "Wer kennt Qazimodo?", "这座城市属于哪个国家？", "👍"]


def asked(n: int, seed: int) -> tuple[list[str], list[str], list[int]]:
    """Questions of the made-up world, their answers, and how each is asked."""
    records = graded(n, seed)
    heads = [template.split("{}")[0] for template in KINDS]
    numbers = [next(i for i, head in enumerate(heads) if r.question.startswith(head)) for r in records]
    return [r.question for r in records], [r.answer for r in records], numbers


@pytest.fixture(scope="module")
def kinds() -> QuestionKinds:
    texts, answers, _ = asked(300, 0)
    return QuestionKinds.fit(texts, answers)


def test_the_kinds_of_a_world_of_templates_are_found_whatever_the_entity(kinds: QuestionKinds) -> None:
    strange = [template.format(name) for template in KINDS for name in ("Qazimodo", "東京", "X", "Old New Qaz")]
    fresh, _, numbers = asked(90, 1)
    for texts, how in ((fresh, numbers), (strange, [i for i in range(3) for _ in range(4)])):
        found = kinds.predict(texts)
        pairs = set(zip(found.tolist(), how, strict=True))
        assert UNKNOWN not in found
        assert len(pairs) == len({kind for kind, _ in pairs}) == len({number for _, number in pairs}) == 3


def test_what_is_given_the_same_answers_is_one_kind_however_it_is_asked() -> None:
    ways = ("Name the country of {}!", "{} belongs to which state?", "Where on the globe would one find {}?")
    texts = [ways[i // 100].format(f"place{i}") for i in range(300)]
    names, others = [f"land{i % 3}" for i in range(300)], [f"land{i % 3 + 3 * (i // 100)}" for i in range(300)]
    one = QuestionKinds.fit(texts, names)
    assert len(one.centres) > 1
    assert len(set(one.predict(texts).tolist())) == 1
    several = QuestionKinds.fit(texts, others)
    assert len(set(several.predict(texts).tolist())) == 3


@pytest.mark.parametrize("text", ODD)
def test_a_question_without_common_words_is_unknown(kinds: QuestionKinds, text: str) -> None:
    found = kinds.predict([text])
    assert found.tolist() == [UNKNOWN]


def test_words_that_few_questions_share_make_no_kind() -> None:
    texts, answers, _ = asked(300, 0)
    for count, known in ((4, False), (40, True)):
        more = [f"Quelle est la capitale de ville{i}?" for i in range(count)]
        kinds = QuestionKinds.fit(texts + more, answers + ["Norvonia"] * count)
        assert (UNKNOWN not in kinds.predict(more)) == known


def test_there_are_no_more_clusters_than_that() -> None:
    texts = [f"one{head} two{head} of place{i}?" for head in range(20) for i in range(20)]
    kinds = QuestionKinds.fit(texts, [f"answer {i // 20}" for i in range(400)])
    assert len(kinds.centres) == CLUSTERS < 20
    assert len(set(kinds.predict(texts).tolist())) <= CLUSTERS


def test_phrasings_leave_open_what_is_asked_about(kinds: QuestionKinds) -> None:
    country, continent, _ = KINDS
    same = ["Camran", "Qazimodo", "Old New Qaz", "東京", "X-Y"]
    phrasings = kinds.phrasings([country.format(name) for name in same])
    assert len(set(phrasings)) == 1
    assert kinds.phrasings([f"  {country.format('Camran').upper()} "]) == phrasings[:1]
    others = [continent.format("Camran"), "Of which country is the city of Camran in?", "In which country?", *ODD]
    assert phrasings[0] not in kinds.phrasings(others)
    assert len(set(kinds.phrasings(others[:3]))) == 3
    assert kinds.phrasings([]) == []


@pytest.mark.parametrize("texts", [["", "", ""], ["alpha", "beta", "gamma"], ["?"]])
def test_questions_that_share_nothing_have_no_kind(texts: list[str]) -> None:
    kinds = QuestionKinds.fit(texts, ["a"] * len(texts))
    again = QuestionKinds.from_json(json.loads(json.dumps(kinds.to_json())))
    for one in (kinds, again):
        found = one.predict([*texts, "alpha"])
        assert found.tolist() == [UNKNOWN] * (len(texts) + 1)
        assert len(set(one.phrasings(texts))) == len({bool(text.strip("?")) for text in texts})


def test_no_question_has_no_kind(kinds: QuestionKinds) -> None:
    assert kinds.predict([]).shape == (0,)


def test_the_file_gives_the_same_kinds_without_a_word(kinds: QuestionKinds) -> None:
    text = json.dumps(kinds.to_json())
    assert not any(word in text for word in ("which", "country", "continent", "city", "people"))
    again = QuestionKinds.from_json(json.loads(text))
    for name, part in vars(kinds).items():
        assert np.array_equal(vars(again)[name], part)
    texts = [*asked(50, 3)[0], *ODD]
    assert again.predict(texts).tolist() == kinds.predict(texts).tolist()
    assert again.phrasings(texts) == kinds.phrasings(texts)


def test_a_seed_gives_the_same_kinds_and_company_changes_none(kinds: QuestionKinds) -> None:
    texts, answers, _ = asked(300, 0)
    assert QuestionKinds.fit(texts, answers).to_json() == kinds.to_json()
    some = [*asked(50, 4)[0], *ODD]
    assert [int(kinds.predict([text])[0]) for text in some] == kinds.predict(some).tolist()


def test_of_a_long_question_the_end_counts() -> None:
    records = graded(300, 0)
    found = QuestionKinds.fit([record.question for record in records], [record.answer for record in records])
    asked = records[0].question
    long = "What do people pay with in Fal? " * 1000 + asked + " " * 10 + asked * 60
    assert found.predict([long]) == found.predict([asked * 60])
    assert found.phrasings(["x" * 10**6 + asked * 80]) == found.phrasings([(asked * 80)[-2000:]])
