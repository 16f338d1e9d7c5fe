"""What is seen of a request, what calibration rows leave of it, and how often a request like them is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from confide.policies.requests import (
    LEAST_ROWS,
    MARKED,
    Requests,
    most_alone,
    request_of,
    request_of_record,
    request_options,
    requests_of,
    unlike,
)
from confide.records import Record, RequestShape

Rng = np.random.Generator


def ask(text: str = "Which city is it?", *, system: str | None = None, before: int = 0, **options: Any) -> RequestShape:
    messages = [{"role": "system", "content": system}] if system else []
    for number in range(before):
        messages.append({"role": "assistant" if number % 2 else "user", "content": "earlier words"})
    limit = options.pop("max_tokens", 0)
    return request_of([*messages, {"role": "user", "content": text}], options, limit)


def rows(requests: list[RequestShape]) -> list[Record]:
    return [Record(id=f"{n}", request_shape=request) for n, request in enumerate(requests)]


def plain_rows(n: int = 300, **options: Any) -> Requests:
    rng = np.random.default_rng(0)
    found = requests_of(rows([ask(words(rng), **options) for _ in range(n)]))
    assert found is not None
    return found


def words(rng: Rng, mean: float = 3.0) -> str:
    return "word " * (2 + int(rng.lognormal(mean, 0.5)))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, []),
        ({"temperature": 1.0}, []),  # what it is when it is left out
        ({"seed": 5, "user": "u", "metadata": {"a": "b"}, "n": 1, "top_p": 1, "presence_penalty": 0.0}, []),
        ({"tools": [], "tool_choice": "auto", "stop": [], "logit_bias": {}, "response_format": {"type": "text"}}, []),
        ({"echo": False, "best_of": 1, "min_p": 0.0, "suffix": None}, []),
        ({"temperature": 0}, ["temperature"]),
        ({"temperature": 0, "top_p": 0.5, "top_k": 5}, ["temperature"]),  # nothing is drawn: they change nothing
        ({"temperature": 1.7}, ["temperature"]),
        ({"top_p": 0.5}, ["top_p"]),
        ({"stop": "\n"}, ["stop"]),
        ({"stop": ["a", "b"]}, ["stop"]),
        ({"n": 3}, ["n"]),
        ({"presence_penalty": 1.5}, ["penalties"]),
        ({"frequency_penalty": -0.5}, ["penalties"]),
        ({"repetition_penalty": 1.3}, ["penalties"]),
        ({"logit_bias": {"5": -100}}, ["logit_bias"]),
        ({"tools": [{"type": "function"}]}, ["tools"]),
        ({"functions": [{"name": "f"}]}, ["tools"]),
        ({"response_format": {"type": "json_object"}}, ["response_format"]),
        ({"guided_json": {"type": "object"}}, ["response_format"]),
        ({"reasoning_effort": "high"}, ["options"]),
        ({"top_k": 3, "min_p": 0.1}, ["options"]),
        ({"made_up": True}, ["options"]),
        ({"system": "Answer in French."}, ["system"]),
        ({"before": 2}, ["turns"]),
        ({"text": "word " * 2000}, ["length"]),
        ({"text": "x"}, ["length"]),
        ({"temperature": 0.2, "system": "Be brief.", "before": 4}, ["temperature", "system", "turns"]),
    ],
)
def test_what_a_request_is_unlike_in(changes: dict[str, Any], what: list[str]) -> None:
    text = "".join(["Which city is the capital of it and why is it so? " * 2])
    assert unlike(plain_rows(), ask(**{"text": text, **changes})) == what


def test_content_other_than_text_is_unlike() -> None:
    text = "Which city is the capital of it and why is it so?"
    image = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert unlike(plain_rows(), request_of([{"role": "user", "content": image}], {}, 0)) == ["content"]
    parts = [{"type": "text", "text": text}]
    assert unlike(plain_rows(), request_of([{"role": "user", "content": parts}], {}, 0)) == []
    called = [{"role": "user", "content": text}, {"role": "assistant", "content": None, "tool_calls": [{}]},
              {"role": "tool", "content": "5"}]  # fmt: skip
    assert "content" in unlike(plain_rows(), request_of(called, {}, 0))


def test_options_that_the_rows_had_are_like_them_and_their_absence_is_not() -> None:
    seen = plain_rows(temperature=0.3, tools=[{"type": "function", "function": {"name": "f"}}])
    text = "Which city is the capital of it and why is it so?"
    tools = [{"function": {"name": "f"}, "type": "function"}]
    assert unlike(seen, ask(text, temperature=0.3, tools=tools)) == []
    assert unlike(seen, ask(text)) == ["tools", "temperature"]
    assert unlike(seen, ask(text, temperature=0.3, tools=[{"other": 1}])) == ["tools"]


def test_an_option_of_many_values_is_compared_by_its_presence() -> None:
    rng = np.random.default_rng(1)
    seen = requests_of(rows([ask(words(rng), stop=f"{n}") for n in range(300)]))
    assert seen is not None
    assert seen.options is not None
    assert seen.options["stop"] == ["*"]
    text = "Which city is the capital of it and why is it so?"
    assert unlike(seen, ask(text, stop="new")) == []
    assert unlike(seen, ask(text)) == ["stop"]


def test_the_limit_of_an_answer() -> None:
    seen = plain_rows(max_tokens=24)
    text = "Which city is the capital of it and why is it so?"
    assert unlike(seen, ask(text, max_tokens=24), tokens=24) == []
    assert unlike(seen, ask(text, max_tokens=500), tokens=20) == []  # the same answer as under the rows' limit
    assert unlike(seen, ask(text), tokens=30) == ["max_tokens"]  # there it would have been cut
    assert unlike(seen, ask(text, max_tokens=5), tokens=4) == ["max_tokens"]


def test_a_domain_that_no_row_had() -> None:
    records = [Record(id=f"{n}", domain="ab"[n % 2], request_shape=ask()) for n in range(100)]
    seen = requests_of(records)
    assert unlike(seen, ask(), "a") == unlike(seen, ask(), None) == []
    assert unlike(seen, ask(), "law") == ["domain"]
    assert unlike(plain_rows(), ask("Which city is the capital of it?"), "law") == []  # the rows name none


@pytest.mark.parametrize(
    "seen",
    [None, requests_of([Record(id=f"{n}", messages=[{"role": "user", "content": "Which city?"}]) for n in range(50)])],
)
def test_where_options_are_not_known_only_what_is_never_plain_is_marked(seen: Requests | None) -> None:
    assert unlike(seen, ask(temperature=1.9, stop="x", top_p=0.1, frequency_penalty=2)) == []
    assert unlike(seen, ask(tools=[{"a": 1}], response_format={"type": "json_object"}, logit_bias={"1": 1}, n=2)) == [
        "tools", "response_format", "logit_bias", "n",
    ]  # fmt: skip
    image = request_of([{"role": "user", "content": [{"type": "image_url"}]}], {}, 0)
    assert "content" in unlike(seen, image)


def test_what_a_record_says_comes_before_what_its_messages_show() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "four"}]
    record = Record(id="1", messages=messages, request_shape=RequestShape(options={"temperature": "0"}, max_tokens=9))
    found = request_of_record(record)
    assert (found.turns, found.length, found.options, found.max_tokens) == (1, 5, {"temperature": "0"}, 9)
    assert request_of_record(Record(id="1", messages=messages)).options is None
    assert request_of_record(Record.model_validate_json(record.line())) == found
    assert requests_of([Record(id=f"{n}") for n in range(100)]) is None
    assert requests_of(rows([ask()] * 20)) is None  # too few


def test_no_text_is_kept() -> None:
    request = ask(
        "secret question", system="secret prompt", stop="secret stop", guided_json={"a": "secret"}, odd_secret=1
    )
    assert "secret" not in request.model_dump_json()
    assert set(request_options({"odd_secret": 1})) == {"options"}
    assert request_options({"temperature": -0.0}) == request_options({"temperature": 0}) == {"temperature": "0"}


# -- one request in a hundred at most ------------------------------------------------------------------------------


def chat(rng: Rng) -> RequestShape:
    """An application: two system prompts, one rare, conversations of several turns, options now and then."""
    options: dict[str, Any] = {}
    if rng.random() < 0.3:
        options["temperature"] = float(rng.choice([0.0, 0.2, 0.7]))
    if rng.random() < 0.01:
        options["stop"] = "\n"
    if rng.random() < 0.5:
        options["max_tokens"] = int(rng.choice([16, 64, 256]))
    system = "Be brief." if rng.random() < 0.98 else "Be kind."
    return ask(words(rng), system=system, before=2 * int(rng.geometric(0.5) - 1), **options)


def varied(rng: Rng) -> RequestShape:
    """Everything of its own: a system prompt with the time in it, free temperatures, tails in every number."""
    return ask(
        words(rng, rng.normal(4, 1)), system=f"It is {rng.random()}", before=2 * int(rng.pareto(1.2)),
        temperature=round(float(rng.uniform(0, 1)), int(rng.integers(1, 4))), user_tag=int(rng.zipf(1.6)),
    )  # fmt: skip


def rare(rng: Rng) -> RequestShape:
    """The worst case for a seen value: each feature has one that a row in n has."""
    p = 1 / 300
    return ask(
        words(rng), system="rare" if rng.random() < p else "usual", before=2 * int(rng.random() < p),
        **{name: 0.5 for name in ("temperature", "top_p", "presence_penalty") if rng.random() < p},
    )  # fmt: skip


def plain(rng: Rng) -> RequestShape:
    return ask(words(rng), temperature=0)


@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize("draw", [plain, chat, varied, rare])
def test_of_requests_like_the_rows_at_most_one_in_a_hundred_is_marked(
    draw: Callable[[Rng], RequestShape], n: int
) -> None:
    rng = np.random.default_rng(n)
    marked = asked = 0
    for _ in range(15):
        seen = requests_of(rows([draw(rng) for _ in range(n)]))
        fresh = [draw(rng) for _ in range(250)]
        marked += sum(bool(unlike(seen, request)) for request in fresh)
        asked += len(fresh)
    assert marked <= 0.01 * asked


def test_at_most_one_in_a_hundred_from_199_rows_on_whatever_the_distribution() -> None:
    """(k + 1) / (n + 1) for values that none of the rows had, and 1 / (n + 1) for a lower max_tokens."""
    bounds = {n: (most_alone(n) + 2) / (n + 1) for n in range(LEAST_ROWS, 5000)}
    assert all(bound <= MARKED + 1e-12 for n, bound in bounds.items() if n >= 199)
    assert all(bound == 2 / (n + 1) > MARKED for n, bound in bounds.items() if n < 199)
    assert [most_alone(n) for n in (199, 266, 300, 1000, 4999)] == [0, 0, 1, 6, 36]


@pytest.mark.parametrize("n", [199, 266, 399])
def test_the_worst_case_of_all_features_at_once(n: int) -> None:
    rng = np.random.default_rng(n)

    def worst() -> RequestShape:
        options = {"temperature": "0.5"} if rng.random() < (most_alone(n) + 1) / (n + 1) else {}
        return RequestShape(system="", turns=1, max_tokens=int(rng.integers(1, 10**9)), options=options)

    marked = 0
    for _ in range(150):
        seen = requests_of(rows([worst() for _ in range(n)]))
        marked += sum(bool(unlike(seen, worst())) for _ in range(200))
    assert marked <= 0.0105 * 150 * 200
