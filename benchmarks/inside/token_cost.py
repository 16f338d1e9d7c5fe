"""What it costs to read every token while an answer is written: paired, interleaved rounds in one process.

    python -m benchmarks.inside.token_cost

The bundled model writes answers of a fixed length, alone and in batches, greedy; no answer may end earlier. Arms: plain
generation; two signals, each one direction over two layers; the same with a watch that looks at every token and stops
nothing; and, for comparison, keeping the states of those layers as a stack does. Every arm writes the same tokens,
which is checked. Times are CPU seconds of the process, so other work on the machine counts for little; intervals are
95 %, from a bootstrap over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.common import RESULTS, Json, Work, parser, write_result
from benchmarks.engines.paired_rounds import in_turn, ratio
from benchmarks.inside import token_cost_tables
from confide.engines.directions import Directions
from confide.engines.engine import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.along.along_reading import AlongReading, AlongRule
from confide.methods.along.stop_watch import StopWatch, joined

TOKENS = 96
LOADS = {1: 20, 16: 6}
"""Prompts at once, and rounds of each."""
SIGNALS = 2
ASKED = "Tell me about the number {}."

Arm = Callable[[list[list[int]]], list[Completion]]


def main() -> None:
    options = parser(__doc__, "token_cost")
    options.add_argument("--rounds", type=float, default=1.0, help="share of the rounds (default: all)")
    arguments = options.parse_args()
    work = Work(arguments.work)
    loads = {}
    for size, all_rounds in LOADS.items():
        rounds = max(2, round(arguments.rounds * all_rounds))
        loads[str(size)] = work.stage(f"load-{size}", partial(measured, work, size, rounds))
    made = {"machine": work.machine(), "tokens": TOKENS, "signals": SIGNALS, "loads": loads}
    result = write_result(arguments.out, "inside/token_cost.py", made)
    if arguments.out.parent == RESULTS:
        token_cost_tables.write(result)


def measured(work: Work, size: int, rounds: int) -> Json:
    """`measure` on the bundled model, loaded when it is first needed."""
    return measure(work.engine, size, rounds)


def readings(engine: TransformersEngine) -> list[AlongReading]:
    """Drawn signals on two layers; what they say does not matter."""
    draw = np.random.default_rng(0)
    layers = (round(0.4 * engine.depth), round(0.8 * engine.depth))
    found = []
    for number in range(SIGNALS):
        weight = draw.normal(size=(2, engine.width, 1)).astype(np.float32)
        rule = AlongRule(f"signal-{number}", "tokens", "average:16")
        found.append(AlongReading.of(rule, Directions(layers, weight, np.zeros(1, np.float32)), {}))
    return found


def arms(engine: TransformersEngine) -> dict[str, Arm]:
    """How a batch of prompts is answered."""
    signals = readings(engine)
    directions = joined(signals)
    assert directions is not None

    def watched(prompts: list[list[int]]) -> list[Completion]:
        watch = StopWatch(signals, {signal.rule.signal: -1.0 for signal in signals}, engine.decode)
        return engine.answer(prompts, TOKENS, directions=directions, watch=watch)

    return {
        "plain": lambda prompts: engine.answer(prompts, TOKENS),
        "read": lambda prompts: engine.answer(prompts, TOKENS, directions=directions),
        "watched": watched,
        "states": lambda prompts: engine.answer_and_close(prompts, TOKENS, directions.layers).completions,
    }


def measure(engine: TransformersEngine, size: int, rounds: int) -> Json:
    """CPU seconds of each arm on batches of ``size`` prompts, against plain generation."""
    engine._generator = replace(engine._generator, banned=sorted({*engine._generator.banned, *engine.end_ids}))
    answer = arms(engine)
    took: dict[str, list[float]] = {arm: [] for arm in answer}
    bytes_kept = 0
    for number in range(-1, rounds):  # the first one warms up
        asked = range(1000 + (number + 1) * size, 1000 + (number + 2) * size)
        prompts = [engine.encode([{"role": "user", "content": ASKED.format(i)}]) for i in asked]
        written: dict[str, list[list[int]]] = {}
        for arm in in_turn(list(answer), max(number, 0)):
            began = time.process_time()
            completions = answer[arm](prompts)
            seconds = time.process_time() - began
            written[arm] = [completion.ids for completion in completions]
            if number >= 0:
                took[arm].append(seconds)
            bytes_kept = max(bytes_kept, *(0 if c.shares is None else c.shares.nbytes for c in completions))
        if any(ids != written["plain"] for ids in written.values()):
            raise SystemExit("an arm wrote other tokens than plain generation")
    times = {arm: ratio(seconds, took["plain"]) for arm, seconds in took.items() if arm != "plain"}
    return {
        "prompts": size,
        "rounds": rounds,
        "ms_a_token": 1000 * sum(took["plain"]) / (rounds * size * TOKENS),
        "times": times,
        "bytes_a_token": bytes_kept / TOKENS,
    }


if __name__ == "__main__":
    main()
