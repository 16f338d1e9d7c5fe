"""What was trained for a model on a server: confidences of answers in the traffic of the latest ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from answer_world import served_world, world
from confide.methods.learned_confidences import LearnedConfidences
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import PORTABLE, PortableFile
from confide.methods.stack.linear_reading import POSITIONS_BEFORE_CLOSING
from confide.methods.stack.probe import View
from confide.methods.stack.served_stack import SERVED, ServedStack, served_confidences
from confide.records import Record
from graded_rows import counted_reads, long_tailed


@pytest.fixture(scope="module")
def portable() -> PortableFile:
    records = long_tailed(600, 6)
    return PortableFile.of(Mixture.fit(fit_signals(records), records), records)


@pytest.fixture(scope="module")
def served() -> ServedStack:
    return served_world()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each reading of signals was of."""
    return counted_reads(monkeypatch)


def as_file(rows: list[Record]) -> list[Record]:
    return [row.model_copy(update={"split": None}) for row in rows]


def test_in_service_an_answer_has_what_a_file_of_the_same_traffic_gives_it(portable: PortableFile) -> None:
    shifted = [r.model_copy(update={"answer": f"new {r.id}"}) for r in long_tailed(60, 8)]
    rows = as_file([*long_tailed(60, 7), *shifted])
    learned = LearnedConfidences(portable=portable)
    found = [learned.read([row], [None])[PORTABLE][0] for row in rows]
    for n in (1, 2, 30, 61, 90, 120):
        assert found[n - 1] == pytest.approx(portable.confidences(rows[:n])[-1], abs=1e-9, rel=0)
    # The traffic counts: at the end a new answer's own probability is all that there is.
    assert abs((found[-1] or 0) - (portable.confidences(rows[-1:])[0] or 0)) > 1e-3


def test_choices_of_one_request_are_read_in_the_traffic_of_the_first(portable: PortableFile) -> None:
    rows = as_file(long_tailed(60, 7))
    choices = [rows[-1].model_copy(update={"answer": f"new {i}"}) for i in range(50)]
    learned, alone = LearnedConfidences(portable=portable), LearnedConfidences(portable=portable)
    for row in rows:
        learned.read([row], [None]), alone.read([row], [None])
    found = learned.read(choices, [None] * 50)[PORTABLE]
    assert learned.unseen["answers"].n == 61
    assert found[0] == pytest.approx(alone.read(choices[:1], [None])[PORTABLE][0], abs=1e-12, rel=0)
    assert learned.unseen == alone.unseen


def test_the_same_holds_of_the_served_stack(served: ServedStack) -> None:
    rows, states = world(80, 5, "abcxyz")
    z = served.reading.z(states).tolist()
    learned = LearnedConfidences(served.mixture)
    found = [learned.read([row], [value])[SERVED][0] for row, value in zip(rows, z, strict=True)]
    for n in (1, 5, 40, 80):
        wanted = served_confidences(served.mixture, z[:n], rows[:n])[-1]
        assert found[n - 1] == pytest.approx(wanted, abs=1e-9, rel=0)


def test_what_was_trained_together_reads_and_counts_each_answer_once(reads: list[int]) -> None:
    records, states = world(400, 1)
    signals = fit_signals(records)
    stack = ServedStack.fit(View((1, 2), POSITIONS_BEFORE_CLOSING, 0.01), states, records, signals)
    written = json.loads(json.dumps(Mixture.fit(signals, records).to_json()))
    learned = LearnedConfidences(stack.mixture, PortableFile.of(Mixture.from_json(written), records))
    reads.clear()
    assert list(learned.read(records[:7], [0.0] * 7)) == [SERVED, PORTABLE]
    assert reads == [7]
    assert learned.unseen["answers"].n == 1, "seven choices of one request"


def test_two_trainings_count_for_themselves(served: ServedStack, portable: PortableFile, reads: list[int]) -> None:
    learned = LearnedConfidences(served.mixture, portable)
    row = world(1, 2)[0]
    found = learned.read(row, [None])
    assert reads == [1, 1]
    assert found[SERVED] == [None]
    assert found[PORTABLE] == pytest.approx(portable.confidences(row))
    assert learned.unseen["answers"].usual == pytest.approx(np.sqrt(served.mixture.signals.open_answers))


def test_closed_it_reads_and_counts_nothing(portable: PortableFile) -> None:
    learned = LearnedConfidences(portable=portable)
    rows = long_tailed(5, 7)
    with learned.closed():
        assert None not in learned.read(rows, [None] * 5)[PORTABLE]
    assert learned.unseen["answers"].n == 0
    learned.read(rows, [None] * 5)
    assert (learned.unseen["answers"].n, learned.unseen["phrasings"].unseen) == (1, 0)


def test_where_nothing_was_trained_there_is_nothing() -> None:
    learned = LearnedConfidences()
    assert learned.read(long_tailed(2, 7), [None, None]) == {}
    assert learned.unseen == {}
