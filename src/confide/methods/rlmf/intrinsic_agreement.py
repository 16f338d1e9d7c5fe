"""Agreement: the intrinsic confidence g of an answer, the share of the model's other answers that agree with it.

An answer is never compared with itself: the training code of RLMF (Liu et al. 2026, 2606.32032) counts it, which
adds (1 − p)/K where the model gives this answer with probability p, 0.03 on average at K = 16 and 0.125 at K = 4.
Short answers agree by the task's grader, sentences by a model that judges them.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import Engine
from confide.errors import ConfideError
from confide.methods.asking import ask_each
from confide.tasks.questions import Question
from confide.tasks.task import Task

YES, NO, NEITHER = 1.0, 0.0, 0.5


def leave_one_out(same: NDArray[np.float64]) -> NDArray[np.float64]:
    """g [K] of K answers to one question: the mean of each row of ``same`` [K, K] without its diagonal.

    ``same[i, j]`` says whether answer j supports answer i: 1, 0, or ½ where that cannot be told (2606.32032, the
    intrinsic confidence, with the answer itself left out). Raises `ConfideError` for fewer than 2 answers, another
    shape and other values.

    >>> leave_one_out(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])).tolist()
    [0.5, 0.5, 0.0]
    """
    same = np.asarray(same, dtype=np.float64)
    if same.ndim != 2 or same.shape[0] != same.shape[1]:
        raise ConfideError(f"agreement is a square of answers by answers, not of shape {same.shape}")
    _check_others(len(same))
    if not np.isin(same, (NO, NEITHER, YES)).all():
        raise ConfideError("agreement is 0, ½ or 1")
    return (same.sum(axis=1) - same.diagonal()) / (len(same) - 1)


def pairwise(task: Task, question: Question, answers: Sequence[str]) -> NDArray[np.float64]:
    """Which of K answers agree by the task's grader [K, K], 0 or 1, symmetric with a diagonal of 1.

    Each pair of different texts is compared once; equal texts agree.
    """
    texts = {text: i for i, text in enumerate(dict.fromkeys(answers))}
    between = np.eye(len(texts))
    for (first, i), (second, j) in combinations(texts.items(), 2):
        between[i, j] = between[j, i] = float(task.agrees(question, first, second))
    rows = [texts[answer] for answer in answers]
    return between[np.ix_(rows, rows)]


def against(task: Task, question: Question, answer: str, others: Sequence[str]) -> float:
    """g of a greedy answer: the share of all K ``others`` (samples) that agree with it by the task's grader.

    Raises `ConfideError` when there are none.
    """
    if not others:
        raise ConfideError("an answer needs samples to agree with: there are none")
    counts = Counter(others)
    agreeing = sum(count for text, count in counts.items() if text == answer or task.agrees(question, answer, text))
    return agreeing / len(others)


def support(
    task: Task, question: Question, claims: Sequence[str], others: Sequence[str], judge: SentenceJudge | None
) -> list[float]:
    """g of each of some ``claims``: the mean support of ``others`` by the ``judge``, or by the task's grader."""
    if judge is None:
        return [against(task, question, claim, others) for claim in claims]
    return judge.mean_support([claims], [others])[0]


def support_within(
    task: Task, question: Question, answers: Sequence[str], claims: Sequence[list[str]], judge: SentenceJudge | None
) -> list[list[float]]:
    """g of every claim in each of K answers to one question: the mean support of the other answers."""
    if judge is not None:
        return judge.left_out(answers, claims)
    if claims == [[answer] for answer in answers]:
        return [[float(g)] for g in leave_one_out(pairwise(task, question, answers))]
    return [support(task, question, row, others, None) for row, others in zip(claims, _others(answers), strict=True)]


def check_resolution(k: int, tolerance: float) -> None:
    """Raise `ConfideError` when K answers are too few for g to tell confidences apart by ``tolerance``.

    g has steps of 1/(K − 1). F_gold asks for |c − g| ≤ tolerance, so with steps of up to twice the tolerance every
    stated confidence has some g that makes it faithful; with larger steps some confidences never have one. (g is noisy
    besides, with a standard deviation of up to ½/√(K − 1); that only takes more steps to average out.)
    """
    if not 0 < tolerance <= 1:
        raise ConfideError(f"a tolerance is above 0 and at most 1, not {tolerance}")
    needed = math.ceil(1 / (2 * tolerance) - 1e-9) + 1
    if k < needed:
        step = f"only steps of {1 / (k - 1):.2g}" if k > 1 else "nothing to agree with"
        raise ConfideError(
            f"{k} answers a question leave g {step}; a tolerance of {tolerance:g} needs steps of at most "
            f"{2 * tolerance:g}: take at least {needed}"
        )


