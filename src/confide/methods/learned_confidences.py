"""What was trained for a model on a server, at work: confidences of answers, in the traffic of the latest ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from confide.methods.answer_traffic import TrafficWindow, UnseenShare
from confide.methods.method import or_nan, or_none
from confide.methods.portable.answer_signals import AnswerSignals
from confide.methods.portable.mixture import Mixture
from confide.methods.portable.portable_file import PORTABLE, PortableFile
from confide.methods.stack.served_stack import SERVED, served_values
from confide.records import Record


class LearnedConfidences:
    """The confidences ``stack_served`` and ``portable`` of answers as they come, each of which is read once.

    Args:
        served: what makes a confidence of the reading that the server's engine gives.
        portable: what makes one of the texts and the log-probabilities.
    """

    def __init__(self, served: Mixture | None = None, portable: PortableFile | None = None):
        self._mixtures = {} if served is None else {SERVED: served}
        self._mixtures |= {} if portable is None else {PORTABLE: portable.mixture}
        self._watched: list[tuple[AnswerSignals, TrafficWindow, list[str]]] = []
        for source, mixture in self._mixtures.items():
            # What was trained together has the same signals, though it comes in two files.
            told = mixture.signals.to_json()
            same = next((names for signals, _, names in self._watched if signals.to_json() == told), None)
            if same is None:
                self._watched.append((mixture.signals, TrafficWindow(), [source]))
            else:
                same.append(source)

    def read(self, records: Sequence[Record], z: Sequence[float | None]) -> dict[str, list[float | None]]:
        """Confidences of the answers to one request by source, the one that knows most first; None where one has none.

        Args:
            z: what the server's engine read of its states; None where it read nothing.
        """
        found: dict[str, list[float | None]] = {}
        for signals, window, sources in self._watched:
            ground = signals.read(records, window.request())
            for source in sources:
                mixture = self._mixtures[source]
                if source == SERVED:
                    found[source] = or_none(served_values(mixture, or_nan(z), records, ground))
                else:
                    found[source] = or_none(mixture.read(records, ground=ground)[0])
        return {source: found[source] for source in self._mixtures}

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside it no answer comes into the traffic."""
        with ExitStack() as stack:
            for _, window, _ in self._watched:
                stack.enter_context(window.closed())
            yield

    @property
    def unseen(self) -> dict[str, UnseenShare]:
        """Of the latest answers, what training never saw; of two trainings, that of the source that knows most."""
        return next((signals.unseen(window.traffic) for signals, window, _ in self._watched), {})
