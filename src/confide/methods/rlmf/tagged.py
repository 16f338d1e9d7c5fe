"""Tagged statements: the paper's way to state a number, ``<sentence>…</sentence><confidence>0.73</confidence>``.

For models that write such text reliably; small ones rather close an answer by a token (`confide.methods.rlmf.graded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from confide.engines.transformers.prefixes import group_batches
from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.hedging.statements import TAGGED_PROMPT, Reading, Statement, read_tagged, write_tagged
from confide.methods.rlmf.graded import JUDGE, judge_query
from confide.methods.verbalized import parse
from confide.records import Message

if TYPE_CHECKING:
    from confide.tasks import Question, Task
    from confide.tasks.graders import Grade

JUDGE_ROOM = 6


class Tagged:
    """Reads and writes tagged statements; the same calls as `confide.methods.rlmf.graded.Graded`."""

    name = "tagged"
    room = 40
    """Tokens that the tags and the number take beside the answer."""

    def __init__(self, engine: TransformersEngine):
        self.engine = engine
        self.query = judge_query(engine.tokenizer, f"{JUDGE} Write a number from 0.00 to 1.00.")

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """How a question is asked: the format is asked for in place of the system line and the worked examples."""
        return [Message(role="system", content=TAGGED_PROMPT), messages[-1]]

    def completion(self, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
        """Token ids of an answer that states ``confidence``, with the token that ends the turn."""
        text = write_tagged([Statement(answer, confidence)])
        return [*self.engine.encode_answer(text), self.engine.turn_end]

    def written(self, completion: Completion) -> list[int]:
        """Token ids of a completion with the token that closed it."""
        return [*completion.ids, *([] if completion.closed_by is None else [completion.closed_by])]

    def read(self, completion: Completion) -> Reading:
        """What a completion states; an unfinished one is not strict."""
        reading = read_tagged(completion.text)
        return Reading(reading.statements, reading.strict and completion.finish == "stop", reading.soft)

    def answer(self, completion: Completion) -> str:
        """The text that the task's grader sees: the sentences without their tags, or all of it where there are none."""
        return untagged(completion.text)

    def state(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> NDArray[np.float64]:
        """Mean stated confidence [n] of each completion, NaN where none can be read."""
        found = np.full(len(completions), np.nan)
        for row, completion in enumerate(completions):
            said = [s.confidence for s in self.read(completion).statements if s.confidence is not None]
            if said:
                found[row] = np.mean(said)
        return found

    def judge(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> NDArray[np.float64]:
        """F_pred [n]: the model's own score of what it stated, as it writes it; NaN where that is no number."""
        engine = self.engine
        asked = [[*p, *c.ids, *self.query] for p, c in zip(prompts, completions, strict=True)]
        scores = np.full(len(completions), np.nan)
        groups = engine.share_prefixes(asked)
        for picked in group_batches(groups, [len(prompt) for prompt in asked], 64):
            for i, said in zip(picked, engine.generate([asked[i] for i in picked], JUDGE_ROOM)[0], strict=True):
                value = parse(said.text, 1)
                scores[i] = np.nan if value is None else value
        return scores


def untagged(text: str) -> str:
    """The sentences of tagged text, or the text itself where it has none."""
    return " ".join(statement.text for statement in read_tagged(text).statements) or text


def tagged_task(task: Task) -> Task:
    """A task as a model that states its confidence in tagged text is asked it; its grader sees no tags."""

    def prompt(question: Question) -> list[dict[str, str]]:
        return [{"role": "system", "content": TAGGED_PROMPT}, task.prompt(question)[-1]]

    def grade(question: Question, answer: str) -> Grade:
        return task.grade(question, untagged(answer))

    def agrees(question: Question, a: str, b: str) -> bool:
        return task.agrees(question, untagged(a), untagged(b))

    room = task.max_new_tokens + Tagged.room
    return replace(task, prompt=prompt, grade=grade, agrees=agrees, max_new_tokens=room)