_WORD = re.compile(r"\W*(?:(?P<yes>yes)|(?P<no>no)|(?P<neither>neither|n/?a|not applicable))(?![^\W_])", re.IGNORECASE)


def verdict(reply: str) -> float | None:
    """What a judge's reply says first: yes 1, no 0, neither ½; None where it says none of them.

    >>> verdict("Yes."), verdict("**No**, it says"), verdict("N/A"), verdict("Nobody knows")
    (1.0, 0.0, 0.5, None)
    """
    match = _WORD.match(reply)
    if match is None:
        return None
    return {"yes": YES, "no": NO, "neither": NEITHER}[str(match.lastgroup)]


class SentenceJudge:
    """A language model that says whether an answer supports a claim (2606.32032, the consistency judge).

    It should be another model than the policy, which could otherwise learn to please itself. Its replies are words,
    because a comparison of two tokens' logits would always favour one of them. The bundled model of 135 million
    parameters mostly replies with something else, and is refused.

    Args:
        engine: the judging model.
        most_unclear: the share of replies that may be none of yes, no and neither; they count ½ as neither does. Past
            this share, once `ENOUGH` pairs were judged, the judge is refused.

    Attributes:
        asked: pairs judged so far.
        unclear: how many of their replies could not be read.
        seconds: time spent.
    """

    # What all prompts share comes first, so that it runs once; the words to choose from come last.
    PROMPT = (
        "Compare an answer and a claim. Yes: the answer says or implies the same. No: it contradicts the claim or says "
        "something else in its place. Neither: it does not touch on the claim.\n\nAnswer: {answer}\nClaim: {claim}\n"
        "Does the answer agree with the claim? Answer Yes, No or Neither."
    )
    MAX_NEW_TOKENS = 4
    ENOUGH = 20

    def __init__(self, engine: Engine, most_unclear: float = 0.2):
        self.engine = engine
        self.name = str(getattr(engine, "name", "judge"))
        self.most_unclear = most_unclear
        self.asked = 0
        self.unclear = 0
        self.seconds = 0.0
        self._example = ""

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """How far each answer supports each claim [n], in {0, ½, 1}; ``pairs`` are (answer, claim).

        Raises `ConfideError` with the share of unclear replies when it is above ``most_unclear``.
        """
        began = time.monotonic()
        texts = [self.PROMPT.format(answer=answer, claim=claim) for answer, claim in pairs]
        replies = ask_each(self.engine, texts, self.MAX_NEW_TOKENS, note="judging")
        verdicts = list(map(verdict, replies))
        self.seconds += time.monotonic() - began
        self.asked += len(verdicts)
        unclear = [reply for reply, value in zip(replies, verdicts, strict=True) if value is None]
        self.unclear += len(unclear)
        self._example = next(iter(unclear), self._example)
        if self.asked >= self.ENOUGH and self.unclear > self.most_unclear * self.asked:
            raise ConfideError(
                f"the judge said neither yes nor no to {self.unclear} of {self.asked} pairs "
                f"({self.unclear / self.asked:.0%}, at most {self.most_unclear:.0%} may be unclear), "
                f"as in {self._example!r}: take another judge"
            )
        return np.array([NEITHER if value is None else value for value in verdicts], dtype=np.float64)

    def left_out(self, answers: Sequence[str], claims: Sequence[Sequence[str]]) -> list[list[float]]:
        """g of every claim: the mean support of the *other* answers to the same question.

        ``answers`` [K] are whole answers, without tags and numbers; ``claims`` [K] are the sentences of each. Raises
        `ConfideError` for fewer than 2 answers or claims of another number of answers.
        """
        if len(answers) != len(claims):
            raise ConfideError(f"{len(answers)} answers, but the claims of {len(claims)}")
        _check_others(len(answers))
        return self.mean_support(claims, _others(answers))

    def mean_support(self, claims: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> list[list[float]]:
        """The mean support of every claim by the answers in the same row of ``others``."""
        pairs = [(o, c) for row, answers in zip(claims, others, strict=True) for c in row for o in answers]
        support = iter(self(pairs).tolist() if pairs else [])
        return [
            [float(np.mean([next(support) for _ in answers])) for _ in row]
            for row, answers in zip(claims, others, strict=True)
        ]


def _check_others(count: int) -> None:
    if count < 2:
        raise ConfideError(f"an answer needs another one to agree with: there is {count}")


def _others(answers: Sequence[str]) -> list[list[str]]:
    """For each of K answers the other ones."""
    return [[*answers[:i], *answers[i + 1 :]] for i in range(len(answers))]
