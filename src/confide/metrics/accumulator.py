"""The accumulator: a metric fed batch by batch, in the habit of torchmetrics and without needing it or torch."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from confide.errors import ConfideError
from confide.metrics.metric import Metric
from confide.numeric import Floats

_FIRST_ROOM = 1024


class Accumulator:
    """Keeps confidences and outcomes until their metric is asked for.

    The metric is that of all rows at once: an ECE or AUROC is no mean over batches. Rows are kept in two growing
    arrays, 16 bytes a row. Where ``torch.distributed`` runs, `compute` covers the rows of all processes, each of which
    must call it, as with torchmetrics.

    Args:
        metric: a metric of `confide.metrics`, such as ``auroc`` or ``ece``.
        parameters: its parameters, such as ``bins=15``.

    >>> from confide.metrics import ece
    >>> error = Accumulator(ece, bins=2)
    >>> error.update([0.9, 0.8], [1, 0])
    >>> error.update([0.3, 0.1], [0, 0])
    >>> round(error.compute(), 3)
    0.275
    """

    def __init__(self, metric: Metric[Any], **parameters: Any):
        if not isinstance(metric, Metric):
            raise ConfideError(f"an accumulator takes a metric of confide.metrics, not {metric!r}")
        self.metric = metric
        self.parameters = parameters
        self._rows: Floats = np.empty((2, 0))
        self._count = 0

    def __len__(self) -> int:
        """How many rows this process has seen."""
        return self._count

    def __repr__(self) -> str:
        told = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        return f"Accumulator({self.metric.__name__}{told}): {self._count} rows"

    def __call__(self, confidences: ArrayLike, correct: ArrayLike) -> float:
        """Add rows and give the metric of these rows alone (torchmetrics' ``forward``)."""
        self.update(confidences, correct)
        new = np.size(_array(confidences))
        return self.metric(*self._rows[:, self._count - new : self._count], None, **self.parameters)

    def update(self, confidences: ArrayLike, correct: ArrayLike) -> None:
        """Add rows.

        Args:
            confidences: of any shape; numbers, a NumPy array, or a tensor of any type on any device.
            correct: as many outcomes, 1 for right and 0 for wrong.

        Raises:
            ConfideError: shapes that differ; values that no metric takes are told when it is computed.
        """
        x, y = _array(confidences), _array(correct)
        if x.shape != y.shape:
            raise ConfideError(f"{self.metric.__name__}: confidences of shape {x.shape}, outcomes of shape {y.shape}")
        needed = self._count + x.size
        if needed > self._rows.shape[1]:
            room = np.empty((2, max(needed, 2 * self._rows.shape[1], _FIRST_ROOM)))
            room[:, : self._count] = self._rows[:, : self._count]
            self._rows = room
        self._rows[:, self._count : needed] = x.ravel(), y.ravel()
        self._count = needed

    def compute(self) -> float:
        """The metric of all rows so far.

        Raises:
            ConfideError: no rows, or rows that the metric does not take, such as a confidence that is missing.
        """
        return self.metric(*_of_all_processes(self._rows[:, : self._count]), None, **self.parameters)

    def reset(self) -> None:
        """Forget all rows."""
        self._rows, self._count = np.empty((2, 0)), 0

    def merge(self, *others: Accumulator) -> None:
        """Add the rows of other accumulators of the same metric, such as those of other workers.

        Raises:
            ConfideError: one of another metric or with other parameters.
        """
        for other in others:
            if (other.metric, other.parameters) != (self.metric, self.parameters):
                raise ConfideError(f"{self!r} takes no rows of {other!r}: their metrics differ")
            self.update(*other._rows[:, : other._count])

    def clone(self) -> Self:
        """A copy with the same rows."""
        return deepcopy(self)


def _array(values: Any) -> Floats:
    """Numbers of any kind as an array; a tensor may be on a device, have a gradient or be of bfloat16."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    return np.asarray(values, dtype=np.float64)


def _of_all_processes(rows: Floats) -> Floats:
    """The rows [2, n] of every process of ``torch.distributed``, in their order; those given where it does not run."""
    distributed: Any = sys.modules.get("torch.distributed")  # whoever runs it has imported it
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return rows
    every: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, rows)
    return np.concatenate(every, axis=1)
