"""Questions of the task ``geography``: cities, countries, capitals, currencies, continents.

Six relations, each in several phrasings. Left out: cities whose name another city shares, questions that give
their answer away (Mexico City, the capital of Singapore, Indianapolis), cities named like a candidate of the
relation (Wyoming in Michigan), territories, and what the worked examples of the prompt mention.
"""

from __future__ import annotations

import functools
import math
import random
import zlib
from typing import NamedTuple

from confide.errors import ConfideError
from confide.tasks.geography.data import example_entities, place_names, relations
from confide.tasks.geography.gazetteer import City, load_gazetteer
from confide.tasks.geography.place_graders import agrees, grade, graders
from confide.tasks.questions import Question
from confide.tasks.task import SYSTEM, Task, chat
from confide.tasks.text import fold

MAX_NEW_TOKENS = 20
MOST_CITY_COUNTRY = 0.7
"""The largest share of ``city_country``. What a relation cannot supply goes to the others in proportion."""


class _Place(NamedTuple):
    """A city or country that a relation is asked of; ``shown`` is its name as the sentence has it ("the Gambia")."""

    key: str
    entity: str
    name: str
    shown: str
    answers: list[str]


def prompt(question: Question) -> list[dict[str, str]]:
    """The messages that ask ``question``: a system line, its relation's worked examples, the question.

    Which example comes last changes from question to question (by the question's own id): a small model that
    does not know repeats the last one, and a fixed one would make that one answer a sure sign of an error. The
    prompts of a relation have only as many starts as examples, so each start is computed once.
    """
    pairs = relations()[question.domain].examples
    first = zlib.crc32(question.id.encode()) % len(pairs)
    return chat(SYSTEM["short"], pairs[first:] + pairs[:first], question.question)


def geography_task(limit: int | None = None, seed: int = 0) -> Task:
    """Draw questions in random order; a limit keeps the relations' mix and favours populous cities.

    The same seed with a smaller limit draws from the front of the same order within each relation.

    Args:
        limit: how many questions (None: all, as far as ``city_country`` keeps to its largest share).
        seed: decides which are drawn.

    Raises:
        ConfideError: there are not so many, or the gazetteer is not installed.
    """
    draw = random.Random(f"geography-{seed}")
    pools = {relation: _pool(relation, draw) for relation in relations()}
    counts = _counts({relation: len(pool) for relation, pool in pools.items()}, limit)
    chosen = [(relation, pair) for relation, pool in pools.items() for pair in pool[: counts[relation]]]
    draw.shuffle(chosen)
    questions = [_question(relation, *pair) for relation, pair in chosen]
    return Task("geography", questions, grade, agrees, prompt, MAX_NEW_TOKENS)


def _counts(available: dict[str, int], limit: int | None) -> dict[str, int]:
    """How many questions of each relation: the shares, and the rest where there are any."""
    shares = {name: relation.share for name, relation in relations().items()}
    others = sum(available.values()) - available["city_country"]
    most = int(others * MOST_CITY_COUNTRY / (1 - MOST_CITY_COUNTRY))
    most_in_all = others + min(available["city_country"], most)
    limit = most_in_all if limit is None else limit
    if limit < 1 or limit > most_in_all:
        raise ConfideError(f"geography has 1 to {most_in_all} questions, not {limit}")
    counts = dict.fromkeys(shares, 0)
    while (missing := limit - sum(counts.values())) > 0:
        cap = {**available, "city_country": min(available["city_country"], int(limit * MOST_CITY_COUNTRY))}
        open_ = [name for name in shares if counts[name] < cap[name]]
        total = sum(shares[name] for name in open_)
        for name in open_:
            # At least one per round, the largest shares first, so that the loop ends.
            more = max(1, int(missing * shares[name] / total))
            more = min(more, cap[name] - counts[name], limit - sum(counts.values()))
            counts[name] += more
    return counts


