from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.tasks import geography
from confide.tasks.graders import Grade
from confide.tasks.questions import Question


def place(relation: str, right: str | list[str], asked: str = "Springfield") -> Question:
    answer = [right] if isinstance(right, str) else right
    return Question.model_validate(
        {"id": "q", "kind": "short", "question": "?", "answer": answer, "domain": relation, "asked": asked}
    )


def country(right: str, answer: str, asked: str = "Lagos") -> Grade:
    return geography.grade(place("city_country", right, asked), answer)


@pytest.mark.parametrize(
    ("right", "answer"),
    [
        ("India", "India"),
        ("India", "india."),
        ("India", "**India**"),
        ("India", "It is in India, Asia"),
        ("United States", "USA"),
        ("United States", "the U.S."),
        ("United States", "U.S.A."),
        ("United States", "The United States of America"),
        ("United States", "America"),
        ("United States", "US"),
        ("United Kingdom", "UK"),
        ("United Kingdom", "England"),
        ("United Kingdom", "Great Britain"),
        ("United Kingdom", "Northern Ireland"),
        ("Germany", "Deutschland"),
        ("Spain", "España"),
        ("Japan", "日本"),
        ("Ivory Coast", "Côte d'Ivoire"),
        ("Ivory Coast", "Cote d’Ivoire"),
        ("Czechia", "the Czech Republic"),
        ("Myanmar", "Burma"),
        ("Eswatini", "Swaziland"),
        ("Netherlands", "Holland"),
        ("Netherlands", "The Netherlands"),
        ("United Arab Emirates", "UAE"),
        ("Democratic Republic of the Congo", "DRC"),
        ("Democratic Republic of the Congo", "DR Congo"),
        ("Republic of the Congo", "Republic of Congo"),
        ("Republic of the Congo", "Congo-Brazzaville"),
        ("North Macedonia", "Macedonia"),
        ("Turkey", "Türkiye"),
        ("South Korea", "Republic of Korea"),
        ("Cabo Verde", "Cape Verde"),
        ("Vatican City", "the Holy See"),
        ("Palestine", "State of Palestine"),
        ("Germany", "DEU"),
        ("Guinea-Bissau", "Guinea Bissau"),
        ("Papua New Guinea", "Papua-New Guinea"),
        ("Saint Lucia", "St. Lucia"),
        ("São Tomé and Príncipe", "Sao Tome & Principe"),
        ("Dominican Republic", "the Dominican Republic"),
        ("India", "Lagos, India"),
        ("India", "India's"),
    ],
)
def test_country_right(right: str, answer: str) -> None:
    assert country(right, answer) == Grade(True, right)


@pytest.mark.parametrize(
    ("right", "answer", "named"),
    [
        ("India", "Indian", None),
        ("India", "Indiana", None),
        ("India", "", None),
        ("India", "I do not know", None),
        ("Niger", "Nigeria", "Nigeria"),
        ("Nigeria", "Niger", "Niger"),
        ("Guinea", "Guinea-Bissau", "Guinea-Bissau"),
        ("Guinea", "Papua New Guinea", "Papua New Guinea"),
        ("Guinea", "Equatorial Guinea", "Equatorial Guinea"),
        ("Dominica", "Dominican Republic", "Dominican Republic"),
        ("Dominican Republic", "Dominica", "Dominica"),
        ("Republic of the Congo", "Democratic Republic of the Congo", "Democratic Republic of the Congo"),
        ("Democratic Republic of the Congo", "Republic of the Congo", "Republic of the Congo"),
        ("Republic of the Congo", "Congo", "Congo"),
        ("South Korea", "Korea", "Korea"),
        ("South Korea", "North Korea", "North Korea"),
        ("Sudan", "South Sudan", "South Sudan"),
        ("Mexico", "New Mexico", "New Mexico"),
        ("India", "Pakistan, India", "Pakistan"),
        ("India", "Pakistan or India or Nepal", "Pakistan"),
        ("United States", "tell us", None),
        ("Canada", "you can", None),
        ("Canada", "CAN or USA", "United States"),
        ("Romania", "Roman", None),
        ("Ireland", "Northern Ireland", "United Kingdom"),
        ("United States", "United", None),
    ],
)
def test_country_wrong(right: str, answer: str, named: str | None) -> None:
    assert country(right, answer) == Grade(False, named)


