"""What a server can give of one model, as the check of an engine found it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What a server can give of one model; None where that cannot be told, and ``notes`` says why.

    Attributes:
        base_url: the address that was asked.
        model: the model that was asked for.
        reported: what the server's answers call the model ("": they do not).
        other_model: whether that is another model.
        root: where the server lists that the weights were loaded from.
        fingerprint: what answers tell of the system behind them.
        version: the server's version.
        context: the longest sequence, in tokens.
        limit_field: the field that limits an answer: ``max_tokens`` or ``max_completion_tokens``.
        usage: whether answers tell how many tokens they took.
        streaming: whether an answer comes in pieces.
        stream_usage: whether a stream tells how many tokens it took.
        reasoning: where reasoning stands, ``apart`` from the answer or ``in the answer``; None: there was none.
        logprobs: whether the answer's tokens have log-probabilities.
        top_logprobs: how many of the likeliest tokens have them, of the 20, 5 or 1 that were asked for.
        chosen_ids: whether chosen token ids have them (``logprob_token_ids``).
        prompt_logprobs: where the prompt's tokens have them: ``chat``, ``completions`` (echo) or nowhere (``no``).
        token_ids: the ways in which the ids of an answer's tokens are told; see `told_abilities.token_ids_in`.
        several: whether one request gives several answers (``n``).
        samples: whether answers are drawn at temperature 1.
        seeded: whether the same seed gives the same answer, and another seed another one.
        learned: whether the plug-in gives a learned reading with each answer.
        vocabulary: ids that the model knows, where that came out.
        speculative: whether the server decodes speculatively, as its metrics say.
        notes: name of an ability → why it is missing or cannot be told, where there is more to say than no.
    """

    base_url: str
    model: str
    reported: str = ""
    other_model: bool | None = None
    root: str = ""
    fingerprint: str = ""
    version: str = ""
    context: int | None = None
    limit_field: str = "max_tokens"
    usage: bool = False
    streaming: bool | None = None
    stream_usage: bool | None = None
    reasoning: Literal["apart", "in the answer"] | None = None
    logprobs: bool | None = None
    top_logprobs: int = 0
    chosen_ids: bool | None = None
    prompt_logprobs: Literal["chat", "completions", "no"] | None = None
    token_ids: tuple[str, ...] | None = None
    several: bool | None = None
    samples: bool | None = None
    seeded: bool | None = None
    learned: bool | None = None
    vocabulary: int | None = None
    speculative: bool | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def capabilities(self) -> frozenset[str]:
        """What an engine on this server can give, in the words of `confide.engines.engine.CAPABILITIES`."""
        given = {
            "answers": True,
            "samples": self.samples,
            "next_tokens": self.chosen_ids or self.top_logprobs > 1,
            "given_answers": self.prompt_logprobs in ("chat", "completions"),
            "states": self.learned,
        }
        return frozenset(name for name, there in given.items() if there)
