"""uqlm: confidences from the log-probabilities that a server sent with its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from benchmarks.speed.peers.side_loop import Config, Work, serve


def prepare(config: Config) -> Mapping[str, Work]:
    from uqlm.scorers import WhiteBoxUQ

    logged = [[{"token": "a", "logprob": value} for value in row] for row in config["logprobs"]]

    def columns(normalized: bool, names: list[str]) -> dict[str, list[float]]:
        scorer = WhiteBoxUQ(scorers=names, length_normalize=normalized)
        data = asyncio.run(scorer.score(logprobs_results=logged, show_progress_bars=False)).data
        return {name: [float(value) for value in data[name]] for name in names}

    def score() -> dict[str, Any]:
        mean = columns(True, ["sequence_probability", "min_probability"])
        whole = columns(False, ["sequence_probability"])
        return {
            "logprob_sum": whole["sequence_probability"],
            "logprob_mean": mean["sequence_probability"],
            "logprob_min": mean["min_probability"],
        }

    return {"read": score}


if __name__ == "__main__":
    serve(prepare, ("uqlm", "numpy", "transformers"))
