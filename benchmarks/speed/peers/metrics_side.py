"""netcal, scikit-learn and torchmetrics: metrics and calibration of many confidences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.speed.peers.side_loop import Config, Work, serve


def prepare(config: Config) -> Mapping[str, Work]:
    import numpy as np
    import torch
    from netcal.metrics import ECE
    from netcal.scaling import TemperatureScaling
    from sklearn.isotonic import IsotonicRegression
    from sklearn.metrics import brier_score_loss, roc_auc_score
    from torchmetrics.classification import BinaryAUROC, BinaryCalibrationError

    with np.load(config["arrays"]) as arrays:
        confidence, correct = arrays["confidence"], arrays["correct"]
    tensors = torch.from_numpy(confidence), torch.from_numpy(correct.astype(np.int64))

    def torched(metric: Any) -> dict[str, Any]:
        metric.update(*tensors)
        return {"value": float(metric.compute())}

    def temperature() -> dict[str, Any]:
        scaling = TemperatureScaling(method="mle")
        fitted = scaling.fit_transform(confidence, correct.astype(np.int64))
        return {"value": float(brier_score_loss(correct, np.ravel(fitted)))}

    def isotonic() -> dict[str, Any]:
        fitted = IsotonicRegression(out_of_bounds="clip").fit_transform(confidence, correct)
        return {"value": float(brier_score_loss(correct, fitted))}

    return {
        "ece netcal": lambda: {"value": float(ECE(10).measure(confidence, correct.astype(np.int64)))},
        "ece torchmetrics": lambda: torched(BinaryCalibrationError(n_bins=10, norm="l1")),
        "auroc scikit-learn": lambda: {"value": float(roc_auc_score(correct, confidence))},
        "auroc torchmetrics": lambda: torched(BinaryAUROC()),
        "brier scikit-learn": lambda: {"value": float(brier_score_loss(correct, confidence))},
        "temperature netcal": temperature,
        "isotonic scikit-learn": isotonic,
    }


if __name__ == "__main__":
    serve(prepare, ("netcal", "scikit-learn", "torchmetrics", "torch", "numpy"))