def _pool(relation: str, draw: random.Random) -> list[tuple[_Place, int]]:
    """Every question of a relation as place and number of the phrasing, in the order in which they are drawn."""
    places, phrasings = _places(relation), len(relations()[relation].phrasings)
    if relation.startswith("country"):
        pairs = [(place, phrasing) for place in places.values() for phrasing in range(phrasings)]
        draw.shuffle(pairs)
        return pairs
    keyed = []
    for city in load_gazetteer().cities:
        # Drawn for every city, asked about or not, so that one city's rules do not move the others' phrasings.
        phrasing = draw.randrange(phrasings)
        if (place := places.get(city.key)) is not None:
            # Weighted sampling without replacement (Efraimidis and Spirakis, in logarithms): favours cities that
            # a small model may know and still leaves many that it does not.
            keyed.append((math.log(1 - draw.random()) / city.population, (place, phrasing)))
    keyed.sort(key=lambda pair: -pair[0])
    return [pair for _, pair in keyed]


@functools.cache
def _places(relation: str) -> dict[str, _Place]:
    """What a relation is asked of, by GeoNames' key."""
    geo, names = load_gazetteer(), place_names()
    countries, candidates = graders()["city_country"].finder, graders()[relation].finder
    places = []
    if relation.startswith("country"):
        for code, country in geo.countries.items():
            answers, hints = _answers_and_hints(relation, code)
            if answers and code not in names.not_asked and not candidates.canonical(country.name):
                shown = f"the {country.name}" if code in names.with_article else country.name
                places.append((_Place(country.key, f"country:{country.name}", country.name, shown, answers), hints))
    else:
        for city in geo.cities:
            if city.population < relations()[relation].smallest_city or city.country in names.not_asked:
                continue
            answers, hints = _answers_and_hints(relation, city.country, city)
            if answers and not candidates.find(city.name)[0] and not countries.canonical(city.name):
                places.append((_Place(city.key, f"city:{city.name}", city.name, city.name, answers), hints))
    return {
        place.key: place
        for place, hints in places
        if place.entity not in example_entities() and not _gives_away(place.name, hints)
    }


def _gives_away(name: str, hints: list[str]) -> bool:
    """Whether a place's name holds a hint: a short one as a whole word, since "UK" is in many names; a longer one
    anywhere, as Indiana in Indianapolis."""
    folded = fold(name)
    return any((hint in folded if len(hint) > 3 else f" {hint} " in f" {folded} ") for hint in map(fold, hints))


def _answers_and_hints(relation: str, code: str, city: City | None = None) -> tuple[list[str], list[str]]:
    """Accepted answers, and what would give them away; no answers where the relation is not asked of this place."""
    geo, names = load_gazetteer(), place_names()
    country, answers = geo.countries[code], geo.answers(relation, code, city)
    if relation == "city_country":
        return answers, [*answers, *names.country_aliases.get(code, [])]
    if relation == "country_capital":
        # "Mexico City", "Brasília": the question says nearly all of the answer.
        given = any(fold(country.name) in fold(capital) for capital in answers)
        return ([] if code in names.no_capital_asked or given else answers), answers
    if relation == "country_currency":
        answers = [] if code in names.no_currency_asked else [*answers, *names.also_currency.get(code, [])]
        return answers, [country.currency_name, country.currency]
    if relation == "us_city_state" or not answers:
        return answers, answers
    # Maps differ on East Timor; the time zone of the west of New Guinea is Asian.
    differ = code == "TL" if city is None else city.zone == "Asia/Jayapura"
    return ([] if differ else answers), [*answers, *names.continents[answers[0]]]


def _question(relation: str, place: _Place, phrasing: int) -> Question:
    text = relations()[relation].phrasings[phrasing].question.format(place.shown)
    return Question.model_validate(
        {
            "id": f"geo-{relation}-{place.key}-{phrasing}",
            "kind": "short",
            "question": text[0].upper() + text[1:],
            "answer": place.answers,
            "domain": relation,
            "entity": place.entity,
            "asked": place.name,
        }
    )
