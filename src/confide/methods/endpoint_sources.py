"""Which sources of confidence can be had of a model on a server, and what each of them costs beside the answer."""

from __future__ import annotations

from typing import NamedTuple

from confide.engines.openai.abilities import Abilities


class Offer(NamedTuple):
    """Sources that one thing gives, and what that costs."""

    sources: tuple[str, ...]
    cost: str


def offers(abilities: Abilities) -> list[Offer]:
    """The sources that a server with these abilities can give, cheapest first; of equal cost, those that know more.

    ``entropy`` is not among them: it needs the probability of every token, and servers tell some.
    """
    given = abilities.capabilities
    several = "in one request" if abilities.several else "each in a request of its own"
    found = [
        ("states" in given, Offer(("stack_served",), "free: a reading comes with each answer")),
        (abilities.logprobs, Offer(("portable",), "free: text and log-probabilities, learned on graded rows")),
        (abilities.logprobs, Offer(("logprob_sum", "logprob_mean", "logprob_min"), "free: they come with each answer")),
        (
            abilities.top_logprobs > 1,
            Offer(("option_probability",), "free, of questions with options: the letters' log-probabilities"),
        ),
        (True, Offer(("answer_only", "question_only"), "free: texts alone, learned on graded rows")),
        (True, Offer(("answer_length",), "free: the text alone")),
        ("next_tokens" in given, Offer(("p_true",), "one more request of one token")),
        ("answers" in given, Offer(("verbalized",), "one more request of about 12 tokens")),
        (
            "given_answers" in given and abilities.top_logprobs < 2,
            Offer(("option_probability",), "one more request of one token for each option"),
        ),
        ("samples" in given, Offer(("self_consistency", "semantic_entropy"), f"K samples, {several}")),
    ]
    return [offer for there, offer in found if there]
