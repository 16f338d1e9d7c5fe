"""Graders of the task ``geography``: the candidates of each relation with all their names."""

from __future__ import annotations

import functools
import re

from confide.tasks import graders as common
from confide.tasks.geography.data import place_names
from confide.tasks.geography.gazetteer import load_gazetteer
from confide.tasks.graders import Grade, NameGrader
from confide.tasks.questions import Question
from confide.tasks.text import NameFinder, fold

_LONG_LATIN = re.compile("[a-z ]{5,}")


@functools.cache
def graders() -> dict[str, NameGrader]:
    """One grader per relation; raises `ConfideError` where the gazetteer is not installed."""
    geo = load_gazetteer()
    iso3 = {country.iso3: country.name for country in geo.countries.values()}
    countries = NameGrader(_country_names(), iso3)
    continents = NameGrader(place_names().continents)
    states = {name: [f"State of {name}", *place_names().state_aliases.get(name, [])] for name in geo.states.values()}
    return {
        "city_country": countries,
        "city_continent": continents,
        "country_continent": continents,
        "us_city_state": NameGrader(states, geo.states),
        "country_capital": NameGrader(_capital_names()),
        "country_currency": NameGrader(_currency_names()),
    }


def grade(question: Question, answer: str) -> Grade:
    """Grade an answer against the candidates of the question's relation."""
    return graders()[question.domain].grade(question, answer)


def agrees(question: Question, a: str, b: str) -> bool:
    """Whether two answers name the same candidate of the question's relation."""
    return common.agrees(question, a, b, grade)


def _country_names() -> dict[str, list[str]]:
    names, countries = place_names(), load_gazetteer().countries.items()
    return {
        country.name: [country.listed_name, *names.country_aliases.get(code, [])] for code, country in countries
    } | names.no_country


def _capital_names() -> dict[str, list[str]]:
    """Capitals with their names in other languages, then large cities, so that a wrong city is named too."""
    geo = load_gazetteer()
    countries = NameFinder({country.name: () for country in geo.countries.values()})
    capitals = {
        name: list(place_names().capital_aliases.get(name, []))
        for country in geo.countries.values()
        for name in country.capitals
    }
    # A name belongs to the first that claims it: capitals come before cities.
    taken = {fold(name) for name in capitals} | set(map(fold, geo.large_cities))
    by_name = {fold(city.name): city for city in geo.cities}
    for name, aliases in capitals.items():
        city = by_name.get(fold(name))
        if city is not None:
            # Shorter ones, and what other scripts fold to, are too often words or other places.
            aliases += [
                other
                for other in city.other_names
                if _LONG_LATIN.fullmatch(fold(other))
                and fold(other) not in taken
                and countries.canonical(other) is None
            ]
    return capitals | {name: [] for name in geo.large_cities if name not in capitals}


def _currency_names() -> dict[str, list[str]]:
    """Codes of currencies with their names, in the singular and plural, then names that several currencies share."""
    names = place_names()
    users: dict[str, list[tuple[str, str]]] = {}
    currencies: dict[str, set[str]] = {}
    for country in load_gazetteer().countries.values():
        if country.currency:
            users.setdefault(country.currency, []).append((country.name, country.currency_name))
            currencies.setdefault(fold(country.currency_name), set()).add(country.currency)
    ambiguous = NameFinder(names.ambiguous_currencies)
    candidates: dict[str, list[str]] = {}
    for currency, used in users.items():
        aliases = list(names.currencies.get(currency, []))
        for country_name, name in used:
            # A name that one currency alone has needs no adjective: the yen, the baht.
            if len(currencies[fold(name)]) == 1 and ambiguous.canonical(name) is None:
                aliases.append(name)
            if currency not in ("EUR", "XOF", "XAF"):
                last = name.split()[-1]
                aliases += [f"{country_name} {last}", f"{last} of {country_name}"]
        plural = [alias + "s" for alias in aliases if not alias.endswith("s") and not alias.isupper()]
        candidates[currency] = aliases + plural
    return candidates | names.ambiguous_currencies
