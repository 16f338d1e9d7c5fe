"""How the task ``geography`` puts its questions: phrasings, system line and worked examples of each relation."""

from __future__ import annotations

PHRASINGS = {
    "city_country": (
        "In which country is the city of {}?",
        "Which country is {} in?",
        "{} is a city in which country?",
        "What country does the city of {} belong to?",
        "Name the country where the city {} is found.",
    ),
    "us_city_state": (
        "In which US state is the city of {}?",
        "Which US state is {} in?",
        "{} is a city in which state of the US?",
        "Name the US state where the city {} is found.",
    ),
    "city_continent": (
        "On which continent is the city of {}?",
        "Which continent is {} on?",
        "{} is a city on which continent?",
        "Name the continent where the city {} is found.",
    ),
    "country_capital": (
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital city of {}.",
        "The government of {} sits in which capital?",
    ),
    "country_currency": (
        "What is the full name of the currency of {}?",
        "Which currency is used in {}? Give its full name.",
        "What is the ISO code of the currency of {}?",
        "Name in full the official currency of {}.",
    ),
    "country_continent": (
        "On which continent is {}?",
        "Which continent does {} belong to?",
        "Name the continent of {}.",
    ),
}

SYSTEM = "Answer with the name only."
# A worked example for every phrasing of the question's relation: fewer leave a small model rambling (with two
# examples for all relations 18 % of 640 answers were cut). The start of every prompt of a relation is the
# same, and is computed once. Nothing in the examples is asked about.
EXAMPLES = {
    "city_country": (
        ("In which country is the city of Kyoto?", "Japan"),
        ("Which country is Toulouse in?", "France"),
        ("Sohag is a city in which country?", "Egypt"),
        ("What country does the city of Recife belong to?", "Brazil"),
        ("Name the country where the city Gdynia is found.", "Poland"),
    ),
    "us_city_state": (
        ("In which US state is the city of Boulder?", "Colorado"),
        ("Which US state is Tampa in?", "Florida"),
        ("Tulsa is a city in which state of the US?", "Oklahoma"),
        ("Name the US state where the city Eugene is found.", "Oregon"),
    ),
    "city_continent": (
        ("On which continent is the city of Arequipa?", "South America"),
        ("Which continent is Kyoto on?", "Asia"),
        ("Sohag is a city on which continent?", "Africa"),
        ("Name the continent where the city Gdynia is found.", "Europe"),
    ),
    "country_capital": (
        ("What is the capital of Norway?", "Oslo"),
        ("Which city is the capital of Peru?", "Lima"),
        ("Name the capital city of Kenya.", "Nairobi"),
        ("The government of Thailand sits in which capital?", "Bangkok"),
    ),
    "country_currency": (
        ("What is the full name of the currency of Norway?", "Norwegian krone"),
        ("Which currency is used in Thailand? Give its full name.", "Thai baht"),
        ("What is the ISO code of the currency of Kenya?", "KES"),
        ("Name in full the official currency of Peru.", "Peruvian sol"),
    ),
    "country_continent": (
        ("On which continent is Norway?", "Europe"),
        ("Which continent does Peru belong to?", "South America"),
        ("Name the continent of Kenya.", "Africa"),
    ),
}
IN_EXAMPLES = frozenset(
    [
        f"city:{name}"
        for name in (
            "Kyoto",
            "Toulouse",
            "Sohag",
            "Recife",
            "Gdynia",
            "Boulder",
            "Tampa",
            "Tulsa",
            "Eugene",
            "Arequipa",
            "Oslo",
            "Lima",
            "Nairobi",
            "Bangkok",
        )
    ]
    + [f"country:{name}" for name in ("Norway", "Peru", "Kenya", "Thailand")]
)
MAX_NEW_TOKENS = 20
