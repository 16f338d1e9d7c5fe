"""The engine: what can be asked of a model, whoever runs it.

A method takes what it needs from an `Engine` and nothing else, so that it works wherever the model runs. An engine
that cannot give something leaves it out of its ``capabilities``; nobody finds out by a crash in the middle of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from confide.engines.directions import Shares
from confide.errors import ConfideError
from confide.progress import Progress
from confide.records import Record


@dataclass(frozen=True)
class Completion:
    """One answer as a model wrote it, or as it was given to the model.

    Attributes:
        text: the answer, without reasoning and the token that closes it.
        ids: its token ids, without the one that closes it.
        logprobs: log-probability (nats) of each of these tokens.
        entropies: entropy (nats) of the distribution that each token came from.
        end_logprob: log-probability of closing the answer there; None for an answer that was cut.
        finish: ``stop`` for an answer that was closed, ``length`` for one that was cut.
        closed_by: the token that closed it; None where that is not known.
        reasoning: what the model wrote before it answered, without its tags; None where it wrote none.
        reasoning_ids: the tokens before the answer, tags included: an answer is read behind prompt and reasoning.
        report_logit: z = z_confident − z_unconfident where the answer ends, for a model that writes its verdict.
        written: how many tokens were generated, where ``ids`` are not known.
        more: what came besides, as records keep it (tool calls, usage).
        first: text of a token → its log-probability (nats) as the first of the answer, as far as that is told.
        shares: what directions read, [rows, k], reasoning included: row 0 at the last token before the answer, row i at
            the i-th token written; the closing token is not read, nor the last one of a cut answer. None: not read.
        stopped: whether a watch ended it.
        starts: the character of ``text`` at which each token starts; empty where that is not known.
    """

    text: str
    ids: list[int]
    logprobs: list[float]
    entropies: list[float]
    end_logprob: float | None
    finish: str
    closed_by: int | None = None
    report_logit: float | None = None
    reasoning: str | None = None
    reasoning_ids: list[int] = field(default_factory=list)
    written: int | None = None
    more: dict[str, Any] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    shares: Shares | None = None
    stopped: bool = False
    starts: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """How many tokens were generated, reasoning and the closing one included."""
        if self.written is not None:
            return self.written
        return len(self.reasoning_ids) + len(self.ids) + (self.finish == "stop")


@dataclass(frozen=True)
class Sampling:
    """How many answers are sampled beside the greedy one, and how they are drawn."""

    count: int = 0
    temperature: float = 1.0
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What samples depend on."""
        drawn = {"temperature": self.temperature, "seed": self.seed} if self.count else {}
        return {"samples": self.count, **drawn}


@dataclass(frozen=True)
class Arrival:
    """What came of one prompt.

    Attributes:
        row: its place among the prompts.
        greedy: the answer; None where there is none.
        samples: the sampled answers.
        seconds: what all of them took.
        failed: why there is no answer.
    """

    row: int
    greedy: Completion | None = None
    samples: list[Completion] = field(default_factory=list)
    seconds: float = 0.0
    failed: str = ""


@dataclass(frozen=True)
class NextTokens:
    """What a model says of the token that follows each of n prompts.

    Attributes:
        logprobs: log-probability (nats) of each of k given tokens, shape [n, k].
        rival: log-probability (nats) of the likeliest other token, shape [n]; NaN where nothing came of a prompt.
    """

    logprobs: NDArray[np.float64]
    rival: NDArray[np.float64]


Gone = Callable[[int], bool]
"""Whether nobody waits for the answer to a prompt, by its place, any more."""

CAPABILITIES = ("answers", "samples", "next_tokens", "given_answers", "states", "reading", "second_request", "arrivals")
"""What an engine may be able to give, in the words in which a method says what it needs; one with ``arrivals`` is an
`ArrivingEngine`, one with ``reading`` answers with the learned reading of its states (`Record.reading`), one with
``second_request`` runs an exported reader."""


class ClosedAnswers(Protocol):
    """A batch of answers that the model has read to their end."""

    @property
    def completions(self) -> list[Completion]:
        """The answers, with log-probabilities where these were measured."""
        ...

    def states(self) -> NDArray[np.float16]:
        """Hidden states, shape [batch, layer, position, width]; see `POSITIONS` for the positions."""
        ...


POSITIONS = ("prompt_end", "answer_mean", "answer_last", "closing")
"""Where hidden states are taken: last token before the answer, mean over its tokens, last of them, closing token."""


