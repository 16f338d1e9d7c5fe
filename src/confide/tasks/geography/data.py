"""The data files of this package, typed: ``names.yaml`` and ``relations.yaml`` say what their fields are."""

from __future__ import annotations

import functools
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from confide.yaml_files import read_yaml_resource

Code = Annotated[str, Field(pattern="^[A-Z]{2}$")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Aliases = dict[str, list[str]]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlaceNames(_Entry):
    """``names.yaml``: what GeoNames lacks, and what is not asked about."""

    country_names: dict[Code, str]
    with_article: frozenset[Code]
    not_asked: frozenset[Code]
    two_continents: frozenset[Code]
    country_aliases: dict[Code, list[str]]
    no_country: Aliases
    state_aliases: Aliases
    continents: Aliases
    continent_of_code: dict[Code, str]
    zone_continents: dict[str, frozenset[Code]]
    capitals: dict[Code, list[str]]
    capital_aliases: Aliases
    no_capital_asked: frozenset[Code]
    currencies: dict[Currency, list[str]]
    no_currency_asked: frozenset[Code]
    also_currency: dict[Code, list[Currency]]
    ambiguous_currencies: Aliases


class Phrasing(_Entry):
    """A question with ``{}`` for the place, and its worked example as (place, answer)."""

    question: str = Field(pattern=r"^[^{}]*\{\}[^{}]*$")
    example: tuple[str, str]


class Relation(_Entry):
    """What is asked of a kind of place, such as the continent of a city."""

    share: float = Field(gt=0, lt=1)
    smallest_city: int = 0
    phrasings: tuple[Phrasing, ...] = Field(min_length=3, max_length=5)

    @property
    def examples(self) -> list[tuple[str, str]]:
        """The worked examples as (question, answer)."""
        return [(phrasing.question.format(phrasing.example[0]), phrasing.example[1]) for phrasing in self.phrasings]


@functools.cache
def place_names() -> PlaceNames:
    """The content of ``names.yaml``."""
    return PlaceNames.model_validate(read_yaml_resource("confide.tasks.geography", "names.yaml"))


@functools.cache
def relations() -> dict[str, Relation]:
    """The content of ``relations.yaml``: each relation by its name, such as ``city_country``."""
    data = read_yaml_resource("confide.tasks.geography", "relations.yaml")
    return TypeAdapter(dict[str, Relation]).validate_python(data)


@functools.cache
def example_entities() -> frozenset[str]:
    """The entities that the worked examples mention, such as ``city:Kyoto``: no question is about them."""
    entities = set()
    for name, relation in relations().items():
        for place, answer in (phrasing.example for phrasing in relation.phrasings):
            entities.add(f"country:{place}" if name.startswith("country") else f"city:{place}")
            if name == "country_capital":
                entities.add(f"city:{answer}")
    return frozenset(entities)
