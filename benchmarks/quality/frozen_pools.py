"""Which questions the frozen protocol asks, what their rows depend on, and the parts that each seed gets."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from confide.hashing import key_of_text, sha256_of_rows
from confide.records import Split
from confide.tasks.questions import Question
from confide.tasks.splits import assign_splits

SEEDS = (0, 1, 2)
SHARED = 3
"""CommonsenseQA's authors were given three options each, for which three questions were written."""

LARGEST = 12
"""Questions of a larger group hang together by options that are everywhere ("house"): such groups are left out."""

PHRASINGS = re.compile(
    r"What is (.+)'s occupation\?|What is (.+) the capital of\?|What is the (?:religion|capital) of (.+)\?"
    r"|In what city was (.+) born\?|In what country is (.+)\?|What genre is (.+)\?|What color is (.+)\?"
    r"|Who is the (?:father|mother|author) of (.+)\?|What sport does (.+) play\?"
    r"|Who was the (?:producer of|director of|composer of|screenwriter for) (.+)\?"
)
"""How PopQA asks; its question file does not name the subject."""

Dealt = dict[str, Split]


@dataclass(frozen=True)
class QuestionSet:
    """A question set of the protocol.

    Attributes:
        task: what `load_task` loads.
        grouped: names the entity of each question; leaves out those that have none.
        sizes: rows of each part.
        independent: whether no seed shares an entity with another one.
        chance: the accuracy of guessing, 0 where nothing is offered to choose from.
    """

    task: str
    grouped: Callable[[Sequence[Question]], list[Question]]
    sizes: Mapping[str, int]
    independent: bool
    chance: float


def by_shared_options(questions: Sequence[Question]) -> list[Question]:
    """Questions with three options in common (also by way of others) as one entity, without large groups."""
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, question in enumerate(questions):
        for options in combinations(sorted({choice.casefold() for choice in question.choices or []}), SHARED):
            holders[options].append(at)
    pairs = np.array([(some[0], other) for some in holders.values() for other in some[1:]]).reshape(-1, 2)
    n = len(questions)
    groups = connected_components(csr_array((np.ones(len(pairs)), pairs.T), shape=(n, n)), directed=False)[1].tolist()
    count, first = Counter(groups), dict(zip(groups[::-1], (q.id for q in reversed(questions)), strict=True))
    return [
        question.model_copy(update={"entity": f"options:{first[group]}"})
        for group, question in zip(groups, questions, strict=True)
        if count[group] <= LARGEST
    ]


def by_subject(questions: Sequence[Question]) -> list[Question]:
    """Questions with the subject that their wording names as entity; it counts as asked about, as from the hub."""
    found = []
    for question in questions:
        if (match := PHRASINGS.fullmatch(question.question)) and match.lastindex:
            subject = match[match.lastindex]
            update = {"entity": f"subject:{subject.casefold()}", "asked": subject}
            found.append(question.model_copy(update=update))
    return found


SETS = {
    "commonsenseqa": QuestionSet(
        "commonsenseqa/train", by_shared_options, {"train": 800, "validation": 400, "test": 800}, True, 0.2
    ),
    "popqa": QuestionSet("popqa", by_subject, {"train": 800, "validation": 300, "test": 880}, False, 0.0),
}


def deal(questions: Sequence[Question], sizes: Mapping[str, int], independent: bool) -> list[Dealt]:
    """Question id → part for each seed, whole entities at a time.

    With ``independent`` what one seed uses is out of reach for the next ones; else each draws from all questions.
    """
    found, left = [], list(questions)
    for seed in SEEDS:
        dealt = assign_splits(left, "standard", sizes, seed=seed)
        found.append(dealt)
        if independent:
            used = {question.entity for question in left if question.id in dealt}
            left = [question for question in left if question.entity not in used]
    return found


def key_of_draws(questions: Sequence[Question], draws: Sequence[Dealt]) -> str:
    """16 digits that stand for the questions and where each seed has them; the protocol states them."""
    text = {q.id: [q.question, q.choices, q.answer] for q in questions}
    return key_of_text(sha256_of_rows([seed, i, d[i], *text[i]] for seed, d in enumerate(draws) for i in sorted(d)))
