"""Two Ray workers against one: questions a second, once all workers have their model.

    python -m benchmarks.engines.ray_workers            both ways, in an environment with confide[model,ray]
    python -m benchmarks.engines.ray_workers --bound     only the model that computes: on a quiet machine of two cores

*waiting*: a tiny model whose every batch also sleeps, as one does that waits for an accelerator: what the cluster
itself costs. *computing*: the bundled model with one thread a worker. Both take the blocks of the second half of a run,
and runs with one worker and with two take turns.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import MODEL, Json, machine, parser, put, read_json, table, write_result
from confide.cluster import Cluster, annotate_on_ray, ray_cluster
from confide.engines.engine import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.tasks import load_task
from tiny_model import tiny_model

LATENCY_S, ROUNDS, BATCH = 0.5, 3, 8
QUESTIONS = {"waiting": 240, "computing": 400}


class WaitingEngine(TransformersEngine):
    """A tiny model whose batches take `LATENCY_S` longer."""

    def answer(self, prompts: Sequence[list[int]], max_new_tokens: int, **more: Any) -> list[Completion]:
        """As the model answers, later."""
        time.sleep(LATENCY_S)
        return super().answer(prompts, max_new_tokens, **more)


def waiting(device: str | None) -> TransformersEngine:
    """Without weights to read."""
    model, tokenizer = tiny_model(context=1024)
    return WaitingEngine(model.float(), tokenizer, "tiny")


def computing(device: str | None) -> TransformersEngine:
    """The bundled model, on a CPU."""
    return TransformersEngine.load(MODEL, device="cpu")


WAYS = {"waiting": waiting, "computing": computing}


def rate(cluster: Cluster, way: str, out: Path) -> float:
    """Questions a second in the second half of a run."""
    told: list[tuple[float, int]] = []
    task = load_task("geography", limit=QUESTIONS[way], seed=0)

    def progress(done: int, of: int, note: str) -> None:
        told.append((time.monotonic(), done))

    annotate_on_ray(cluster, WAYS[way], task, out, batch_size=BATCH, progress=progress)
    (began, before), (ended, after) = told[len(told) // 2], told[-1]
    return (after - before) / (ended - began)


def measure(way: str) -> Json:
    """Rounds of one worker and two."""
    found: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, ray_cluster("local", 2) as cluster:
        for number in range(ROUNDS):
            for workers in (1, 2):
                some = Cluster(workers, 1, cluster.gpus)
                found[workers].append(rate(some, way, Path(folder) / f"{number}-{workers}"))
                print(f"{way}, {workers} workers: {found[workers][-1]:.2f} questions/s", flush=True)
    ratios = sorted(two / one for one, two in zip(found[1], found[2], strict=True))
    about: Json = {"questions": QUESTIONS[way], "batch": BATCH, "rounds": ROUNDS}
    about |= {"latency_s": LATENCY_S} if way == "waiting" else {}
    return {**about, "one": found[1], "two": found[2], "ratio": median(ratios), "ratios": ratios}


def write(found: Json) -> None:
    """Put the table into the page."""
    lines = [
        [name, f"{median(way['one']):.1f}", f"{median(way['two']):.1f}", f"{way['ratio']:.2f}", ranged(way["ratios"])]
        for name, way in found["ways"].items()
    ]
    head = "model | >questions/s, one worker | >two workers | >times as fast | >lowest to highest of the rounds"
    put("docs/how-to/ray.md", {"workers": table(head, lines)})


def ranged(values: Sequence[float]) -> str:
    """The lowest and the highest."""
    return f"{min(values):.2f} to {max(values):.2f}"


def main() -> None:
    """Measure, and write result and table; what was measured before stays."""
    options = parser(__doc__, "ray_workers")
    options.add_argument("--bound", action="store_true", help="only the model that computes")
    options.add_argument("--stub", action="store_true", help="only the model that waits")
    given = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    ways: Json = read_json(given.out)["ways"] if given.out.exists() else {}
    for way in WAYS:
        if not (given.bound and way == "waiting") and not (given.stub and way == "computing"):
            ways[way] = measure(way)
    about = {"machine": machine("ray"), "threads_a_worker": 1, "ways": {way: ways[way] for way in WAYS if way in ways}}
    write(write_result(given.out, "engines/ray_workers.py", about))


if __name__ == "__main__":
    main()
