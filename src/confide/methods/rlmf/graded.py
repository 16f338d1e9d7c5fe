"""Graded statements: an answer is closed by one of eleven tokens, which states a confidence of 0, 0.1 … 1 in it.

The default way to state a number (after RLMF's tagged text, 2606.32032, section 2, which small models write badly). In
a reward the *sampled* token's value counts, so that completions with the same answer can differ; the expectation over
the tokens is for scoring only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.hedging.statements import Reading, Statement
from confide.records import Message
from confide.signals import GRADES

JUDGE = (
    "How well does the confidence that you just stated match how often you would give this answer if you were asked "
    "again? Reply with a confidence only."
)
"""The self-judgement F_pred, asked in a turn of its own after the closed answer (2606.32032, section A2's query)."""

VALUES = np.arange(GRADES) / (GRADES - 1)
UNFINISHED = -0.5
"""Soft format of a completion that is closed by a grade but says nothing before it."""


def grade_of(confidence: float) -> int:
    """The nearest grade of a confidence in [0, 1].

    >>> grade_of(0.26), grade_of(1.0)
    (3, 10)
    """
    if not 0 <= confidence <= 1:
        raise ConfideError(f"a confidence lies in [0, 1], not {confidence}")
    return int(confidence * (GRADES - 1) + 0.5)


@dataclass(frozen=True)
class Grades:
    """What is said at a position: the expectation over the graded tokens [n] in [0, 1], and their total mass [n].

    ``rival`` [n] is the probability of the likeliest other token: above ``mass``, greedy decoding states nothing.
    """

    expected: NDArray[np.float64]
    mass: NDArray[np.float64]
    rival: NDArray[np.float64]


class Graded:
    """Reads and writes graded statements with a model that has the tokens.

    Raises `ConfideError` for a model without them.
    """

    name = "graded"
    room = 1
    """Tokens that a statement takes beside the answer."""

    def __init__(self, engine: TransformersEngine):
        if not engine.grades:
            raise ConfideError("the model has no graded tokens: train it with confide train rlmf first")
        self.engine = engine
        self.ids = list(engine.grades)
        self.query = judge_query(engine.tokenizer)

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """How a question is asked: as it is."""
        return list(messages)

    def completion(self, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
        """Token ids of an answer (as written: ``ids``) that states ``confidence``."""
        return [*(ids or self.engine.encode_answer(answer)), self.ids[grade_of(confidence)]]

    def written(self, completion: Completion) -> list[int]:
        """Token ids of a completion with the token that closed it."""
        return [*completion.ids, *([] if completion.closed_by is None else [completion.closed_by])]

    def read(self, completion: Completion) -> Reading:
        """The one statement of a completion; strict where an answer is closed by a grade, soft as `UNFINISHED` says."""
        text = completion.text.strip()
        if completion.closed_by not in self.ids:
            return Reading((Statement(text, None),), False, -1.0)
        value = float(VALUES[self.ids.index(completion.closed_by)])
        return Reading((Statement(text, value),), bool(text), 0.0 if text else UNFINISHED)

    def answer(self, completion: Completion) -> str:
        """The text that the task's grader sees."""
        return completion.text

    def state(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> NDArray[np.float64]:
        """Expected confidence [n] in answers, NaN where one was cut or would not be closed by a grade."""
        found = self.grades(prompts, [c.ids for c in completions])
        failed = (found.mass < found.rival) | np.array([c.finish == "length" for c in completions], dtype=np.bool_)
        return np.where(failed, np.nan, found.expected)

    def judge(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> NDArray[np.float64]:
        """F_pred [n]: the model's own score of what it stated, the expectation over the graded tokens.

        NaN for a completion that states nothing.
        """
        stated = [c.closed_by in self.ids for c in completions]
        rows = [(p, self.reply(c)) for p, c, ok in zip(prompts, completions, stated, strict=True) if ok]
        scores = np.full(len(completions), np.nan)
        if rows:
            scores[np.flatnonzero(stated)] = self.grades([p for p, _ in rows], [tail for _, tail in rows]).expected
        return scores

    def reply(self, completion: Completion) -> list[int]:
        """Token ids that follow a prompt to ask for the self-judgement: the completion, its turn's end, `JUDGE`."""
        return [*self.written(completion), *self.query]

    def grades(self, prompts: Sequence[list[int]], tails: Sequence[list[int]], batch_size: int = 128) -> Grades:
        """What the graded tokens say after each prompt and tail [n]."""
        expected, mass, rival = [], [], []
        for start in range(0, len(prompts), batch_size):
            span = slice(start, start + batch_size)
            logits = self.engine.next_logits(prompts[span], tails[span], rows=self.ids)
            at, total = logits[:, self.ids], logits.logsumexp(-1)
            expected.append(at.softmax(-1).cpu().numpy().astype(np.float64) @ VALUES)
            mass.append((at.logsumexp(-1) - total).exp().cpu().numpy().astype(np.float64))
            logits[:, self.ids] = -torch.inf
            rival.append((logits.amax(-1) - total).exp().cpu().numpy().astype(np.float64))
        return Grades(np.clip(np.concatenate(expected), 0.0, 1.0), np.concatenate(mass), np.concatenate(rival))


def judge_query(tokenizer: Any, text: str = JUDGE) -> list[int]:
    """Token ids that close an answer's turn and ask ``text``, up to where the reply starts."""
    mark = "\u2029"  # no other part of a template holds it
    turns = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": mark},
        {"role": "user", "content": text},
    ]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    # The template's own markers are wanted here as tokens: nothing in this text comes from a user.
    return [int(i) for i in tokenizer(rendered.rpartition(mark)[2], add_special_tokens=False)["input_ids"]]
