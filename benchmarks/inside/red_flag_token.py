"""Red-flag tokens: the paper's generative method on the outputs of `red_flag`, and what it does to the model.

    python -m benchmarks.inside.red_flag_token --data-dir DIR     # after benchmarks.inside.red_flag

Per seed, `confide train red-flag --method token` is trained on the rows that train the reading. Its score is the
token's probability along the output, smoothed and thresholded as the reading's; the token itself is never written, so
detection under suppression is detection. Drift: KL to the base on held-out harmless outputs, accuracy on geography, and
the log-likelihood of held-out harmful outputs, which must not rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import MODEL, RESULTS, Json, Work, parser, show_progress, write_result
from benchmarks.inside import red_flag_token_tables
from benchmarks.inside.red_flag import RESAMPLES, SEEDS, Scored, Tests, deal, judged
from benchmarks.inside.red_flag_data import outputs, used
from benchmarks.inside.red_flag_states import Outputs, with_states
from confide.engines.closed_records import read_closed, written_spans
from confide.engines.transformers.loading import load_model
from confide.engines.transformers.tails import run_tails
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.along.smoothing import CHOICES
from confide.methods.finetuning.supervised import kl_to_base
from confide.methods.red_flag.flag_config import FlagConfig, FlagOptions
from confide.methods.red_flag.flag_reading import flag_id, flag_log_odds, lowest
from confide.methods.red_flag.flag_training import drawn, train_flag_token
from confide.metrics import auroc
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.numeric import Floats, Ints
from confide.records import Record
from confide.tasks import Task, load_task

ROWS, HELD_ROWS = 200, 100
"""Answers of each kind that are trained on and that choose, to bound the time on processors."""

DRIFT_ROWS = 100
GEOGRAPHY = 400


def main() -> None:
    options = parser(__doc__, "red_flag")
    options.set_defaults(out=RESULTS / "red_flag_token.json")
    options.add_argument("--data-dir", type=Path, default=None, help="question files; without it, the hub")
    options.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="which draws (default: %(default)s)")
    options.add_argument("--harmless-weights", default=FlagOptions().harmless_weights, help="default: %(default)s")
    arguments = options.parse_args()
    work, weights = Work(arguments.work), FlagOptions(arguments.harmless_weights)
    pooled, tested = outputs(work.folder, arguments.data_dir, lambda: work.engine)
    pool = with_states(lambda: work.engine, work.folder, "pool", used(pooled)[0])
    test = with_states(lambda: work.engine, work.folder, "test", tested)
    cells = [
        work.stage(f"token-{seed}-{weights.harmless_weights}", partial(cell, work, pool, test, weights, seed))
        for seed in arguments.seeds
    ]
    made = {"machine": work.machine(), "resamples": RESAMPLES, "rows": ROWS, "held_rows": HELD_ROWS, "cells": cells}
    result = write_result(arguments.out, "inside/red_flag_token.py", made)
    if arguments.out.parent == RESULTS:
        red_flag_token_tables.write(result)


def cell(work: Work, pool: Outputs, test: Outputs, options: FlagOptions, seed: int) -> Json:
    """One draw: detection and alarms of the token, and what training did to the model."""
    parts, folder = deal(pool, len(pool.records), seed), work.folder / f"token-model-{seed}"
    train, validation = ([pool.records[row] for row in parts[part]] for part in ("train", "validation"))
    validation = drawn(validation, HELD_ROWS, seed)
    config = FlagConfig(max_rows=ROWS, patience=1, seed=seed)
    trained = train_flag_token(
        lambda: load_model(MODEL), train, validation, options.candidates(config), folder,
        most_drift=options.most_drift, base_model=MODEL, progress=show_progress(f"token {seed}"),
    )  # fmt: skip
    engine = TransformersEngine.load(str(folder))
    smoothing = chosen_smoothing(work.engine, engine, validation)
    tests = Tests.of(pool, test, parts["test"])
    bootstrap = Bootstrap([record.cluster for record in tests.records], resamples=RESAMPLES, seed=seed)

    def score(some: Outputs, rows: Ints) -> Floats:
        return scores(work.engine, engine, [some.records[row] for row in rows], smoothing)

    found = Scored.of(pool, parts, tests, score)
    return {
        "seed": seed,
        "harmless_weight": trained.config.harmless_weight,
        "tried": [vars(one) | {"harmless_weight": config.harmless_weight} for config, one in trained.tried],
        "smoothing": smoothing,
        "source": judged(found, tests, bootstrap),
        "drift": drift(work.engine, engine, tests, seed),
    }


def scores(base: TransformersEngine, engine: TransformersEngine, records: Sequence[Record], smoothing: str) -> Floats:
    """The lowest smoothed log-odds of "no flag" along each output, [n]."""
    prompts, answers = zip(*written_spans(base, records), strict=True)
    return np.array([lowest(z, smoothing) for z in flag_log_odds(engine, prompts, answers)])


def chosen_smoothing(base: TransformersEngine, engine: TransformersEngine, validation: Sequence[Record]) -> str:
    """The smoothing with the best AUROC on validation rows."""
    prompts, answers = zip(*written_spans(base, validation), strict=True)
    read, right = flag_log_odds(engine, prompts, answers), np.array([bool(record.correct) for record in validation])
    return max(CHOICES, key=lambda smoothing: float(auroc(np.array([lowest(z, smoothing) for z in read]), right)))


def drift(base: TransformersEngine, engine: TransformersEngine, tests: Tests, seed: int) -> Json:
    """KL on harmless test outputs, accuracy on geography, and the log-likelihood of harmful test outputs."""
    draw = np.random.default_rng(seed)

    def some(group: str) -> list[Record]:
        rows = tests.groups[group]
        return [tests.records[row] for row in draw.permutation(rows)[:DRIFT_ROWS]]

    harmless, harmful = some("harmless: harmless"), some("harmful")
    changes = log_likelihoods(engine, harmful) - log_likelihoods(base, harmful)
    spread = Bootstrap([record.cluster for record in harmful], resamples=RESAMPLES, seed=seed)
    task = load_task("geography", limit=GEOGRAPHY, seed=seed)
    right = [
        np.array([bool(task.grade(q, a).correct) for q, a in zip(task.questions, answers(one, task), strict=True)])
        for one in (base, engine)
    ]
    asked = Bootstrap([question.entity or question.id for question in task.questions], resamples=RESAMPLES, seed=seed)
    gained = right[1].astype(float) - right[0].astype(float)
    return {
        "kl": divergence(base, engine, harmless),
        "log_likelihood": estimate(spread.mean(changes, np.arange(len(changes)))),
        "accuracy_before": float(right[0].mean()),
        "accuracy": estimate(asked.mean(gained, np.arange(len(gained)))),
    }


def answers(engine: TransformersEngine, task: Task) -> list[str]:
    """Greedy answers to a task's questions."""
    prompts = [engine.encode(task.prompt(question)) for question in task.questions]
    found = [""] * len(prompts)
    for rows in engine.batches(prompts):
        for i, completion in zip(rows, engine.answer([prompts[i] for i in rows], task.max_new_tokens), strict=True):
            found[i] = completion.text
    return found


def log_likelihoods(engine: TransformersEngine, records: Sequence[Record]) -> Floats:
    """Log-probability of each output in nats a token, [n]."""
    named = [record.model_copy(update={"model": engine.name}) for record in records]
    found = np.empty(len(named))
    for rows, closed in read_closed(engine, named, measure=True):
        for i, completion in zip(rows, closed.completions, strict=True):
            found[i] = np.mean(completion.logprobs)
    return found


@torch.no_grad()
def divergence(base: TransformersEngine, engine: TransformersEngine, records: Sequence[Record]) -> float:
    """KL from the base model's next-token distribution to the trained one's, in nats a token of the outputs."""
    flag, total, tokens = flag_id(engine.tokenizer), 0.0, 0
    for prompt, answer in written_spans(base, records):
        logits = [
            one.forward.logits(run_tails(one.forward, [prompt], [answer]).hidden[0]).float() for one in (base, engine)
        ]
        known = torch.full_like(logits[1], -torch.inf)
        known[:, : logits[0].shape[1]] = logits[0][:, : known.shape[1]]
        total += float(kl_to_base(logits[1], known, [flag])) * len(known)
        tokens += len(known)
    return total / tokens


if __name__ == "__main__":
    main()
