"""Two made-up runs on the same questions, the second better by known amounts, for the tests of comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.records import Message, Record


def a_run(seed: int, *, sharp: float = 1.0, bias: float = 0.0, n: int = 300, **more: Any) -> list[Record]:
    """``n`` graded answers: questions are as hard in every run, and are answered with luck of the run's own.

    ``sharp`` says how well the confidence ``stack`` tells right from wrong, ``bias`` how much more is right.
    """
    hard, luck = np.random.default_rng(99).random(n), np.random.default_rng(seed)
    out = []
    for i in range(n):
        right = bool(luck.random() < np.clip(hard[i] + bias, 0, 1))
        sign = 1 if right else -1
        stack = 1 / (1 + np.exp(-(sharp * sign + luck.normal())))
        values = {"id": f"q{i}", "task": "capitals", "model": "small", "answer": "Paris" if right else "Rome"}
        out.append(
            Record(
                **values | more,
                messages=[Message(role="user", content=f"Which capital is number {i}?")],
                correct=right,
                confidence={"stack": float(stack), "logprob_sum": float(-np.exp(-(0.6 * sign + luck.normal())))},
            )
        )
    return out
