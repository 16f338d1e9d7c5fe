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

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.methods.rlmf.replies import Speaker, replies
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
    if len(same) < 2:
        raise ConfideError(f"an answer needs another one to agree with: there is {len(same)}")
    if not np.isin(same, (NO, NEITHER, YES)).all():
        raise ConfideError("agreement is 0, ½ or 1")
    return (same.sum(axis=1) - same.diagonal()) / (len(same) - 1)


def pairwise(task: Task, question: Question, answers: Sequence[str]) -> NDArray[np.float64]:
    """Which of K answers agree by the task's grader [K, K], 0 or 1, symmetric with a diagonal of 1.

    Each pair of different texts is compared once; equal texts agree.
    """
    texts = list(dict.fromkeys(answers))
    between = np.eye(len(texts))
    for i, first in enumerate(texts):
        for j in range(i):
            between[i, j] = between[j, i] = float(task.agrees(question, texts[j], first))
    place = {text: i for i, text in enumerate(texts)}
    rows = [place[answer] for answer in answers]
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


def check_resolution(k: int, tolerance: float) -> None:
    """Raise `ConfideError` when K answers are too few for g to tell confidences apart by ``tolerance``.

    Left out of its own comparison an answer has g in steps of 1/(K − 1). F_gold asks for |c − g| ≤ tolerance, so steps
    of up to twice the tolerance leave every stated confidence some g that makes it faithful. With larger ones there
    are confidences between the steps that count as unfaithful whatever the model answers. (g is noisy besides, with a
    standard deviation of up to ½/√(K − 1); no K is too small for that, it only takes more steps to average out.)
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

    Asked of another model than the policy, so that the policy cannot learn to please itself. It replies in words,
    which are read, because a comparison of two tokens' logits would always find one of them. It takes a model that can
    judge: the bundled one of 135 million parameters mostly replies with something else, and is refused.

    Args:
        engine: the judging model.
        most_unclear: the share of replies that may be none of yes, no and neither. They count ½ as neither does; past
            this share, once `ENOUGH` were asked, the judge is no judge.

    Attributes:
        asked: pairs judged so far.
        unclear: how many of their replies could not be read.
        seconds: time spent.
    """

    # What all prompts share comes first, where it runs once; the words to choose from come last.
    PROMPT = (
        "Compare an answer and a claim. Yes: the answer says or implies the same. No: it contradicts the claim or says "
        "something else in its place. Neither: it does not touch on the claim.\n\nAnswer: {answer}\nClaim: {claim}\n"
        "Does the answer agree with the claim? Answer Yes, No or Neither."
    )
    MAX_NEW_TOKENS = 4
    ENOUGH = 20

    def __init__(self, engine: Speaker, most_unclear: float = 0.2):
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
        said = replies(self.engine, texts, self.MAX_NEW_TOKENS, what="judging")
        verdicts = list(map(verdict, said))
        self.seconds += time.monotonic() - began
        self.asked += len(verdicts)
        unread = [reply for reply, found in zip(said, verdicts, strict=True) if found is None]
        self.unclear += len(unread)
        self._example = next(iter(unread), self._example)
        if self.asked >= self.ENOUGH and self.unclear > self.most_unclear * self.asked:
            raise ConfideError(
                f"the judge said neither yes nor no to {self.unclear} of {self.asked} pairs "
                f"({self.unclear / self.asked:.0%}, at most {self.most_unclear:.0%} may be unclear), "
                f"as in {self._example!r}: take another judge"
            )
        return np.array([NEITHER if found is None else found for found in verdicts], dtype=np.float64)

    def left_out(self, answers: Sequence[str], claims: Sequence[Sequence[str]]) -> list[list[float]]:
        """g of every claim: the mean support of the *other* answers to the same question.

        ``answers`` [K] are whole answers, without tags and numbers; ``claims`` [K] are the sentences of each. Raises
        `ConfideError` for fewer than 2 answers or claims of another number of answers.
        """
        if len(answers) != len(claims):
            raise ConfideError(f"{len(answers)} answers, but the claims of {len(claims)}")
        if len(answers) < 2:
            raise ConfideError(f"an answer needs another one to agree with: there is {len(answers)}")
        others = [[other for j, other in enumerate(answers) if j != i] for i in range(len(answers))]
        pairs = [(o, claim) for i, told in enumerate(claims) for claim in told for o in others[i]]
        support = self(pairs).reshape(-1, len(answers) - 1).mean(axis=1).tolist() if pairs else []
        rest = iter(support)
        return [[next(rest) for _ in told] for told in claims]
