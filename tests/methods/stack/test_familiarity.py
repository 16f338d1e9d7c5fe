"""Familiarity: of answers by how often training gave them, of questions by their nearest ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from confide.methods.stack.familiarity import AnswerFamiliarity, QuestionFamiliarity, answer_key
from confide.records import Record

WIDTH = 64


def test_familiarity_counts_answers_whatever_their_spelling() -> None:
    keys = [answer_key(Record(id="x", answer=text)) for text in ("The Côte d’Ivoire", "cote d'ivoire.", "France")]
    assert keys[0] == keys[1] != keys[2]
    assert answer_key(Record(id="x", answer="👍")) != answer_key(Record(id="x", answer="👎"))
    familiarity = AnswerFamiliarity.fit(keys, half=2.0)
    assert familiarity.predict(familiarity.count([keys[0], keys[2], "never"])).tolist() == [
        0.5,
        pytest.approx(1 / 3),
        0.0,
    ]
    half_open = AnswerFamiliarity.fit(keys, half=2.0, openness=0.5)
    assert half_open.predict(half_open.count([keys[0], "never"])).tolist() == [0.75, 0.5]


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
