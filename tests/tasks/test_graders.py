from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.tasks.geography import geography
from confide.tasks.graders import Grade, NameGrader, answer_number, grader_for, parse_number
from confide.tasks.questions import Question
from confide.tasks.text import fold


def make(kind: str, answer: object, **more: object) -> Question:
    return Question.model_validate({"id": "q", "kind": kind, "question": "?", "answer": answer, **more})


def place(relation: str, right: str | list[str], asked: str = "Springfield") -> Question:
    answer = [right] if isinstance(right, str) else right
    return make("short", answer, domain=relation, asked=asked)


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


_NAMES = {"Niger": [], "Nigeria": [], "Guinea": [], "Equatorial Guinea": [], "India": ["Bharat"]}


@given(
    st.sampled_from(sorted(_NAMES)),
    st.sampled_from(sorted(_NAMES)),
    st.sampled_from(["", "It is ", "(", "«"]),
    st.sampled_from([" or ", ", ", " – not "]),
)
def test_the_first_named_counts(first: str, second: str, before: str, between: str) -> None:
    grader = NameGrader(_NAMES)
    question = make("short", [second])
    grade = grader.grade(question, f"{before}{first}{between}{second}")
    assert grade == Grade(first == second, first)


@given(st.text(max_size=60), st.sampled_from(["choice", "short", "number", "prompt"]))
def test_any_text_can_be_graded(text: str, kind: str) -> None:
    answers = {"choice": 1, "short": ["Lima", "Ciudad"], "number": "12", "prompt": None}
    question = make(kind, answers[kind], choices=["x", "Lima"] if kind == "choice" else None)
    grader = grader_for(question)
    grade = grader.grade(question, text)
    assert grade.answered is not None or not grade.correct
    assert grader.agrees(question, text, text)
    assert (grade.correct is None) == (kind == "prompt")


@given(st.text(max_size=60))
def test_fold_is_stable_and_ignores_case(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=40), st.text(max_size=40))
def test_agreement_is_symmetric(a: str, b: str) -> None:
    question = place("city_country", "Peru")
    assert geography.agrees(question, a, b) == geography.agrees(question, b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Saint-Étienne", "ST. ETIENNE"),
        ("J. R. R. Tolkien", "J.R.R. Tolkien"),
        ("The Beatles", "beatles"),
        ("Łódź", "Lodz"),
        ("1,000", "1000"),
        ("ＡＢＣ", "abc"),
        ("rock & roll", "Rock and Roll"),
    ],
)
def test_fold_same(a: str, b: str) -> None:
    assert fold(a) == fold(b)


@pytest.mark.parametrize(("a", "b"), [("vitamin A", "vitamin"), ("-5", "5"), ("3.5", "35"), ("Mali", "Malia")])
def test_fold_differs(a: str, b: str) -> None:
    assert fold(a) != fold(b)


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("Michio Sugeno", True),
        ("It was michio sugeno.", True),
        ("Sugeno", False),
        ("Michio", False),
        ("Somebody else. Then Michio Sugeno", False),
        ("Someone\nMichio Sugeno", False),
        ("", False),
        ("M. Sugeno", True),
        ("MICHIO-SUGENO", True),
        ("Michio Sugenos", False),
    ],
)
def test_short(answer: str, correct: bool) -> None:
    question = make("short", ["Michio Sugeno", "M Sugeno"])
    grade = grader_for(question).grade(question, answer)
    assert grade.correct is correct
    if correct:
        assert grade.answered == "michio sugeno"


def test_short_own_entity_and_no_answer() -> None:
    question = make("short", ["Paris"], entity="film:Paris Nights")
    grader = grader_for(question)
    assert grader.grade(question, "Paris Nights").correct is False
    assert grader.grade(question, "Paris").correct is True
    assert grader.grade(question, "I don't know.") == Grade(False, None)
    assert grader_for(make("short", [])).grade(make("short", []), "Paris") == Grade(None, "paris")


