"""Familiarity of questions: by their nearest ones, an entity's own rows left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from confide.methods.stack.question_familiarity import QuestionFamiliarity

WIDTH = 64


def test_question_familiarity_parts_kinds_and_ignores_an_entitys_own_rows() -> None:
    rng = np.random.default_rng(0)

    def questions(n: int, kinds: list[int]) -> NDArray[np.float32]:
        centres = 5 * np.eye(WIDTH)[np.array(kinds)[rng.integers(len(kinds), size=n)]]
        return (centres + 0.5 * rng.normal(size=(n, WIDTH))).astype(np.float32)

    seen = questions(300, [0, 1, 2])
    fit = QuestionFamiliarity.fit(1, seen, [str(i) for i in range(300)])
    assert fit.predict(questions(100, [0, 1, 2])).mean() > 0.9
    assert fit.predict(questions(100, [7])).max() < 0.2
    twins = np.repeat(seen[:150], 2, axis=0)
    apart = QuestionFamiliarity.fit(1, twins, [str(i // 2) for i in range(300)])
    assert apart.ramps[0][1] < 0.9  # a row's twin would have given 1.0
    assert apart.ramps[1][1] < -0.1


def test_no_question_has_no_familiarity() -> None:
    seen = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    fit = QuestionFamiliarity.fit(1, seen, [str(i) for i in range(50)])
    assert fit.predict(seen[:0]).shape == (0,)
