"""Settings: what differs is named with both values, and what only one side knows is taken to agree."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.settings import check_settings, different

KNOWN = {"config": {"rank": 8, "seed": 0}, "base": "m", "judge": None}


def test_what_agrees_or_is_not_known_passes() -> None:
    check_settings("runs/a", KNOWN, KNOWN)
    check_settings("runs/a", KNOWN, {"config": {"rank": 8, "kl": 0.1}, "weights": "ab"})
    check_settings("runs/a", {}, KNOWN)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"base": "n"}, "base 'm', now 'n'"),
        ({"config": {"rank": 4, "seed": 0}}, "config.rank 8, now 4"),
        ({"config": {"rank": 4, "seed": 1}}, "config.rank 8, now 4; config.seed 0, now 1"),
        ({"judge": "j"}, "judge None, now 'j'"),
        ({"config": None}, "config {'rank': 8, 'seed': 0}, now None"),
        ({"config": {"rank": 1, "seed": 1}, "base": "n", "judge": 1}, "base 'm', now 'n' and 1 more"),
    ],
)
def test_what_differs_is_named_with_both_values(wanted: dict[str, object], told: str) -> None:
    with pytest.raises(ConfideError) as error:
        check_settings("runs/a", KNOWN, wanted)
    assert str(error.value).startswith("runs/a was made with other settings (")
    assert f"{told})" in str(error.value)


def test_an_empty_mapping_is_a_value() -> None:
    assert different({"template": {}}, {"template": {"thinking": False}}) == {"template": ("{}", "{'thinking': False}")}
    assert different({"template": {"a": 1}}, {"template": {"b": 1}}) == {"template": ("{'a': 1}", "{'b': 1}")}
    assert not different({"template": {}}, {"template": {}})


def test_long_values_are_shown_where_they_part() -> None:
    text = "Which country is the city of Nagoya in, and what is its currency?"
    (shown,) = different({"prompt": text}, {"prompt": text.replace("currency", "capital")}).values()
    assert shown == ("…'t is its currency?'", "…'t is its capital?'")
    (longer,) = different({"prompt": "x" * 50}, {"prompt": "x" * 90}).values()
    assert longer[0] != longer[1]
