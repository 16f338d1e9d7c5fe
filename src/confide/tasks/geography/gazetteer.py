"""The gazetteer as an expert on the task ``geography``: exact answers, and passages to answer from.

Both functions take the messages of a request, as `confide serve` hands them to a tool, and read the last user turn.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from confide.tasks.geography import names
from confide.tasks.geography.geography import _TWO_CONTINENTS, _ZONE_CONTINENTS, _City, _gazetteer
from confide.tasks.geography.phrasings import PHRASINGS
from confide.tasks.text import fold


class _Asked(NamedTuple):
    relation: str
    phrasing: str
    city: _City | None
    country: str  # ISO code


def look_up(messages: Sequence[dict[str, Any]]) -> str | None:
    """The answer to a geography question, from the gazetteer; None for what it does not understand or know.

    >>> look_up([{"role": "user", "content": "In which country is the city of Nagoya?"}])
    'Japan'
    """
    asked = _asked(messages)
    if asked is None:
        return None
    if asked.relation == "city_country":
        return _gazetteer().names[asked.country]
    if asked.relation == "us_city_state":
        return _state(asked.city)
    if asked.relation in ("city_continent", "country_continent"):
        return _continent(asked.country, asked.city)
    if asked.relation == "country_capital":
        return next(iter(_gazetteer().capitals.get(asked.country, [])), None)
    code = _gazetteer().countries[asked.country]["currencycode"]
    return code if "ISO code" in asked.phrasing else next(iter(names.CURRENCIES.get(code, [])), code) or None


def passage(messages: Sequence[dict[str, Any]]) -> str | None:
    """What the gazetteer says of the city or country asked about, in a sentence or two (None: nothing).

    >>> passage([{"role": "user", "content": "Which US state is Seattle in?"}])
    'Seattle is a city in Washington, United States, in North America.'
    """
    asked = _asked(messages)
    if asked is None:
        return None
    geo = _gazetteer()
    country, continent = geo.names[asked.country], _continent(asked.country, asked.city)
    where = f", in {continent}" if continent else ""
    if asked.city is not None:
        state = _state(asked.city)
        return f"{asked.city.name} is a city in {f'{state}, ' if state else ''}{country}{where}."
    facts = f"{country} is a country{where}."
    if capitals := geo.capitals.get(asked.country):
        facts += f" Its capital is {capitals[0]}."
    if code := geo.countries[asked.country]["currencycode"]:
        facts += f" Its currency is the {next(iter(names.CURRENCIES.get(code, [])), code)} ({code})."
    return facts


def _asked(messages: Sequence[dict[str, Any]]) -> _Asked | None:
    content = next((m.get("content") for m in reversed(messages) if m.get("role") == "user"), None)
    if isinstance(content, list):
        content = "\n".join(part.get("text") or "" for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        return None
    cities, countries = _by_name()
    for relation, phrasing, pattern in _patterns():
        if match := pattern.fullmatch(content.strip()):
            place = fold(match[1])
            if relation.startswith("country"):
                if (code := countries.get(place)) is not None:
                    return _Asked(relation, phrasing, None, code)
            elif (city := cities.get(place)) is not None:
                return _Asked(relation, phrasing, city, city.country)
    return None


@functools.cache
def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """Every phrasing as a pattern, those with the most words of their own first: "the city of X" before "X"."""
    found = [(relation, phrasing) for relation, phrasings in PHRASINGS.items() for phrasing in phrasings]
    found.sort(key=lambda pair: -len(pair[1]))
    return [
        (relation, phrasing, re.compile("(.{1,100}?)".join(map(re.escape, phrasing.split("{}"))), re.IGNORECASE))
        for relation, phrasing in found
    ]


@functools.cache
def _by_name() -> tuple[dict[str, _City], dict[str, str]]:
    """Cities (only those whose name is theirs alone) and codes of countries, by folded name."""
    geo = _gazetteer()
    countries: dict[str, str] = {}
    for code, name in geo.names.items():
        for called in (name, geo.countries[code]["name"], *names.COUNTRY_ALIASES.get(code, [])):
            countries.setdefault(fold(called), code)
    return {fold(city.name): city for city in geo.cities}, countries


def _state(city: _City | None) -> str | None:
    return _gazetteer().states.get(city.state) if city is not None and city.country == "US" else None


def _continent(country: str, city: _City | None) -> str | None:
    """The continent, unless maps differ: countries on two, and cities far from the rest of their country."""
    code = _gazetteer().countries[country]["continentcode"]
    zone = city.zone.split("/")[0] if city is not None else ""
    if country in _TWO_CONTINENTS or code not in _ZONE_CONTINENTS.get(zone, {code}) or zone in ("Atlantic", "Indian"):
        return None
    return names.CONTINENT_OF_CODE.get(code)
