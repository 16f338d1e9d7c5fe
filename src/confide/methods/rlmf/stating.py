"""Stating: the two ways in which a model states a confidence in its answers, and judges what it stated.

`Graded`: an answer is closed by one of eleven tokens, which states a confidence of 0, 0.1 … 1 in it. In a reward the
*sampled* token's value counts, so that completions with the same answer can differ; the expectation over the tokens is
for scoring only. `Tagged`: the paper's ``<sentence>…</sentence><confidence>0.73</confidence>`` (2606.32032, section 2),
for models that write such text reliably, which small ones do not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from confide.engines.engine import Completion
from confide.engines.transformers.encoding import render_chat
from confide.errors import ConfideError
from confide.hedging.statements import TAGGED_PROMPT, Reading, Statement, read_tagged, write_tagged
from confide.methods.verbalized import parse
from confide.numeric import Floats
from confide.parts.sentences import split_sentences
from confide.records import Message, Record
from confide.report_tokens import GRADES

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.tasks import Question, Task
    from confide.tasks.graders import Grade


JUDGE = (
    "How well does the confidence that you just stated match how often you would give this answer if you were asked "
    "again? Reply with a confidence only."
)
"""The self-judgement F_pred, asked in a turn of its own after the closed answer (2606.32032, section A2's query)."""
JUDGE_ROOM = 6
"""Tokens that a self-judgement in tagged text may take."""
VALUES = np.arange(GRADES) / (GRADES - 1)
UNFINISHED = -0.5
"""Soft format of a completion that is closed by a grade but says nothing before it."""


class Stating(ABC):
    """Reads and writes the confidences that a model states in its completions.

    Attributes:
        name: what checkpoints and sources call it.
        room: tokens that a statement takes beside the answer.
        engine: the model.
        query: token ids that close a completion's turn and ask for the self-judgement.
    """

    name: str
    room: int

    def __init__(self, engine: TransformersEngine, judge: str = JUDGE):
        self.engine = engine
        self.query = judge_query(engine.tokenizer, judge)

    def completion_ids(self, completion: Completion) -> list[int]:
        """Token ids of a completion, with the token that closed it."""
        return [*completion.ids, *([] if completion.closed_by is None else [completion.closed_by])]

    def messages(self, messages: Sequence[Message], own: int | None = None) -> list[Message]:
        """How a question is asked whose last ``own`` messages (by default one) are its own: as it is."""
        return list(messages)

    def prompt(self, record: Record) -> list[int]:
        """Token ids of a record's question, as it is asked.

        Raises `ConfideError` for an answer that follows reasoning: here an answer is learned right behind the prompt.
        """
        if record.reasoning_ids or any(sample.reasoning_ids for sample in record.samples or []):
            raise ConfideError(
                f"record {record.id} was answered behind reasoning, which this training cannot take: annotate with "
                """--chat-template-kwargs '{"enable_thinking": false}'"""
            )
        return self.engine.encode(self.messages(record.messages, record.own_turns), record.chat_template_kwargs)

    def answer(self, completion: Completion) -> str:
        """The text that the task's grader sees."""
        return completion.text

    def close(self, completion: Completion, confidence: float) -> Completion:
        """A completion as it is when it states ``confidence``, where its text does not say so already."""
        return completion

    @abstractmethod
    def completion(self, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
        """Token ids of a completion that states ``confidence`` in an answer; ``ids`` are the answer's, if known."""

    @abstractmethod
    def read(self, completion: Completion) -> Reading:
        """What a completion states."""

    @abstractmethod
    def state(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> Floats:
        """The confidence that counts in scoring [n], NaN where none can be read."""

    @abstractmethod
    def judge(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> Floats:
        """F_pred [n]: the model's own score of what it stated, NaN where none can be read."""


@dataclass(frozen=True)
class Grades:
    """What the graded tokens say at n positions.

    Attributes:
        expected: the expectation over the graded tokens, in [0, 1].
        mass: their total probability.
        rival: probability of the likeliest other token; above ``mass``, greedy decoding states nothing.
    """

    expected: Floats
    mass: Floats
    rival: Floats


class Graded(Stating):
    """Statements by a model that has the graded tokens; `ConfideError` for a model without them."""

    name = "graded"
    room = 1

    def __init__(self, engine: TransformersEngine):
        if not engine.grades:
            raise ConfideError("the model has no graded tokens: train it with confide train rlmf first")
        super().__init__(engine)
        self.ids = list(engine.grades)

    def completion(self, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
        """Token ids of an answer and the grade nearest to ``confidence``."""
        return [*(ids or self.engine.encode_answer(answer)), self.ids[grade_of(confidence)]]

    def close(self, completion: Completion, confidence: float) -> Completion:
        """A completion closed by the grade nearest to ``confidence``."""
        return replace(completion, closed_by=self.ids[grade_of(confidence)])

    def read(self, completion: Completion) -> Reading:
        """The one statement of a completion; strict where an answer is closed by a grade, soft as `UNFINISHED` says."""
        text = completion.text.strip()
        if completion.closed_by not in self.ids:
            return Reading((Statement(text, None),), False, -1.0)
        value = float(VALUES[self.ids.index(completion.closed_by)])
        return Reading((Statement(text, value),), bool(text), 0.0 if text else UNFINISHED)

    def state(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> Floats:
        """Expected confidence [n] in answers, NaN where one was cut or would not be closed by a grade."""
        grades = self.grades(prompts, [c.ids for c in completions])
        cut = np.array([c.finish == "length" for c in completions], dtype=np.bool_)
        return np.where((grades.mass < grades.rival) | cut, np.nan, grades.expected)

    def judge(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> Floats:
        """F_pred [n]: the expectation over the graded tokens; NaN for a completion that states nothing."""
        stated = [i for i, c in enumerate(completions) if c.closed_by in self.ids]
        scores = np.full(len(completions), np.nan)
        if stated:
            tails = [self.judge_tail(completions[i]) for i in stated]
            scores[stated] = self.grades([prompts[i] for i in stated], tails).expected
        return scores

    def judge_tail(self, completion: Completion) -> list[int]:
        """Token ids that follow a prompt to ask for the self-judgement: the completion and the query."""
        return [*self.completion_ids(completion), *self.query]

    def grades(self, prompts: Sequence[list[int]], tails: Sequence[list[int]]) -> Grades:
        """What the graded tokens say after each prompt and tail [n]."""
        expected, mass, rival = [], [], []
        for start in range(0, len(prompts), 128):
            span = slice(start, start + 128)
            following = self.engine.next_tokens(prompts[span], self.ids, tails[span], float32=True)
            probability = np.exp(following.logprobs)
            mass.append(probability.sum(1))
            expected.append(probability @ VALUES / mass[-1])
            rival.append(np.exp(following.rival))
        return Grades(np.clip(np.concatenate(expected), 0.0, 1.0), np.concatenate(mass), np.concatenate(rival))


class Tagged(Stating):
    """Statements in tagged text, one per sentence."""

    name = "tagged"
    room = 40

    def __init__(self, engine: TransformersEngine):
        super().__init__(engine, f"{JUDGE} Write a number from 0.00 to 1.00.")

    def messages(self, messages: Sequence[Message], own: int | None = None) -> list[Message]:
        """How a question is asked: the format is asked for in place of the system line and the worked examples."""
        return [Message(role="system", content=TAGGED_PROMPT), *messages[-(own or 1) :]]

    def completion(self, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
        """Token ids of an answer each of whose sentences states ``confidence``, with the token that ends the turn."""
        text = write_tagged(Statement(sentence, confidence) for sentence in split_sentences(answer) or [answer])
        return [*self.engine.encode_answer(text), self.engine.turn_end]

    def read(self, completion: Completion) -> Reading:
        """What a completion states; an unfinished one is not strict."""
        reading = read_tagged(completion.text)
        return replace(reading, strict=reading.strict and completion.finish == "stop")

    def answer(self, completion: Completion) -> str:
        """The text that the task's grader sees: the sentences without their tags, or all of it where there are none."""
        return untagged(completion.text)

    def state(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> Floats:
        """Mean stated confidence [n] of each completion, NaN where none can be read."""
        stated = [[s.confidence for s in self.read(c).statements if s.confidence is not None] for c in completions]
        return np.array([np.mean(values) if values else np.nan for values in stated], dtype=np.float64)

    def judge(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> Floats:
        """F_pred [n] as the model writes it; NaN where that is no number."""
        engine = self.engine
        queries = [[*p, *c.ids, *self.query] for p, c in zip(prompts, completions, strict=True)]
        scores = np.full(len(completions), np.nan)
        for rows in engine.batches(queries, size=64):
            for i, reply in zip(rows, engine.answer([queries[i] for i in rows], JUDGE_ROOM), strict=True):
                value = parse(reply.text, 1)
                scores[i] = np.nan if value is None else value
        return scores


def untagged(text: str) -> str:
    """The sentences of tagged text, or the text itself where it has none."""
    return " ".join(statement.text for statement in read_tagged(text).statements) or text


def tagged_task(task: Task) -> Task:
    """A task as a model that states its confidence in tagged text is asked it; its grader sees no tags."""

    def prompt(question: Question) -> list[dict[str, Any]]:
        own = len(question.messages or [question.question])
        return [{"role": "system", "content": TAGGED_PROMPT}, *task.prompt(question)[-own:]]

    def grade(question: Question, answer: str) -> Grade:
        return task.grade(question, untagged(answer))

    def agrees(question: Question, a: str, b: str) -> bool:
        return task.agrees(question, untagged(a), untagged(b))

    room = task.max_new_tokens + Tagged.room
    return replace(task, prompt=prompt, grade=grade, agrees=agrees, max_new_tokens=room)


def grade_of(confidence: float) -> int:
    """The nearest grade of a confidence in [0, 1].

    >>> grade_of(0.26), grade_of(1.0)
    (3, 10)
    """
    if not 0 <= confidence <= 1:
        raise ConfideError(f"a confidence lies in [0, 1], not {confidence}")
    return int(confidence * (GRADES - 1) + 0.5)


def judge_query(tokenizer: Any, text: str = JUDGE) -> list[int]:
    """Token ids that close an answer's turn and ask ``text``, up to where the reply starts."""
    mark = "\u2029"  # no other part of a template holds it
    turns = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": mark},
        {"role": "user", "content": text},
    ]
    rendered = render_chat(tokenizer, turns, {"enable_thinking": False})
    # The template's own markers are wanted here as tokens: nothing in this text comes from a user.
    return [int(i) for i in tokenizer(rendered.rpartition(mark)[2], add_special_tokens=False)["input_ids"]]
