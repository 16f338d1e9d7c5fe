"""Which sources a server's abilities allow, in which order, and that there are methods of these names."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from confide.engines.openai.abilities import Abilities
from confide.methods.catalogue import all_sources
from confide.methods.endpoint_sources import offers


def named(**given: Any) -> list[str]:
    return [source for offer in offers(Abilities(base_url="u", model="m", **given)) for source in offer.sources]


TEXT = ["answer_only", "question_only", "answer_length"]


def test_a_server_that_only_answers_leaves_the_texts_and_what_is_asked() -> None:
    assert named() == [*TEXT, "verbalized"]
    assert named(logprobs=None, chosen_ids=None, learned=None) == named()


def test_each_ability_adds_its_sources_cheapest_first() -> None:
    free = ["portable", "logprob_sum", "logprob_mean", "logprob_min"]
    assert named(logprobs=True) == [*free, *TEXT, "verbalized"]
    assert named(logprobs=True, top_logprobs=1) == [*free, *TEXT, "verbalized"]
    assert named(logprobs=True, top_logprobs=5) == [*free, "option_probability", *TEXT, "p_true", "verbalized"]
    assert named(logprobs=True, chosen_ids=True) == [*free, *TEXT, "p_true", "verbalized"]
    assert named(samples=True) == [*TEXT, "verbalized", "self_consistency", "semantic_entropy"]
    assert named(prompt_logprobs="completions") == [*TEXT, "verbalized", "option_probability"]
    assert named(prompt_logprobs="no") == named()
    assert named(logprobs=True, learned=True)[:2] == ["stack_served", "portable"]
    assert named(learned=True)[0] == "stack_served"


def test_samples_in_one_request_are_cheaper_than_in_many() -> None:
    for several, words in ((True, "in one request"), (False, "each in a request"), (None, "each in a request")):
        offer = offers(Abilities(base_url="u", model="m", samples=True, several=several))[-1]
        assert words in offer.cost


@pytest.mark.parametrize("top", [0, 1, 20])
def test_every_source_has_a_method_and_is_offered_once(top: int) -> None:
    for given in product((True, False, None), repeat=5):
        values = dict(zip(("logprobs", "chosen_ids", "samples", "learned", "several"), given, strict=True))
        for prompt in ("chat", "no", None):
            sources = named(**values, top_logprobs=top, prompt_logprobs=prompt)
            assert len(sources) == len(set(sources))
            assert set(sources) <= {*all_sources()}