_CHOICES = ["dry palms", "wet palms", "palms covered with oil", "oil"]


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B)", "B"),
        ("B) wet palms", "B"),
        ("**B**", "B"),
        ("The answer is B", "B"),
        ("The answer is (B).", "B"),
        ("Answer: B", "B"),
        ("option B", "B"),
        ("wet palms", "B"),
        ("Wet palms.", "B"),
        ("B wet palms", "B"),
        ("palms covered with oil", "C"),
        ("It is oil", "D"),
        ("wet palms, not dry palms", "B"),
        ("B\nbecause A is dry", "B"),
        ("B) dry palms", "B"),
        ("I think (C) is right", "C"),
        ("A dog", None),
        ("Z", None),
        ("", None),
        ("palms", None),
        ("The answer is a mystery", None),
        ("The correct answer is dry palms (A)", "A"),
    ],
)
def test_choice(answer: str, letter: str | None) -> None:
    question = make("choice", 1, choices=_CHOICES)
    assert grader_for(question).grade(question, answer) == Grade(letter == "B", letter)


def test_choice_texts_that_fold_alike() -> None:
    question = make("choice", 1, choices=["x + 1", "x - 1", "-2", "2"])
    grader = grader_for(question)
    assert grader.grade(question, "x - 1").answered == "B"
    assert grader.grade(question, "2").answered == "D"
    assert grader.grade(question, "-2").answered == "C"
    assert grader.grade(question, "it is x - 1").answered is None
    same = make("choice", 1, choices=["four", "four", "five"])
    assert grader_for(same).grade(same, "four").correct is True


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", "18"),
        ("1,000", "1000"),
        ("$18", "18"),
        ("18.0", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−5", "-5"),
        ("25%", "25"),
        ("= 18", "18"),
        ("3/4", "3/4"),
        ("1 1/2", "3/2"),
        ("1½", "3/2"),
        (".5", "1/2"),
        ("6/8", "3/4"),
        ("16 - 3 - 4 = 9 eggs", "9"),
        ("9 * 2 = $18 a day", "18"),
        ("18 dollars, 2 a day", "18"),
        ("10 -4", "10"),
        ("2 million", "2000000"),
        ("1.5e3", "1500"),
        ("She has 3.\nThen 4 more.\nSo 7 in all", "7"),
        ("First 3 and 4\n#### 7\nas said", "7"),
        ("The answer is 7, not 9.", "7"),
        (r"so \boxed{12}", "12"),
        ("1,234,567.5", "2469135/2"),
        ("no number", None),
        ("", None),
        ("3/0", None),
        ("18.", "18"),
    ],
)
def test_numbers(answer: str, value: str | None) -> None:
    assert answer_number(answer) == (None if value is None else Fraction(value))


@given(st.integers(-(10**12), 10**12))
def test_written_integers_are_read_back(value: int) -> None:
    question = make("number", str(value))
    for text in (str(value), f"{value:,}", f"{value}.00", f"The answer is {value}."):
        assert grader_for(question).grade(question, text) == Grade(True, str(value))


@given(st.text(alphabet="0123456789.,/-−$%eE =#½\n", max_size=40))
def test_number_soup(text: str) -> None:
    parse_number(text)
    question = make("number", "3")
    grader_for(question).grade(question, text)


def test_huge_numbers_are_harmless() -> None:
    question = make("number", "3")
    assert grader_for(question).grade(question, "9" * 10_000).correct is False
    assert grader_for(question).grade(question, "1e999999999").correct is False


def test_choice_letters_against_texts() -> None:
    question = make("choice", 0, choices=["answer", "A", "c", "B"])
    grader = grader_for(question)
    assert grader.grade(question, "The answer is A").answered == "A"
    assert grader.grade(question, "A").answered == "A"
    assert grader.grade(question, "c").answered == "C"


def test_short_signs() -> None:
    question = make("short", ["+", "plus"])
    assert grader_for(question).grade(question, "+") == Grade(True, "+")
    assert grader_for(question).grade(question, "plus") == Grade(True, "+")
    assert grader_for(question).grade(question, "-") == Grade(False, None)
