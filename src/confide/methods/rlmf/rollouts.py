"""Rollouts: sampled completions of questions, what they state, how often their siblings agree, who is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from confide.engines.transformers.prefixes import group_batches
from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.hedging.statements import Reading
from confide.methods.rlmf.feedback import f_gold
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge, against, leave_one_out, pairwise
from confide.metrics.faithfulness import Axis, scores
from confide.metrics.ranking import spearman
from confide.records import Message, Record
from confide.tasks import Question, Task
from confide.tasks.questions import question_of


class Stating(Protocol):
    """A way to state a confidence: `Graded` or `Tagged`."""

    name: str
    room: int
    engine: TransformersEngine
    query: list[int]
    """Token ids that ask for the self-judgement."""

    def messages(self, messages: Sequence[Message]) -> list[Message]:
        """How a question is asked."""
        ...

    def completion(self, answer: str, ids: Sequence[int], confidence: float) -> list[int]:
        """Token ids of an answer that states a confidence."""
        ...

    def written(self, completion: Completion) -> list[int]:
        """Token ids of a completion with the token that closed it."""
        ...

    def read(self, completion: Completion) -> Reading:
        """What a completion states."""
        ...

    def answer(self, completion: Completion) -> str:
        """The text that the task's grader sees."""
        ...

    def state(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> NDArray[np.float64]:
        """The confidence that counts in scoring [n], NaN where none can be read."""
        ...

    def judge(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> NDArray[np.float64]:
        """F_pred [n], NaN where none can be read."""
        ...


@dataclass(frozen=True)
class Asked:
    """A question as the policy is asked it; ``reference`` holds answers sampled before training, for a frozen g."""

    question: Question
    prompt: list[int]
    reference: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollouts:
    """Completions [n], ``size`` in a row for each question, and what is known of them.

    ``stated`` and ``intrinsic`` hold a value a statement, None where it cannot be read or had.
    """

    size: int
    prompts: list[list[int]]
    completions: list[Completion]
    readings: list[Reading]
    stated: list[list[float | None]]
    intrinsic: list[list[float | None]]
    correct: NDArray[np.float64]

    @property
    def parsed(self) -> NDArray[np.bool_]:
        """Completions in which a confidence can be read [n]."""
        return np.array([any(c is not None for c in row) for row in self.stated], dtype=np.bool_)

    @property
    def unanimous(self) -> NDArray[np.bool_]:
        """Questions whose completions all say something, and agree [n / size]."""
        g = np.array([bool(row) and all(value == 1 for value in row) for row in self.intrinsic], dtype=np.bool_)
        return np.asarray(g.reshape(-1, self.size).all(1))

    def f_gold(self, tolerance: float) -> NDArray[np.float64]:
        """Whether what is stated is near what is so [n]."""
        return f_gold(self.stated, self.intrinsic, tolerance)


def observe(
    stating: Stating,
    task: Task,
    asked: Sequence[Asked],
    completions: Sequence[Completion],
    *,
    frozen: bool = False,
    judge: SentenceJudge | None = None,
) -> Rollouts:
    """Read and grade completions of ``asked`` [questions], as many in a row for each.

    g is leave-one-out agreement with the question's other completions, or with ``frozen`` the agreement with its
    reference answers. With a ``judge`` statements are compared by it, otherwise by the task's grader.
    """
    size = len(completions) // max(1, len(asked))
    if not size or size * len(asked) != len(completions):
        raise ConfideError(f"{len(completions)} completions do not share out to {len(asked)} questions")
    readings = [stating.read(c) for c in completions]
    intrinsic: list[list[float | None]] = []
    correct: list[float] = []
    for number, one in enumerate(asked):
        span = range(number * size, (number + 1) * size)
        answers = [stating.answer(completions[i]) for i in span]
        # A completion that no grader can judge (an ungraded task) is not right.
        marks = {text: float(bool(task.grade(one.question, text).correct)) for text in dict.fromkeys(answers)}
        correct += [marks[text] for text in answers]
        if frozen and not one.reference:
            raise ConfideError(f"question {one.question.id}: a frozen g needs samples in the records")
        claims = [[s.text for s in readings[i].statements] for i in span]
        if judge is not None and not frozen:
            intrinsic += [list(row) for row in judge.left_out(answers, claims)]
        elif not frozen and claims == [[answer] for answer in answers]:
            intrinsic += [[float(g)] for g in leave_one_out(pairwise(task, one.question, answers))]
        else:
            for place, row in enumerate(claims):
                others = list(one.reference) if frozen else answers[:place] + answers[place + 1 :]
                if judge is not None:
                    intrinsic.append([float(np.mean(judge([(other, claim) for other in others]))) for claim in row])
                else:
                    intrinsic.append([against(task, one.question, claim, others) for claim in row])
    return Rollouts(
        size,
        [list(one.prompt) for one in asked for _ in range(size)],
        list(completions),
        readings,
        [[s.confidence for s in reading.statements] for reading in readings],
        intrinsic,
        np.array(correct, dtype=np.float64),
    )


def sample(
    stating: Stating, asked: Sequence[Asked], size: int, room: int, *, temperature: float, seed: int
) -> list[Completion]:
    """``size`` sampled completions in a row for each question, with the weights as they are now."""
    stating.engine.forget_prefixes()
    prompts = [one.prompt for one in asked for _ in range(size)]
    return stating.engine.sample(prompts, room, temperature=temperature, seed=seed)


def ask(stating: Stating, task: Task, records: Sequence[Record]) -> list[Asked]:
    """Records as questions to the policy; the task's own question where it has one of that id."""
    own = {question.id: question for question in task.questions}
    found = []
    for record in records:
        question = own.get(record.id) or question_of(record)
        if question is None:
            raise ConfideError(f"record {record.id} does not tell its question and reference, and the task has none")
        prompt = stating.engine.encode(stating.messages(record.messages))
        found.append(Asked(question, prompt, tuple(s.answer for s in record.samples or [])))
    return found


@dataclass(frozen=True)
class Policy:
    """What a policy does on some questions: greedy answers, the confidence stated in each, agreement of K samples.

    ``confidence`` [n] is NaN where none can be read; ``f_pred`` and ``f_gold`` [m] belong to sampled completions.
    """

    confidence: NDArray[np.float64]
    consistency: NDArray[np.float64]
    correct: NDArray[np.float64]
    f_pred: NDArray[np.float64]
    f_gold: NDArray[np.float64]

    def numbers(self) -> dict[str, float]:
        """Accuracy, share that can be read, faithfulness (what cannot be read counts as far off as can be), ranks."""
        g, known = self.consistency, np.isfinite(self.confidence)
        c = np.where(known, self.confidence, np.where(g < 0.5, 1.0, 0.0))
        judged = np.isfinite(self.f_pred)
        weights = np.ones((1, len(g)))
        axis = Axis.of(g, weights)
        star, floor = scores(c, g, weights)["cmfg_star"], axis.floor(axis.shares()["cmfg_star"])[0]
        return {
            "n": len(g),
            "accuracy": float(self.correct.mean()),
            "parsed": float(known.mean()),
            "distinct": len(set(np.round(self.confidence[known], 1).tolist())),
            "cmfg_star": float(star[0]),
            "above_floor": float(star[0] - floor[0]),
            "spearman": _rank(self.confidence[known], g[known]),
            "brier": float(np.mean((c - self.correct) ** 2)),
            "consistency": float(g.mean()),
            "consistency_sd": float(g.std()),
            "f_gold": float(self.f_gold.mean()),
            "f_pred": float(self.f_pred[judged].mean()) if judged.any() else float("nan"),
            "f_spearman": _rank(self.f_pred[judged], self.f_gold[judged]),
        }


def look(
    stating: Stating,
    task: Task,
    asked: Sequence[Asked],
    *,
    samples: int,
    temperature: float = 1.0,
    tolerance: float = 0.1,
    judged: int = 2,
    judge: SentenceJudge | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> Policy:
    """Answer ``asked`` greedily and ``samples`` times more; ``judged`` of these completions are self-judged too.

    With a ``judge`` the greedy answer's g is the mean over its statements of how many samples support each.
    """
    engine, room = stating.engine, task.max_new_tokens + stating.room
    engine.forget_prefixes()
    groups = engine.share_prefixes([one.prompt for one in asked])
    n = len(asked)
    c, g, correct = np.full(n, np.nan), np.zeros(n), np.zeros(n)
    f_pred, gold = np.full((n, judged), np.nan), np.zeros((n, judged))
    for number, picked in enumerate(group_batches(groups, [len(one.prompt) for one in asked], batch_size)):
        some, prompts = [asked[i] for i in picked], [asked[i].prompt for i in picked]
        greedy, sampled, _ = engine.generate(
            prompts, room, samples=samples, temperature=temperature, seed=seed * 7919 + number
        )
        flat = [completion for row in sampled for completion in row]
        rollouts = observe(stating, task, some, flat, judge=judge)
        c[picked] = stating.state(prompts, greedy)
        for place, i in enumerate(picked):
            text, others = stating.answer(greedy[place]), [stating.answer(s) for s in sampled[place]]
            claims = [statement.text for statement in stating.read(greedy[place]).statements] or [text]
            if judge is None:
                g[i] = against(task, some[place].question, text, others)
            else:
                g[i] = float(np.mean(judge([(other, claim) for claim in claims for other in others])))
            correct[i] = float(bool(task.grade(some[place].question, text).correct))
        if judged:
            chosen = [p * samples + k for p in range(len(picked)) for k in range(judged)]
            scores = stating.judge([rollouts.prompts[k] for k in chosen], [flat[k] for k in chosen])
            f_pred[picked] = scores.reshape(-1, judged)
            gold[picked] = rollouts.f_gold(tolerance)[chosen].reshape(-1, judged)
    return Policy(c, g, correct, f_pred.reshape(-1), gold.reshape(-1))


def _rank(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's correlation, 0 where one side is constant: nothing is ranked."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearman(a, b))
