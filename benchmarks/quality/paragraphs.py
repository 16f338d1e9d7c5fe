"""Paragraphs about cities, and their sentences as records of their own, each graded by the gazetteer.

The bundled model is asked for a short paragraph and shown three; it then writes four sentences: the country, the
continent, the country's capital, its currency. A sentence makes one claim, told by its words, and is right where the
first name in it that could answer that claim is the right one of the city that was asked about: the capital of a wrong
country is wrong. A claim without such a name is wrong; a sentence that makes no claim is not graded.
"""

from __future__ import annotations

import functools
import zlib

from confide.engines.engine import Engine
from confide.engines.token_starts import starts_of_ids
from confide.parts.part_records import part_records
from confide.parts.sentences import sentence_parts, split_sentences
from confide.records import Record
from confide.tasks import Task, load_task
from confide.tasks.geography import graders
from confide.tasks.geography.gazetteer import City, load_gazetteer
from confide.tasks.graders import Grade
from confide.tasks.questions import Question
from confide.tasks.task import chat
from confide.tasks.text import tokens

SYSTEM = "Write one short paragraph about the city."
ASKED = "Write about the city of {}."
WRITTEN = "{} is a city in {}. It is on the continent of {}. The capital of the country is {}. Its currency is the {}."
EXAMPLES = (
    ("Kyoto", "Japan", "Asia", "Tokyo", "Japanese yen"),
    ("Recife", "Brazil", "South America", "Brasília", "Brazilian real"),
    ("Gdynia", "Poland", "Europe", "Warsaw", "Polish zloty"),
)
"""Nothing is asked about them: geography's worked examples name them too."""

COUNTRY = "city_country"
CLAIMS = {
    "capital": "country_capital",
    "currency": "country_currency",
    "continent": "city_continent",
    "country": COUNTRY,
    "city": COUNTRY,
}
"""A word of a sentence, and the relation that it makes a claim about; the first of these that is there counts."""

MAX_NEW_TOKENS = 80
GEOGRAPHY = 12000
"""Questions of geography from whose cities these are taken."""


def paragraphs_task(cities: int) -> Task:
    """A paragraph about each of some cities that the task geography asks about."""
    asked = (q for q in load_task("geography", limit=GEOGRAPHY, seed=0).questions if q.domain == "city_country")
    names = list(dict.fromkeys(question.asked for question in asked))[:cities]
    questions = [
        Question.model_validate(
            {
                "id": f"paragraph-{city_of(name).key}",
                "kind": "short",
                "question": ASKED.format(name),
                "answer": [load_gazetteer().countries[city_of(name).country].name],
                "domain": "paragraph",
                "entity": f"city:{name}",
                "asked": name,
            }
        )
        for name in names
    ]
    return Task("paragraphs", questions, grade_paragraph, prompt=prompt, max_new_tokens=MAX_NEW_TOKENS)


def prompt(question: Question) -> list[dict[str, str]]:
    """The messages that ask for a paragraph; which example comes last changes by the question's id."""
    first = zlib.crc32(question.id.encode()) % len(EXAMPLES)
    shown = [(ASKED.format(name), WRITTEN.format(name, *rest)) for name, *rest in EXAMPLES]
    return chat(SYSTEM, shown[first:] + shown[:first], question.question)


@functools.cache
def cities() -> dict[str, City]:
    """Cities by name."""
    return {city.name: city for city in load_gazetteer().cities}


def city_of(name: str) -> City:
    """The city of that name."""
    return cities()[name]


def claim(sentence: str) -> str | None:
    """The relation that a sentence claims something about."""
    words = {word.casefold() for word in tokens(sentence)}
    return next((relation for word, relation in CLAIMS.items() if word in words), None)


def grade_sentence(name: str, sentence: str) -> tuple[str | None, Grade]:
    """The claim of a sentence about a city, and its grade.

    Not graded: what makes no claim, what is said of the city and names no country ("a city in South America"), and
    where maps differ on the answer.
    """
    relation, city = claim(sentence), city_of(name)
    if relation is None:
        return None, Grade(None, None)
    accepted = load_gazetteer().answers(relation, city.country, city)
    about = {"id": name, "kind": "short", "question": sentence, "answer": accepted, "domain": relation, "asked": name}
    grade = graders()[relation].grade(Question.model_validate(about), sentence)
    return relation, Grade(None, None) if relation == COUNTRY and grade.answered is None else grade


def grade_paragraph(question: Question, answer: str) -> Grade:
    """Right where every sentence that can be graded is; ``answered`` is the country that its sentence names."""
    told = [grade_sentence(question.asked, sentence) for sentence in split_sentences(answer)]
    graded = [grade.correct for _, grade in told if grade.correct is not None]
    named = (grade.answered for relation, grade in told if relation == COUNTRY and grade.answered)
    return Grade(all(graded) if graded else None, next(named, None))


def sentence_records(engine: Engine, paragraph: Record) -> list[Record]:
    """The sentences of a paragraph that can be graded, each as an answer that follows what was written before it.

    The tokens before a sentence take the place of its reasoning, so every source reads the sentence alone, in its
    place: its log-probabilities, and states as for an answer, in a second pass that closes the turn after it.
    """
    name = str(paragraph.entity).removeprefix("city:")
    ids = paragraph.answer_ids
    starts = starts_of_ids(ids, engine.decode)
    told = paragraph.model_copy(update={"answer": engine.decode(ids), "token_starts": starts, "end_logprob": 0.0})
    found = []
    for number, part in enumerate(part_records(told, sentence_parts(told.answer))):
        relation, grade = grade_sentence(name, part.answer)
        if grade.correct is not None:
            update = {
                "id": f"{paragraph.id}-{number}",
                "part": "",  # the sentence says itself what it is about
                "domain": relation,
                "end_logprob": 0.0,
                "correct": grade.correct,
                "answered": grade.answered,
            }
            found.append(part.model_copy(update=update))
    return found


def named_places(text: str) -> set[str]:
    """Countries and capitals (and other large cities) that a text names."""
    return {name for relation in (COUNTRY, "country_capital") for name in graders()[relation].finder.find(text)[0]}


def places_of(country: str) -> set[str]:
    """A country's name and its capitals."""
    capitals = (place.capitals for place in load_gazetteer().countries.values() if place.name == country)
    return {country, *(name for some in capitals for name in some)}