class Engine(Protocol):
    """What can be asked of a model. Prompts and answers are token ids, so that nothing is tokenised twice."""

    name: str
    """What records say about where the answers come from."""

    chat_template_kwargs: dict[str, Any]
    """What its chat template is given besides the messages."""

    capabilities: frozenset[str]
    """Which of `CAPABILITIES` it can give."""

    @property
    def identity(self) -> str:
        """What tells the model's weights from others (see `confide.policies.identities`)."""
        ...

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows: ids go from 0 to one less."""
        ...

    @property
    def batch_size(self) -> int:
        """Prompts per batch where nobody says otherwise."""
        ...

    def encode(self, messages: Sequence[Any], chat_template_kwargs: Mapping[str, Any] | None = None) -> list[int]:
        """Token ids of a conversation, up to where the answer starts.

        Args:
            chat_template_kwargs: what the chat template is given besides the messages, such as
                ``{"enable_thinking": False}``; by default what the engine was made with.
        """
        ...

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer that exists only as text."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids."""
        ...

    def batches(
        self,
        prompts: Sequence[list[int]],
        *,
        keys: Sequence[Any] | None = None,
        size: int | None = None,
        progress: Progress | None = None,
        note: str = "",
    ) -> Iterator[list[int]]:
        """Row numbers of ``prompts`` in batches that are cheap to run, with progress after each.

        Args:
            keys: what rows are sorted by within a batch's prompts; by default the prompts' lengths.
            size: rows per batch; by default `batch_size`.
            progress: called with (rows done, all rows, ``note``) after each batch.
        """
        ...

    def tokens_read(self, prompts: Sequence[list[int]]) -> int:
        """How many tokens the model read for a batch of ``prompts`` that it was asked, without what batches share."""
        ...

    def answer(self, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Completion]:
        """The greedy answer to each prompt."""
        ...

    def sample(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        count: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[list[Completion]]:
        """``count`` sampled answers to each prompt; the same seed gives the same ones."""
        ...

    def next_tokens(
        self,
        prompts: Sequence[list[int]],
        ids: Sequence[int],
        tails: Sequence[list[int]] | None = None,
        *,
        float32: bool = False,
    ) -> NextTokens:
        """Log-probabilities of the tokens ``ids`` after each prompt (and its tail).

        Args:
            float32: compute these tokens' logits in float32, whatever the precision of the model's output layer.
        """
        ...

    def closed(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        *,
        layers: Sequence[int] = (),
        measure: bool = False,
    ) -> ClosedAnswers:
        """Read given ``answers`` as if the model had written them.

        Args:
            layers: decoder layers (1 = the first) whose states are kept.
            measure: also give the log-probabilities and entropies of the answers' tokens.
        """
        ...


class ArrivingEngine(Engine, Protocol):
    """An engine with the capability ``arrivals``: each prompt is answered by itself."""

    def arrivals(self, prompts: Sequence[list[int]], max_new_tokens: int, sampling: Sampling) -> Iterator[Arrival]:
        """The answers to all prompts with their samples, as they come, each once."""
        ...


def check_context(lengths: Mapping[str, int], context: int, room: int = 0) -> None:
    """Raise `ConfideError` with the count and ids of rows that do not fit, before anything runs.

    Args:
        lengths: id of a row → its length in tokens.
        context: what the model takes, in tokens.
        room: tokens that come on top of each row.
    """
    too_long = [name for name, length in lengths.items() if length + room > context]
    if too_long:
        shown = ", ".join(too_long[:5]) + (", …" if len(too_long) > 5 else "")
        raise ConfideError(f"{len(too_long)} rows do not fit the model's context of {context} tokens: {shown}")


def check_tokens(row: str, ids: Iterable[int], vocabulary: int) -> None:
    """Raise `ConfideError` for the first of a row's token ids that is none of a model's ``vocabulary`` tokens."""
    if (wrong := next((id for id in ids if not 0 <= id < vocabulary), None)) is not None:
        raise ConfideError(
            f"row {row}: {wrong} is no token of the model, which has {vocabulary}: its answer_ids or reasoning_ids are "
            "another model's"
        )


def prompt_and_answer(engine: Engine, record: Record) -> tuple[list[int], list[int]]:
    """Token ids of what an answer follows (prompt, opening, reasoning) and of the answer; see `written`."""
    prompt, reasoning, answer = written(engine, record)
    return prompt + reasoning, answer


def written(engine: Engine, record: Record) -> tuple[list[int], list[int], list[int]]:
    """Token ids of a record's prompt, its reasoning and its answer, as they were written if that is known.

    A forced opening belongs to the prompt: the model did not write it.

    Another model's answer is encoded from its text where its ids mean something else here. An answer without known
    reasoning that this engine did not give is read as one that was given at once.

    Raises:
        ConfideError: no messages, or ids that are no tokens of this model.
    """
    if not record.messages:
        raise ConfideError(f"row {record.id} has no messages, so there is nothing that its answer follows")
    ids, reasoning, own = list(record.answer_ids), list(record.reasoning_ids), record.model == engine.name
    opening = list(record.opening_ids)
    of_its_own = "arrivals" in engine.capabilities  # an endpoint's ids are numbers, not tokens
    if of_its_own or (not own and record.model and not _means_the_same(engine, record)):
        ids, reasoning = [], []
        opening = engine.encode_answer(str((record.model_extra or {}).get("opening", ""))) if opening else []
    check_tokens(record.id, [*ids, *reasoning, *opening], engine.vocabulary)
    if own or reasoning:
        prompt = engine.encode(record.messages, record.chat_template_kwargs)
    else:
        prompt = encode_at_once(engine, record.messages)
    return prompt + opening, reasoning, ids or engine.encode_answer(record.answer)


def encode_at_once(engine: Engine, messages: Sequence[Any]) -> list[int]:
    """Token ids of a conversation whose reply is the very next token: a model that thinks first is not let to."""
    return engine.encode(messages, {**engine.chat_template_kwargs, "enable_thinking": False})


def _means_the_same(engine: Engine, record: Record) -> bool:
    """Whether the token ids of another model's answer and reasoning are this engine's tokens, too."""
    if not all(0 <= id < engine.vocabulary for id in (*record.answer_ids, *record.reasoning_ids)):
        return False
    answer = engine.decode(record.answer_ids)
    return answer.strip() == record.answer.strip() and (record.reasoning or "") in engine.decode(record.reasoning_ids)


def first_difference(a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
    """The tokens at which two encoded words part (" Yes" and " No" may both start with a space of its own)."""
    return next((x, y) for x, y in zip(a, b, strict=False) if x != y)
