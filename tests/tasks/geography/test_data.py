"""The data files: whole, and refused where a name or a phrasing is not what it should be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from confide.tasks.geography.data import Phrasing, PlaceNames, example_entities, place_names, relations


def test_every_relation_has_worked_examples() -> None:
    assert relations()["city_country"].examples[0] == ("In which country is the city of Kyoto?", "Japan")
    assert {"city:Kyoto", "city:Oslo", "country:Norway"} <= example_entities()
    assert sum(relation.share for relation in relations().values()) == pytest.approx(1)


def test_the_code_of_norway_is_a_text() -> None:
    assert place_names().country_aliases["NO"] == ["Norge", "Noreg"]
    unquoted = place_names().model_dump() | {"country_aliases": {False: ["Norge"]}}
    with pytest.raises(ValidationError, match="country_aliases"):
        PlaceNames.model_validate(unquoted)


@pytest.mark.parametrize("question", ["Where is it?", "Is {} in {}?"])
def test_a_phrasing_names_one_place(question: str) -> None:
    with pytest.raises(ValidationError, match="question"):
        Phrasing(question=question, example=("Kyoto", "Japan"))