def test_own_entity_is_removed_first() -> None:
    assert country("India", "Niger Falls", asked="Niger Falls") == Grade(False, None)
    assert country("India", "Niger Falls is in India", asked="Niger Falls") == Grade(True, "India")
    # A candidate that is longer than the entity is not cut to pieces by the removal.
    capital = place("country_capital", "Mexico City", asked="Mexico")
    assert geography.grade(capital, "Mexico City").correct is True
    assert geography.grade(capital, "Mexico: Guadalajara") == Grade(False, "Guadalajara")
    # The entity that is a candidate itself stays.
    assert geography.grade(place("country_capital", "Singapore", asked="Singapore"), "Singapore").correct is True


def test_states() -> None:
    def state(right: str, answer: str, asked: str = "Austin") -> Grade:
        return geography.grade(place("us_city_state", right, asked), answer)

    assert state("Texas", "Austin, TX").correct is True
    assert state("Texas", "Texas, USA").correct is True
    assert state("Virginia", "West Virginia") == Grade(False, "West Virginia")
    assert state("Kansas", "Arkansas") == Grade(False, "Arkansas")
    assert state("Oregon", "yes or no") == Grade(False, None)
    assert state("Washington", "Washington, D.C.") == Grade(False, "District of Columbia")


def test_continents() -> None:
    def continent(right: str, answer: str) -> Grade:
        return geography.grade(place("country_continent", right, "Chad"), answer)

    assert continent("Africa", "Chad is in Africa.").correct is True
    assert continent("Africa", "South Africa").correct is False
    assert continent("North America", "America").correct is False
    assert continent("North America", "Central America").correct is True
    assert continent("Asia", "Southeast Asia").correct is True
    assert continent("Oceania", "Australia") == Grade(True, "Oceania")
    assert continent("Asia", "Eurasia") == Grade(False, "Eurasia")


@pytest.mark.parametrize(
    ("asked", "right", "answer", "grade"),
    [
        ("India", "INR", "Indian rupee", Grade(True, "INR")),
        ("India", "INR", "INR", Grade(True, "INR")),
        ("India", "INR", "Indian Rupee (INR)", Grade(True, "INR")),
        ("India", "INR", "rupee", Grade(False, "rupee")),
        ("India", "INR", "Pakistani rupee", Grade(False, "PKR")),
        ("India", "INR", "the India rupee", Grade(True, "INR")),
        ("Japan", "JPY", "Yen", Grade(True, "JPY")),
        ("Japan", "JPY", "Japanese yen", Grade(True, "JPY")),
        ("France", "EUR", "euros", Grade(True, "EUR")),
        ("Canada", "CAD", "Dollar", Grade(False, "dollar")),
        ("Canada", "CAD", "Canadian dollars", Grade(True, "CAD")),
        ("Canada", "CAD", "US dollar", Grade(False, "USD")),
        ("China", "CNY", "Renminbi", Grade(True, "CNY")),
        ("Senegal", "XOF", "CFA franc", Grade(False, "CFA franc")),
        ("Senegal", "XOF", "West African CFA franc", Grade(True, "XOF")),
        ("Albania", "ALL", "all", Grade(False, None)),
        ("United Kingdom", "GBP", "Pound sterling", Grade(True, "GBP")),
        ("Turkey", "TRY", "Lira", Grade(True, "TRY")),
    ],
)
def test_currencies(asked: str, right: str, answer: str, grade: Grade) -> None:
    assert geography.grade(place("country_currency", right, asked), answer) == grade


def test_geography_agrees() -> None:
    question = place("city_country", "United States", asked="Lagos")
    assert geography.agrees(question, "USA", "The United States of America.")
    assert geography.agrees(question, "I know not", "i know not.")
    assert not geography.agrees(question, "I know not", "Who knows")
    assert not geography.agrees(question, "I know not", "USA")
    assert not geography.agrees(question, "Niger", "Nigeria")


@given(st.text(max_size=40), st.text(max_size=40))
def test_agreement_is_symmetric(a: str, b: str) -> None:
    question = place("city_country", "Peru")
    assert geography.agrees(question, a, b) == geography.agrees(question, b, a)
