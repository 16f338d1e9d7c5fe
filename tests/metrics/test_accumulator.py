"""Metrics fed batch by batch are the metrics of all rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.metrics import Accumulator, auroc, brier, ece, smooth_ece, spearman
from confide.metrics.metric import Metric

RNG = np.random.default_rng(0)
CONFIDENCE = RNG.random(3_000)
CORRECT = RNG.random(3_000) < CONFIDENCE**1.5


@pytest.mark.parametrize(
    ("metric", "parameters"),
    [(auroc, {}), (brier, {}), (ece, {"bins": 15}), (ece, {"kind": "mass"}), (smooth_ece, {})],
)
def test_batches_give_what_all_rows_give(metric: Metric[Any], parameters: dict[str, Any]) -> None:
    fed = Accumulator(metric, **parameters)
    for start in range(0, 3_000, 700):
        fed.update(CONFIDENCE[start : start + 700], CORRECT[start : start + 700])
    assert len(fed) == 3_000
    assert fed.compute() == metric(CONFIDENCE, CORRECT, **parameters)


def test_tensors_lists_and_shapes_are_taken() -> None:
    import torch

    fed = Accumulator(brier)
    fed.update(torch.tensor([[0.5, 0.25]], dtype=torch.bfloat16, requires_grad=True), torch.tensor([[True, False]]))
    fed.update([1.0], [1])
    fed.update(torch.tensor(0.5), torch.tensor(1))
    assert fed.compute() == pytest.approx((0.25 + 0.0625 + 0.0 + 0.25) / 4)


def test_a_call_gives_the_metric_of_its_rows_and_keeps_them() -> None:
    fed = Accumulator(brier)
    assert (fed([0.5], [1]), fed([1.0, 1.0], [1, 0])) == (0.25, 0.5)
    assert fed.compute() == pytest.approx(1.25 / 3)


def test_reset_merge_and_clone() -> None:
    first, second = Accumulator(auroc), Accumulator(auroc)
    first.update(CONFIDENCE[:1_000], CORRECT[:1_000])
    second.update(CONFIDENCE[1_000:], CORRECT[1_000:])
    both = first.clone()
    both.merge(pickle.loads(pickle.dumps(second)))
    assert both.compute() == auroc(CONFIDENCE, CORRECT)
    assert len(first) == 1_000
    first.reset()
    with pytest.raises(ConfideError, match="no rows"):
        first.compute()
    with pytest.raises(ConfideError, match=r"Accumulator\(ece, bins=5\): 0 rows: their metrics differ"):
        first.merge(Accumulator(ece, bins=5))


def test_any_number_may_be_the_outcome_of_a_correlation() -> None:
    fed = Accumulator(spearman)
    fed.update([0.1, 0.2, 0.3], [0.4, 0.6, 0.5])
    assert fed.compute() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("confidence", "correct", "said"),
    [([0.1, 0.2], [1], "of shape"), ([0.1, np.nan], [1, 0], "1 of 2 confidences are missing"), ([2.0], [1], "to 2")],
)
def test_bad_rows_are_told(confidence: list[float], correct: list[int], said: str) -> None:
    fed = Accumulator(ece)
    with pytest.raises(ConfideError, match=said):
        fed(confidence, correct)


def test_what_is_no_metric_is_refused() -> None:
    with pytest.raises(ConfideError, match="takes a metric"):
        Accumulator("auroc")  # type: ignore[arg-type]


def _one_process(rank: int, meeting: str, answers: Any) -> None:
    import torch

    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    fed = Accumulator(auroc)
    mine = slice(0, 500) if rank == 0 else slice(500, 3_000)
    fed.update(CONFIDENCE[mine], CORRECT[mine])
    answers[rank] = fed.compute()
    torch.distributed.destroy_process_group()


def test_processes_that_train_together_compute_over_all_their_rows(tmp_path: Path) -> None:
    import torch

    answers = torch.multiprocessing.Manager().dict()
    torch.multiprocessing.spawn(_one_process, args=(str(tmp_path / "meeting"), answers), nprocs=2)  # type: ignore[no-untyped-call]
    assert dict(answers) == dict.fromkeys((0, 1), auroc(CONFIDENCE, CORRECT))
