"""The task ``selfaware`` (Yin et al. 2023, arXiv 2305.18153): questions that have an answer and some that have none.

Where nobody can know, the right answer says so; saying so of a question that has an answer is wrong. The paper
compares sentences by embeddings with what uncertain people say; here a list of such phrases decides, so that a grade
can be read and repeated.
"""

from __future__ import annotations

import re
from typing import Any

from confide.tasks.graders import Grade, grade_short
from confide.tasks.questions import Question
from confide.tasks.task import Task, ask
from confide.tasks.text import fold, spelled

SYSTEM = 'Answer with the name only, or with "unknown" where nobody can know the answer.'
MAX_NEW_TOKENS = 32
UNKNOWN = "unknown"

# Folded text has no apostrophes: "don't" is "dont", "it's" is "it".
_AT_FIRST = re.compile(
    r"(?:it (?:is )?|that is |answer is )?(?:unknown|uncertain|unclear|not known|subjective|n a)"
    r"(?:$| (?:to|at|as|because|how|why|what|who|when|where|for|whether|if)\b)"
)
_ANYWHERE = re.compile(
    r"\b(?:unknowable|unanswerable"
    r"|(?:nobody|no one|noone) (?:can |really |truly |actually )*knows?"
    r"|(?:i|we) (?:do not|dont|cannot|cant) (?:really |yet )?(?:know|say|tell|predict|answer)"
    r"|(?:i am|im|we are) (?:not sure|unsure|uncertain)"
    r"|(?:cannot|cant|can not|could not|couldnt) be (?:known|determined|answered|predicted|proven|said)"
    r"|(?:impossible|not possible|difficult|hard) to (?:know|say|tell|determine|answer|predict)"
    r"|there (?:is )?no (?:definitive|definite|scientific|single|clear|certain|known|right|correct|one|universal)"
    r"|it (?:all )?depends|(?:is|are) (?:\w+ )?(?:unknown|subjective|uncertain|debated|not known)"
    r"|matter of (?:\w+ )?(?:opinion|debate|taste|preference|belief))\b"
)


def selfaware_task(name: str, questions: list[Question]) -> Task:
    """The task with these questions."""
    return Task(name, questions, grade, agrees, prompt, MAX_NEW_TOKENS)


def says_unknown(answer: str) -> bool:
    """Whether an answer says that the question cannot be answered."""
    text = fold(answer)
    return bool(_AT_FIRST.match(text) or _ANYWHERE.search(text))


def grade(question: Question, answer: str) -> Grade:
    """Right when an unanswerable question (nothing accepted) is called so, or an answerable one is answered."""
    if says_unknown(answer):
        return Grade(not question.accepted, UNKNOWN)
    if question.accepted:
        return grade_short(question, answer)
    return Grade(False, spelled(answer) or None)


def agrees(question: Question, a: str, b: str) -> bool:
    """Whether both say that it cannot be known, or both name the same."""
    return grade(question, a).answered == grade(question, b).answered


def prompt(question: Question) -> list[dict[str, Any]]:
    """As other short questions, with leave to say that nobody knows."""
    return ask(question, SYSTEM)
