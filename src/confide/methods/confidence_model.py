"""A model that answers and says how sure it is: what all kinds of trained models have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from confide.arguments import shown, whole_number
from confide.engines.engine import Completion, Gone, encode_at_once
from confide.engines.transformers.turns import in_turn
from confide.errors import ConfideError
from confide.hashing import sha256_of_rows
from confide.methods.answer_traffic import UnseenShare
from confide.methods.portable_confidence import PortableConfidence
from confide.methods.trace import Trace
from confide.parts.answer_part import AnswerPart
from confide.policies.identities import IDENTITY_DIGITS, PORTABLE_PART, identity_parts, identity_text
from confide.records import Message
from confide.signals import CLAIM, FIELD
from confide.sources import Source
from confide.tasks.text import tokens

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.checkpoint import CheckpointInfo
    from confide.tasks import Task

Conversation = str | Sequence[Message | dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """An answer and how sure the model is of it.

    Attributes:
        text: the answer.
        confidence: P(right) in [0, 1] from ``source``; None where there is none.
        source: what the confidence comes from.
        familiarity: in [0, 1], how close answer and question, and the latest ones, are to what training saw; near 0 the
            confidence rests on the answer's own probability. None where the source does not know it.
        finish: ``stop`` for an answer that was closed, ``length`` for one that was cut.
        sources: every confidence that came with the same generation, each on its own scale (`Record.confidence`).
        ids: token ids of the answer.
        prompt_tokens: tokens of the prompt.
        completion_tokens: tokens that were written, reasoning and the closing one included.
        reasoning: what the model thought before it answered; None where it did not.
        along: signal → what it said along the answer, for signals that the model carries.
        fields: the values of its JSON, or the arguments of its tool calls, where they were asked for.
        claims: its sentences, where they were asked for.
        stopped_by: the signal that ended it before the model did; None: none.
        written: what the engine told of it; None where that is not kept.
    """

    text: str
    confidence: float | None
    source: str
    familiarity: float | None
    finish: str = "stop"
    sources: dict[str, float | None] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning: str | None = None
    along: dict[str, Trace] = field(default_factory=dict)
    stopped_by: str | None = None
    fields: list[AnswerPart] = field(default_factory=list)
    claims: list[AnswerPart] = field(default_factory=list)
    written: Completion | None = field(default=None, repr=False, compare=False)


class ConfidenceModel(ABC):
    """A model that answers and says how sure it is; make one with `confide.load`.

    It may be asked from several threads, which take turns; `answers` is faster than as many of them.

    Attributes:
        engine: what runs the model.
        info: what ``confide.json`` says of it.
        names: who its answers may be from: the base model, where the answers are its own, and the folder loaded.
    """

    frozen = False
    """Whether the answers are token for token the base model's."""

    signals: Mapping[str, object] = MappingProxyType({})
    """What it reads while it answers, by the signal's name."""

    portable: PortableConfidence | None = None
    """What tells a confidence of its answers from text and log-probabilities alone."""

    def __init__(self, engine: TransformersEngine, info: CheckpointInfo, name: str = ""):
        self.engine = engine
        self.info = info
        self.names = list(dict.fromkeys([engine.name, name or engine.name]))

    @classmethod
    def load(
        cls,
        path: str,
        info: CheckpointInfo,
        *,
        dtype: str | None = None,
        device: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Load the model of a folder or a hub name; see `confide.load`."""
        from confide.engines.transformers.transformers_engine import TransformersEngine

        given = {**info.chat_template_kwargs, **(chat_template_kwargs or {})}
        engine = TransformersEngine.load(path, dtype=dtype, device=device, chat_template_kwargs=given)
        engine.name = cls._answered_by(info, path)
        return cls(engine, info, path)

    @property
    def lock(self) -> Any:
        """What a thread holds while it uses the model: all of them may ask, and take turns."""
        return self.engine.lock

    @property
    @in_turn
    def answerers(self) -> list[str]:
        """The identities of those that its answers may be from ("": it is not known)."""
        return [self.engine.identity]

    @property
    @in_turn
    def identity(self) -> str:
        """Which weights answer, and what training left beside them (see `confide.policies.identities`)."""
        beside = self.portable.scored_by if self.portable else ""
        parts = {"confidence": self.scored_by, PORTABLE_PART: beside}
        return identity_text({**identity_parts(self.engine.identity), **parts, **self._signal_parts()})

    @cached_property
    @in_turn
    def scored_by(self) -> str:
        """A hash of what gives confidences besides the answering weights ("" for a model that was never trained)."""
        if not self.info.trained:
            return ""
        signal = self.info.confidence
        ours = [*signal.verdict_ids.values(), *signal.grade_ids]
        rows = [self.engine.input_rows(ours), self.engine.output_rows(ours)] if ours else []
        about = [self.engine.identity, signal.hashed, self.info.stack, self.info.probes]
        about += [self.info.served] if self.info.served else []  # checkpoints without one keep the hash they had
        return sha256_of_rows([*about, *(row.tolist() for row in rows), *self._trained_arrays()])[:IDENTITY_DIGITS]

    def _signal_parts(self) -> dict[str, str]:
        """A hash of what gives each signal, by its name."""
        return {}

    def _trained_arrays(self) -> list[Any]:
        """What else gives confidences, in a form that JSON can write."""
        return []

    @property
    def unseen(self) -> dict[str, UnseenShare]:
        """Of the latest answers, what training never saw; empty where no confidence asks for it."""
        return {}

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Inside it answers are no traffic of later ones: a trial's, or those to what is asked a second time."""
        with self.lock, self._traffic_closed():
            yield

    def _traffic_closed(self) -> AbstractContextManager[None]:
        """What keeps answers out of the traffic, where there is one."""
        return nullcontext()

    @classmethod
    def _answered_by(cls, info: CheckpointInfo, path: str) -> str:
        """The name that records of its answers carry: the base model's, where the answers are its own."""
        return info.base_model or path

    def named(self, source: str) -> str:
        """The source's name: one trained on shuffled labels says by which seed."""
        seed = self.info.shuffled_labels
        return source if seed is None else str(replace(Source.parse(source), shuffled=True, seed=seed))

    def answer(
        self, question: Conversation, *, max_new_tokens: int = 64, fields: bool = False, claims: bool = False
    ) -> Answer:
        """Answer one question; text and confidence come from one generation.

        Args:
            question: a question, or a whole conversation as messages with ``role`` and ``content``.
            max_new_tokens: tokens after which an answer is cut.
            fields: also how sure it is of each value of the answer's JSON, or argument of its tool calls.
            claims: also how sure it is of each sentence.

        Raises:
            ConfideError: prompt and answer do not fit the model's context, or the question is none.
        """
        return self.answers([question], max_new_tokens=max_new_tokens, fields=fields, claims=claims)[0]

    @in_turn
    def answers(
        self,
        questions: Sequence[Conversation],
        *,
        max_new_tokens: int = 64,
        gone: Gone | None = None,
        stop: Mapping[str, float] | None = None,
        fields: bool = False,
        claims: bool = False,
    ) -> list[Answer]:
        """Answer a batch of questions greedily; see `answer` for ``fields`` and ``claims``.

        Args:
            gone: whether nobody waits for the answer to a question, by its place, any more; such an answer is given up.
            stop: signal → the value under which an answer ends at once, whatever has been written of it.

        Raises:
            ConfideError: as `answer` does, or the model does not carry a signal of ``stop``.
        """
        if missing := next((name for name in stop or {} if name not in self.signals), None):
            carried = ", ".join(self.signals) or "none"
            raise ConfideError(f"the model does not carry the signal {missing} (it carries {carried})")
        if isinstance(questions, str | Mapping) or not isinstance(questions, Sequence):
            raise ConfideError(f"answers takes a list of questions, not {shown(questions)}")
        max_new_tokens = whole_number("max_new_tokens", max_new_tokens)
        conversations = [self._conversation(question) for question in questions]
        prompts = [self.engine.encode(messages) for messages in conversations]
        for prompt in prompts:
            self._check(len(prompt) + max_new_tokens)
        answers = self._answer(conversations, prompts, max_new_tokens, gone, stop or {}) if prompts else []
        return [
            replace(
                a,
                prompt_tokens=a.prompt_tokens or len(prompt),
                fields=self._parts(FIELD.name, messages, a) if fields else [],
                claims=self._parts(CLAIM.name, messages, a) if claims else [],
            )
            for a, prompt, messages in zip(answers, prompts, conversations, strict=True)
        ]

    def _parts(self, signal: str, conversation: list[Message], answer: Answer) -> list[AnswerPart]:
        """How sure it is of each part of an answer it has just given."""
        raise ConfideError(f"this model ({self.info.confidence.method}) says nothing of the parts of an answer")

    def samples(self, question: Conversation, count: int, *, max_new_tokens: int = 64, seed: int = 0) -> list[str]:
        """``count`` answers to one question, sampled at temperature 1; the same seed gives the same ones."""
        return [a.text for a in self.sampled(question, count, max_new_tokens=max_new_tokens, seed=seed)]

    @in_turn
    def sampled(
        self,
        question: Conversation,
        count: int,
        *,
        max_new_tokens: int = 64,
        seed: int = 0,
        gone: Gone | None = None,
    ) -> list[Answer]:
        """The answers of `samples`, without confidences; see `answers` for ``gone``."""
        count, seed = whole_number("count", count), whole_number("seed", seed, least=0)
        prompt, room = self._prompt(question, whole_number("max_new_tokens", max_new_tokens))
        (found,) = self.engine.sample([prompt], room, count, seed=seed, gone=gone)
        return [
            Answer(
                self._text(c), None, "", None, c.finish,
                ids=c.ids, prompt_tokens=len(prompt), completion_tokens=c.tokens, reasoning=c.reasoning,
            )
            for c in found
        ]  # fmt: skip

    def prompt_tokens(self, question: Conversation, *, max_new_tokens: int = 64) -> int:
        """How many tokens the model reads when it is asked ``question``.

        Raises:
            ConfideError: with the answer they do not fit the model's context.
        """
        return len(self._prompt(question, max_new_tokens)[0])

    def _prompt(self, question: Conversation, max_new_tokens: int) -> tuple[list[int], int]:
        """What the model reads when it is asked ``question``, and how many tokens its answer may take."""
        prompt, room = self._sampling_prompt(self._conversation(question), max_new_tokens)
        self._check(len(prompt) + room)
        return prompt, room

    @in_turn
    def confidence(self, messages: Conversation, answer: str) -> Answer:
        """Say how sure the model is of an answer that already exists.

        Args:
            answer: the answer; reasoning in front of it, in the model's tags, is read as what led to it.

        Raises:
            ConfideError: question and answer do not fit the model's context.
        """
        if not isinstance(answer, str):
            raise ConfideError(f"an answer is a text, not {shown(answer)}")
        conversation = self._conversation(messages)
        at_once, ids = encode_at_once(self.engine, conversation), self.engine.encode_answer(answer)
        (given,) = self.engine.without_reasoning([at_once], [Completion(answer, ids, [], [], None, "stop")])
        prompt = self.engine.encode(conversation) if given.reasoning_ids else at_once
        self._check(len(prompt) + len(ids))
        return self._read(conversation, prompt + given.reasoning_ids, given)

    @classmethod
    def ask_as(cls, info: CheckpointInfo, task: Task) -> Task:
        """``task`` as a model with this ``info`` is to be asked it."""
        return task

    @abstractmethod
    def _answer(
        self,
        conversations: Sequence[list[Message]],
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        gone: Gone | None,
        stop: Mapping[str, float],
    ) -> list[Answer]:
        """Answer conversations that fit the context; ``stop`` names signals that the model carries alone."""

    @abstractmethod
    def _read(self, conversation: list[Message], prompt: list[int], completion: Completion) -> Answer:
        """Read one answer that already exists."""

    def _sampling_prompt(self, conversation: list[Message], max_new_tokens: int) -> tuple[list[int], int]:
        """The prompt of a sampled answer, and how many tokens it may take."""
        return self.engine.encode(conversation), max_new_tokens

    def _text(self, completion: Completion) -> str:
        """The answer's text in a completion."""
        return completion.text

    def _conversation(self, question: Conversation) -> list[Message]:
        """Messages as they are; a bare question is put behind the training prompt whose examples are most like it.

        Confidence is learned for answers to prompts of a kind; asked bare, a small model answers otherwise.
        """
        if not isinstance(question, str):
            return _as_messages(question)
        words = set(tokens(question.lower()))

        def likeness(prompt: list[dict[str, str]]) -> float:
            asked = [set(tokens(m["content"].lower())) for m in prompt if m["role"] == "user"]
            return max((len(words & a) / len(words | a) for a in asked if words | a), default=0.0)

        leading = max(self.info.prompts, key=likeness, default=[])
        return [*map(Message.model_validate, leading), Message(role="user", content=question)]

    def as_asked(self, question: Conversation) -> list[Message]:
        """The conversation that the model reads when it is asked ``question``."""
        return self._conversation(question)

    @property
    def room(self) -> int:
        """Tokens that an answer may take beyond those it is given."""
        return 0

    def _check(self, length: int) -> None:
        if length > self.engine.context:
            raise ConfideError(f"{length} tokens do not fit the model's context of {self.engine.context}")


def _as_messages(conversation: Any) -> list[Message]:
    """The messages of a conversation; raises `ConfideError` for what is none."""
    wanted = "a question is a text or a list of messages with role and content"
    if isinstance(conversation, bytes | Mapping) or not isinstance(conversation, Sequence):
        raise ConfideError(f"{wanted}, not {shown(conversation)}")
    if not conversation:
        raise ConfideError(f"{wanted}, and this list has none")
    try:
        return [m if isinstance(m, Message) else Message.model_validate(m) for m in conversation]
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"{part}: " for part in problem["loc"])
        raise ConfideError(f"{wanted}; {where}{problem['msg']}, got {shown(problem['input'])}") from None
