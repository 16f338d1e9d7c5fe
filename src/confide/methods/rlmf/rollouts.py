"""Rollouts: completions of questions, what they state, how often their siblings agree, and what a policy is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from confide.engines.engine import Completion
from confide.errors import ConfideError
from confide.hedging.statements import Reading
from confide.methods.rlmf.feedback import f_gold
from confide.methods.rlmf.intrinsic_agreement import SentenceJudge, support, support_within
from confide.methods.rlmf.stating import Stating
from confide.metrics.faithfulness import Axis, scores
from confide.metrics.ranking import spearman
from confide.numeric import Floats
from confide.records import Record
from confide.tasks import Question, Task
from confide.tasks.questions import question_of


@dataclass(frozen=True)
class QuestionPrompt:
    """A question and the prompt (token ids) that asks it; ``reference`` answers were sampled before training."""

    question: Question
    prompt: list[int]
    reference: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollouts:
    """Graded completions [n], ``size`` in a row per question.

    Attributes:
        stated: the stated confidences of each completion, one per statement; None where one cannot be read.
        intrinsic: g of the same statements.
        correct: 1 for a right answer, 0 for any other, shape [n].
    """

    size: int
    prompts: list[list[int]]
    completions: list[Completion]
    readings: list[Reading]
    stated: list[list[float | None]]
    intrinsic: list[list[float]]
    correct: Floats

    @property
    def parsed(self) -> NDArray[np.bool_]:
        """Completions in which a confidence can be read [n]."""
        return np.array([any(c is not None for c in row) for row in self.stated], dtype=np.bool_)

    @property
    def unanimous(self) -> NDArray[np.bool_]:
        """Questions whose completions all make a statement, and agree [n / size]."""
        g = np.array([bool(row) and all(value == 1 for value in row) for row in self.intrinsic], dtype=np.bool_)
        return np.asarray(g.reshape(-1, self.size).all(1))

    def f_gold(self, tolerance: float) -> Floats:
        """Share of each completion's statements whose confidence is within ``tolerance`` of g [n]."""
        return f_gold(self.stated, self.intrinsic, tolerance)


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a policy does on n questions.

    Attributes:
        confidence: stated in each greedy answer, shape [n]; NaN where none can be read.
        consistency: g of each greedy answer, the support of sampled ones, shape [n].
        correct: 1 for a right greedy answer, else 0, shape [n].
        f_pred: self-judgements of sampled completions, shape [m]; NaN where none can be read.
        f_gold: what these should be, shape [m].
    """

    confidence: Floats
    consistency: Floats
    correct: Floats
    f_pred: Floats
    f_gold: Floats

    def numbers(self) -> dict[str, float]:
        """Accuracy, share that can be read, faithfulness, rank correlations; only what is a finite number.

        A confidence that cannot be read counts as far from g as can be.
        """
        g, known = self.consistency, np.isfinite(self.confidence)
        c = np.where(known, self.confidence, np.where(g < 0.5, 1.0, 0.0))
        judged = np.isfinite(self.f_pred)
        weights = np.ones((1, len(g)))
        axis = Axis.of(g, weights)
        star, floor = scores(c, g, weights)["cmfg_star"], axis.floor(axis.shares()["cmfg_star"])[0]
        numbers = {
            "n": len(g),
            "accuracy": float(self.correct.mean()),
            "parsed": float(known.mean()),
            "distinct": len(set(np.round(self.confidence[known], 1).tolist())),
            "cmfg_star": float(star[0]),
            "above_floor": float(star[0] - floor[0]),
            "spearman": _rank_correlation(self.confidence[known], g[known]),
            "brier": float(np.mean((c - self.correct) ** 2)),
            "consistency": float(g.mean()),
            "consistency_sd": float(g.std()),
            "f_gold": float(self.f_gold.mean()),
            "f_pred": float(self.f_pred[judged].mean()) if judged.any() else math.nan,
            "f_spearman": _rank_correlation(self.f_pred[judged], self.f_gold[judged]),
        }
        return {name: value for name, value in numbers.items() if math.isfinite(value)}


@dataclass(frozen=True)
class Environment:
    """Asks a policy a task's questions, and reads and grades its completions.

    Attributes:
        stating: how the policy states its confidence; its engine is the policy.
        task: the grader.
        judge: compares statements with answers in the grader's place.
    """

    stating: Stating
    task: Task
    judge: SentenceJudge | None = None

    @property
    def room(self) -> int:
        """Tokens that a completion may take."""
        return self.task.max_new_tokens + self.stating.room

    def question_prompts(self, records: Sequence[Record]) -> list[QuestionPrompt]:
        """The prompts of records' questions; the task's own question where it has one of that id."""
        own = {question.id: question for question in self.task.questions}
        prompts = []
        for record in records:
            question = own.get(record.id) or question_of(record)
            if question is None:
                raise ConfideError(
                    f"record {record.id} does not tell its question and reference, and the task has none"
                )
            ids = self.stating.prompt(record)
            prompts.append(QuestionPrompt(question, ids, tuple(s.answer for s in record.samples or [])))
        return prompts

    def sample(
        self, questions: Sequence[QuestionPrompt], size: int, *, temperature: float, seed: int
    ) -> list[Completion]:
        """``size`` sampled completions in a row per question, by the weights as they are now."""
        engine, prompts = self.stating.engine, [asked.prompt for asked in questions]
        engine.forget_prefixes()
        groups = engine.sample(prompts, self.room, size, temperature=temperature, seed=seed)
        return [completion for group in groups for completion in group]

    def grade(
        self, questions: Sequence[QuestionPrompt], completions: Sequence[Completion], *, frozen: bool = False
    ) -> Rollouts:
        """Read and grade the completions of ``questions``, as many in a row for each.

        g is agreement with the question's other completions (leave-one-out); ``frozen``: with its reference answers.

        Raises:
            ConfideError: completions that do not share out evenly, or no reference answers for a frozen g.
        """
        size = len(completions) // max(1, len(questions))
        if not size or size * len(questions) != len(completions):
            raise ConfideError(f"{len(completions)} completions do not share out to {len(questions)} questions")
        readings = [self.stating.read(completion) for completion in completions]
        intrinsic: list[list[float]] = []
        correct: list[float] = []
        for number, asked in enumerate(questions):
            group = slice(number * size, (number + 1) * size)
            answers = [self.stating.answer(completion) for completion in completions[group]]
            claims = [[statement.text for statement in reading.statements] for reading in readings[group]]
            marks = {text: self._mark(asked, text) for text in dict.fromkeys(answers)}
            correct += [marks[text] for text in answers]
            if not frozen:
                intrinsic += support_within(self.task, asked.question, answers, claims, self.judge)
            elif asked.reference:
                intrinsic += [support(self.task, asked.question, row, asked.reference, self.judge) for row in claims]
            else:
                raise ConfideError(f"question {asked.question.id}: a frozen g needs samples in the records")
        return Rollouts(
            size,
            [list(asked.prompt) for asked in questions for _ in range(size)],
            list(completions),
            readings,
            [[statement.confidence for statement in reading.statements] for reading in readings],
            intrinsic,
            np.array(correct, dtype=np.float64),
        )

    def evaluate(
        self,
        questions: Sequence[QuestionPrompt],
        *,
        samples: int,
        temperature: float = 1.0,
        tolerance: float = 0.1,
        judged: int = 2,
        seed: int = 0,
        batch_size: int = 32,
    ) -> PolicyEvaluation:
        """Answer ``questions`` greedily, and ``samples`` times more for g.

        Args:
            tolerance: how near a stated confidence must be to g to count in F_gold.
            judged: how many samples per question the policy judges itself.
        """
        stating, engine, n = self.stating, self.stating.engine, len(questions)
        engine.forget_prefixes()
        c, g, correct = np.full(n, np.nan), np.zeros(n), np.zeros(n)
        f_pred, gold = np.full((n, judged), np.nan), np.zeros((n, judged))
        for number, rows in enumerate(engine.batches([asked.prompt for asked in questions], size=batch_size)):
            batch = [questions[i] for i in rows]
            prompts = [asked.prompt for asked in batch]
            sampled = engine.sample(prompts, self.room, samples, temperature=temperature, seed=seed * 7919 + number)
            greedy = engine.answer(prompts, self.room)
            c[rows] = stating.state(prompts, greedy)
            for i, asked, completion, others in zip(rows, batch, greedy, sampled, strict=True):
                text, texts = stating.answer(completion), [stating.answer(other) for other in others]
                claims = [statement.text for statement in stating.read(completion).statements] if self.judge else []
                g[i] = np.mean(support(self.task, asked.question, claims or [text], texts, self.judge))
                correct[i] = self._mark(asked, text)
            if judged:
                flat = [completion for group in sampled for completion in group]
                chosen = [place * samples + k for place in range(len(batch)) for k in range(judged)]
                own = stating.judge([prompts[i // samples] for i in chosen], [flat[i] for i in chosen])
                f_pred[rows] = own.reshape(-1, judged)
                gold[rows] = self.grade(batch, flat).f_gold(tolerance)[chosen].reshape(-1, judged)
        return PolicyEvaluation(c, g, correct, f_pred.reshape(-1), gold.reshape(-1))

    def _mark(self, asked: QuestionPrompt, answer: str) -> float:
        """1 for a right answer, else 0; an answer that no grader can judge is not right."""
        return float(bool(self.task.grade(asked.question, answer).correct))


def _rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's correlation, 0 where one side is constant: nothing is ranked."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearman(a, b))
