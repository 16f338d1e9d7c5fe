"""What an optimisation step of RLMF costs beside TRL's own GRPO step on the same completions.

    python -m benchmarks.rlmf.rlmf_step --start runs/rlmf/0-format      # a model that states its confidence

Completions are sampled once and replayed to both trainers, a few steps of each in turn, so that both see the same work
in the same minutes. TRL's trainer gets its rewards from a list; RLMF's reads and grades the completions, computes g,
and asks for the self-judgement, whose share is taken out and shown apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

from benchmarks.common import RESULTS, Json, machine, put, write_result
from confide.engines.engine import Completion
from confide.engines.transformers.loading import default_device, load_model
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.rlmf.rlmf_trainer import RLMFConfig, RLMFTrainer
from confide.methods.rlmf.rollouts import Environment
from confide.methods.rlmf.stating import Graded
from confide.records import Record, read_records
from confide.tasks import Task, load_task

GPU = default_device() == "cuda"
GROUP, QUESTIONS, STEPS, ROUNDS = (16, 8, 6, 4) if GPU else (8, 1, 3, 3)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds of every step, and of the self-judgement in it; the first of a run warms up."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.steps: list[list[float]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps.append([-time.perf_counter(), -self.judged])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps[-1][0] += time.perf_counter()
        self.steps[-1][1] += self.judged

    @property
    def judged(self) -> float:
        return float(getattr(self.trainer, "judged_seconds", 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", required=True, help="a folder of confide train rlmf")
    parser.add_argument("--records", type=Path, default=Path("runs/rlmf/pool.jsonl"))
    parser.add_argument("--out", type=Path, default=RESULTS / "rlmf_step.json")
    arguments = parser.parse_args()
    task = load_task("geography", limit=1)
    records = read_records(arguments.records)[: QUESTIONS * STEPS]
    found: dict[str, list[NDArray[np.float64]]] = {"trl": [], "rlmf": []}
    replay: list[list[Completion]] = []
    for number in range(ROUNDS):
        for kind in ("trl", "rlmf") if number % 2 else ("rlmf", "trl"):
            found[kind].append(run(kind, arguments.start, task, records, replay))
            print(f"{kind}: {np.median(found[kind][-1][:, 0]):.3f} s a step", flush=True)
    trl, (rlmf, judged) = np.concatenate(found["trl"])[:, 0], np.concatenate(found["rlmf"]).T
    taken = {"trl": np.median(trl), "rlmf": np.median(rlmf), "self-judgement": np.median(judged)}
    result = {
        "completions": GROUP * QUESTIONS,
        "steps": len(trl),
        "seconds": {name: float(value) for name, value in taken.items()},
        "ratio": float(np.median(rlmf - judged) / taken["trl"]),
        "ratio_with_self_judgement": float(taken["rlmf"] / taken["trl"]),
        "machine": machine(),
    }
    write(write_result(arguments.out, "rlmf/rlmf_step.py", result))


def run(
    kind: str, start: str, task: Task, records: Sequence[Record], replay: list[list[Completion]]
) -> NDArray[np.float64]:
    """A few steps of one trainer; seconds of each but the first, and of its self-judgement [steps − 1, 2]."""
    model, tokenizer = load_model(start)
    stating = Graded(TransformersEngine(model, tokenizer))
    environment = Environment(stating, task)
    asked = environment.question_prompts(records)
    for step in range(len(replay), STEPS):
        some = asked[step * QUESTIONS : (step + 1) * QUESTIONS]
        replay.append(environment.sample(some, GROUP, temperature=1.0, seed=step))

    def replayed(prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        trainer.completions = replay[trainer.state.global_step]
        return {
            "prompt_ids": [asked[int(prompt)].prompt for prompt in prompts],
            "completion_ids": [stating.completion_ids(completion) for completion in trainer.completions],
            "logprobs": None,
        }

    adapted = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = RLMFConfig(
            output_dir=folder, max_steps=STEPS, num_generations=GROUP, per_device_train_batch_size=GROUP * QUESTIONS,
            gradient_accumulation_steps=1, save_strategy="no", shuffle_dataset=False,
        )  # fmt: skip
        rows = Dataset.from_list([{"prompt": str(row)} for row in range(len(asked))])
        common: dict[str, Any] = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [clock]}
        if kind == "trl":
            reward = [lambda prompts, **_: [float(i % 3) for i in range(len(prompts))]]
            trainer: Any = GRPOTrainer(adapted, reward, args=config, rollout_func=replayed, **common)
            trainer._send_telemetry = lambda: None
        else:
            trainer = RLMFTrainer(adapted, config, environment=environment, questions=asked, **common)
            trainer.rollout_func = replayed
        clock.trainer = trainer
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return np.array(clock.steps[1:])


def write(result: Json) -> None:
    """Put the line into the page."""
    s, device = result["seconds"], result["machine"].get("device", "unknown device")
    text = (
        f"{result['completions']} completions a step, {result['steps']} steps of each trainer in turn "
        f"({device}): TRL's step {s['trl']:.3f} s, RLMF's {s['rlmf']:.3f} s, "
        f"of which the self-judgement {s['self-judgement']:.3f} s. Ratio without it {result['ratio']:.2f}, with it "
        f"{result['ratio_with_self_judgement']:.2f} (medians)."
    )
    put("docs/results/rlmf.md", {"step": text})


if __name__ == "__main__":
    main()
