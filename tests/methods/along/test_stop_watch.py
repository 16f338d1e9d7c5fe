"""The stop watch: answers end where a signal's level falls below a threshold, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from along_rows import tiny_engine
from confide.engines.directions import Directions
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.along.along_reading import AlongReading, AlongRule
from confide.methods.along.stop_watch import Followed, StopWatch, joined, traces
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.frozen.frozen_model import FrozenModel

ASKED = ["Where is Kyoto?", "red green blue", "Answer: France, Germany", "Is Lima in Peru or in Chile? Say where."]
MOST = 24

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return tiny_engine()


def drawn(engine: TransformersEngine, name: str, seed: int, schedule: str = "tokens") -> AlongReading:
    weight = np.random.default_rng(seed).normal(size=(1, engine.width, 1)).astype(np.float32)
    directions = Directions((2,), weight, np.zeros(1, np.float32))
    return AlongReading.of(AlongRule(name, schedule, "none", scale=0.2), directions, {})


@pytest.mark.parametrize("schedule", ["tokens", "every:3"])
def test_an_answer_ends_at_the_first_position_below_the_threshold(engine: TransformersEngine, schedule: str) -> None:
    readings = [drawn(engine, "red_flag", 0, schedule), drawn(engine, "outcome", 1)]
    asked = [engine.encode([{"role": "user", "content": text}]) for text in ASKED]
    whole = engine.answer(asked, MOST, directions=joined(readings))
    told = [traces(readings, completion, engine.decode)["red_flag"] for completion in whole]
    limit = float(np.median([trace.lowest for trace in told]))
    watch = StopWatch(readings, {"red_flag": limit}, engine.decode)
    found = engine.answer(asked, MOST, directions=joined(readings), watch=watch)
    for row, (completion, full, trace) in enumerate(zip(found, whole, told, strict=True)):
        last = len(full.ids) if full.finish == "stop" else len(full.ids) - 1
        below = [at for at, value in zip(trace.tokens, trace.values, strict=True) if value < limit]
        if schedule != "tokens":  # the last token is due only once it is known to be the last
            below = [at for at in below if at != last or at % 3 == 0]
        if below:
            assert watch.stopped_by_[row] == "red_flag"
            assert completion.stopped
            assert completion.ids == full.ids[: below[0]]
        else:
            assert row not in watch.stopped_by_
            assert completion.ids == full.ids
    assert 0 < len(watch.stopped_by_) < len(asked)


def test_a_signal_without_a_threshold_stops_nothing(engine: TransformersEngine) -> None:
    readings = [drawn(engine, "red_flag", 0)]
    asked = [engine.encode([{"role": "user", "content": text}]) for text in ASKED]
    watch = StopWatch(readings, {}, engine.decode)
    found = engine.answer(asked, MOST, directions=joined(readings), watch=watch)
    assert [c.ids for c in found] == [c.ids for c in engine.answer(asked, MOST)]


def test_a_line_is_settled_by_the_token_that_follows_it(engine: TransformersEngine) -> None:
    followed = Followed(AlongRule("outcome", "lines", "none", 0.2))
    z = [5.0, -4.0, -3.0, 1.0]
    found = [followed.feed(value, piece) for value, piece in zip(z, ["a", "\n", "\n", "b"], strict=True)]
    assert found[:3] == [None, None, None]
    assert found[3] == pytest.approx(float(followed.rule.probability(-3.0)))


def test_a_model_stops_its_answers_and_says_by_what(engine: TransformersEngine) -> None:
    model = FrozenModel(engine, CheckpointInfo())
    model.signals = {"red_flag": drawn(engine, "red_flag", 0)}
    plain = model.answers(ASKED, max_new_tokens=MOST)
    assert all(answer.along["red_flag"].lowest == answer.sources["red_flag"] for answer in plain)
    limit = float(np.median([answer.sources["red_flag"] or 0 for answer in plain]))
    found = model.answers(ASKED, max_new_tokens=MOST, stop={"red_flag": limit})
    for before, after in zip(plain, found, strict=True):
        assert (after.stopped_by == "red_flag") == ((before.sources["red_flag"] or 0) < limit)
        assert before.text.startswith(after.text)
        if after.stopped_by:
            assert (after.sources["red_flag"] or 1) < limit
        else:
            assert after == before
    with pytest.raises(ConfideError, match="does not carry the signal outcome"):
        model.answers(ASKED, stop={"outcome": 0.5})


def test_a_given_answer_is_read_as_it_was_when_it_was_written(engine: TransformersEngine) -> None:
    model = FrozenModel(engine, CheckpointInfo())
    model.signals = {"red_flag": drawn(engine, "red_flag", 0)}
    text = "France, Germany red green"
    found = model.confidence(ASKED[0], text)
    ids = engine.encode_answer(text)
    assert found.along["red_flag"].tokens == list(range(1, len(ids) + 1))
    assert found.sources["red_flag"] == found.along["red_flag"].lowest
