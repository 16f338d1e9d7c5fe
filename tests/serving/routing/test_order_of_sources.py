"""The router with a policy that has an order of sources: the first one that a reply gives decides."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.policies import Policy
from confide.serving.config import ServeConfig
from confide.serving.routing.likeness import Likeness
from two_sources import ordered_policy
from upstreams import FakeAnswer, FakeModel, Running, Upstream, events, expert_server, router, small_server

ALWAYS = [{"name": "big", "tool": "callables:always"}]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return ordered_policy()


class Read(FakeAnswer):
    """An answer whose text says which confidences come with it, as ``stack=0.9 logprob_sum=-0.1``."""

    @property
    def sources(self) -> dict[str, float | None]:
        given = dict(pair.split("=") for pair in self.text.rstrip("!").split())
        return {source: float(given[source]) if source in given else None for source in ("stack", "logprob_sum")}


class Reading(FakeModel):
    def answers(self, questions: Any, *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
        found = super().answers(questions, max_new_tokens=max_new_tokens, **more)
        texts = [a.text if "=" in a.text else "stack=0.5 logprob_sum=-0.5" for a in found]  # the first one warms up
        return [Read(text, None, source="stack") for text in texts]


@contextmanager
def routed(folder: Path, policy: Policy, **settings: Any) -> Iterator[Running]:
    policy.save(folder / "p.json")
    small = {"name": "small", "model": "fake"}
    with router(folder, policy=folder / "p.json", **{"small": small, "model": Reading(), **settings}) as running:
        yield running


@pytest.mark.parametrize(
    ("given", "source", "decision"),
    [
        ("stack=0.9 logprob_sum=-9", "stack", "answer"),
        ("stack=0.01 logprob_sum=-0.001", "stack", "escalate"),
        ("logprob_sum=-0.001", "logprob_sum", "answer"),
        ("logprob_sum=-9", "logprob_sum", "escalate"),
        ("stack=nan logprob_sum=-0.001", "logprob_sum", "answer"),
        ("stack=87 logprob_sum=-0.001", "logprob_sum", "answer"),  # on another scale it counts as none
        ("stack=87 logprob_sum=3", None, "escalate"),
        ("logprob_sum=-inf", None, "escalate"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_response_and_row_say_which_source_decided(tmp_path, policy, given, source, decision, stream):
    with routed(tmp_path, policy, experts=ALWAYS) as running:
        response = running.ask(given, stream=stream)
        bodies = [one for one in events(response) if "confide" in one] if stream else [response.json()]
        told = bodies[-1]["confide"]
        (row,) = running.rows()
        metrics = running.get("/metrics").text
    assert (told["source"], told["decision"]) == (source, decision)
    part = next((one for one in policy.parts if one.source == source), policy)
    raw = float(dict(pair.split("=") for pair in given.split())[source]) if source else None
    assert (told["raw"], told["threshold"]) == (raw, part.probability(part.threshold()))
    assert told["confidence"] == part.probability(raw)
    assert (row["source"], row["raw"], row["decision"]) == (part.source, raw, decision)
    assert f'confide_sources_total{{source="{source or "none"}"}} 1.0' in metrics


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_never_gives_the_first_source(tmp_path, policy, caplog, stream):
    upstream, big = Upstream(probability=0.99), Upstream(answer="Osaka")
    with upstream.running(), big.running(), caplog.at_level(logging.WARNING, "confide.serving"):
        servers = {"small": small_server(upstream), "experts": [expert_server(big)], "model": None}
        with routed(tmp_path, policy, **servers) as running:
            running.ask(stream=stream)
            upstream.logprobs = False
            running.ask(stream=stream)
            upstream.logprobs = True
            running.ask(stream=stream)
            rows = running.rows()
    assert "never gives stack, a source of the policy" in caplog.text
    told = [(row["source"], row["raw"] is None, row["decision"], row["served"]) for row in rows]
    free = ("logprob_sum", False, "answer", "small")
    assert told == [free, ("stack", True, "escalate", "expert"), free]


def test_a_policy_none_of_whose_sources_is_given_is_refused(tmp_path, policy):
    data = json.loads(policy.to_json())
    data["fallbacks"][0] |= {"source": "p_true"}
    del data["fallbacks"][0]["scale"]
    data["fallbacks"][0]["calibrator"]["parameters"]["transform"] = "logit"
    other = Policy.model_validate(data)
    with (
        Upstream().running() as upstream,
        pytest.raises(ConfideError, match=r"decides on stack or p_true, which the small model .* does not give"),
        routed(tmp_path, other, small=small_server(upstream), model=None),
    ):
        pass


def made_for(policy: Policy, *identities: str) -> Policy:
    first, second = identities
    parts = [part.model_copy(update={"identity": second}) for part in policy.fallbacks]
    return policy.model_copy(update={"identity": first, "fallbacks": parts})


@pytest.mark.parametrize(
    ("identity", "marked"),
    [
        ("weights=aa, confidence=bb", [False, False]),
        ("weights=aa, confidence=cc", [True, False]),  # another reading of the same weights
        ("weights=dd, confidence=bb", [True, True]),
        ("weights=aa", [False, False]),
    ],
)
def test_each_part_is_held_against_the_weights_that_gave_its_confidence(tmp_path, policy, identity, marked):
    both = made_for(policy, "weights=aa, confidence=bb", "weights=aa")
    config = ServeConfig.model_validate({"small": {"name": "small", "model": "fake"}, "mode": "observe"})
    likeness = Likeness(config, both)
    assert [likeness.is_other(identity, part) for part in both.parts] == marked
    if any(marked):
        with pytest.raises(ConfideError, match=r"the policy on \S+ was made for another model"):
            likeness.check_start(identity)
    else:
        likeness.check_start(identity)
