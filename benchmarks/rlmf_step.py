"""What an optimisation step of RLMF costs beside TRL's own GRPO step on the same completions.

    python benchmarks/rlmf_step.py --start runs/rlmf/0-format      # a model that states its confidence

Completions are sampled once and replayed to both trainers, a few steps of each in turn, so that both see the same work
in the same minutes. TRL's trainer gets its rewards from a list; RLMF's reads and grades the completions, computes g,
and asks for the self-judgement, whose share is taken out and shown apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from confide.engines.transformers.loading import default_device, load_model
from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.files import write_text
from confide.methods.rlmf.graded import Graded
from confide.methods.rlmf.rlmf_trainer import RLMFConfig, RLMFTrainer
from confide.methods.rlmf.rollouts import Asked, ask, sample
from confide.records import read_records
from confide.tasks import load_task
from machine import note, noted
from table import put

HERE = Path(__file__).parent
GPU = default_device() == "cuda"
GROUP, QUESTIONS, STEPS, ROUNDS = (16, 8, 6, 4) if GPU else (8, 1, 3, 3)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds of every step; the first of a run warms up."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began)


class Replayed(RLMFTrainer):
    """RLMF's trainer on completions that are there already."""

    replay: list[list[Completion]]

    def rollout(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        self.completions = self.replay[self.state.global_step]
        return tokens(self.stating, [self.asked[int(p)] for p in prompts], self.completions)


def tokens(stating: Any, asked: Sequence[Asked], completions: Sequence[Completion]) -> dict[str, Any]:
    return {
        "prompt_ids": [one.prompt for one in asked],
        "completion_ids": [stating.written(c) for c in completions],
        "logprobs": None,
    }


def settings(kind: type[GRPOConfig], folder: str, **more: Any) -> Any:
    same = vars(RLMFConfig(output_dir=folder))
    names = (
        "learning_rate", "beta", "lr_scheduler_type", "warmup_steps", "max_grad_norm", "loss_type", "scale_rewards",
        "temperature", "bf16", "gradient_checkpointing", "report_to", "disable_tqdm", "remove_unused_columns",
        "dataloader_pin_memory",
    )  # fmt: skip
    return kind(
        output_dir=folder, max_steps=STEPS, num_generations=GROUP, per_device_train_batch_size=GROUP * QUESTIONS,
        gradient_accumulation_steps=1, save_strategy="no", logging_steps=1, shuffle_dataset=False,
        **{name: same[name] for name in names}, **more,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", required=True, help="a folder of confide train rlmf")
    parser.add_argument("--records", type=Path, default=Path("runs/rlmf/pool.jsonl"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "rlmf_step.json")
    arguments = parser.parse_args()
    task = load_task("geography", limit=1)
    records = read_records(arguments.records)[: QUESTIONS * STEPS]
    found: dict[str, list[float]] = {"trl": [], "rlmf": [], "self-judgement": []}
    replay: list[list[Completion]] = []
    for number in range(ROUNDS):
        for kind in ("trl", "rlmf") if number % 2 else ("rlmf", "trl"):
            with tempfile.TemporaryDirectory() as folder:
                run(kind, arguments.start, task, records, replay, folder, found)
    ratio = np.median(np.array(found["rlmf"]) - np.array(found["self-judgement"])) / np.median(found["trl"])
    result = {
        "schema": 1,
        "made_by": "benchmarks/rlmf_step.py",
        "completions": GROUP * QUESTIONS,
        "steps": len(found["trl"]),
        "seconds": {name: float(np.median(values)) for name, values in found.items()},
        "ratio": float(ratio),
        "ratio_with_self_judgement": float(np.median(found["rlmf"]) / np.median(found["trl"])),
    }
    with tempfile.TemporaryDirectory() as folder:
        note(Path(folder))
        result["machine"] = noted(Path(folder))
    write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    write_table(result)


def run(
    kind: str, start: str, task: Any, records: Sequence[Any], replay: list[Any], folder: str, found: dict[str, Any]
) -> None:
    model, tokenizer = load_model(start)
    stating = Graded(TransformersEngine(model, tokenizer))
    asked = ask(stating, task, records)
    if not replay:
        for step in range(STEPS):
            some = asked[step * QUESTIONS : (step + 1) * QUESTIONS]
            replay.append(sample(stating, some, GROUP, task.max_new_tokens + 1, temperature=1.0, seed=step))
    adapted = get_peft_model(model, LoraConfig(r=32, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM"))
    rows = Dataset.from_list([{"prompt": str(row)} for row in range(len(asked))])
    clock = Clock()
    common: dict[str, Any] = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [clock]}
    if kind == "trl":
        trainer: Any = GRPOTrainer(
            adapted,
            [lambda prompts, **_: [float(i % 3) for i in range(len(prompts))]],
            settings(GRPOConfig, folder),
            rollout_func=lambda prompts, at: tokens(
                stating, [asked[int(p)] for p in prompts], replay[at.state.global_step]
            ),
            **common,
        )
    else:
        trainer = Replayed(adapted, settings(RLMFConfig, folder), stating=stating, task=task, asked=asked, **common)
        trainer.replay = replay
    trainer._send_telemetry = lambda: None
    trainer.remove_callback(PrinterCallback)
    judged: list[float] = []
    if kind == "rlmf":
        original = trainer._self_judged

        def timed(rollouts: Any) -> Any:
            before = trainer.judged_seconds
            scores = original(rollouts)
            judged.append(trainer.judged_seconds - before)
            return scores

        trainer._self_judged = timed
    trainer.train()
    found[kind] += clock.seconds[1:]
    found["self-judgement"] += judged[1:]
    print(f"{kind}: {np.median(clock.seconds[1:]):.3f} s a step", flush=True)


def write_table(result: dict[str, Any]) -> None:
    s, device = result["seconds"], result["machine"].get("device", "unknown device")
    text = (
        f"{result['completions']} completions a step, {result['steps']} steps of each trainer in turn "
        f"({device}): TRL's step {s['trl']:.3f} s, RLMF's {s['rlmf']:.3f} s, "
        f"of which the self-judgement {s['self-judgement']:.3f} s. Ratio without it {result['ratio']:.2f}, with it "
        f"{result['ratio_with_self_judgement']:.2f} (medians)."
    )
    put(HERE.parent / "docs" / "rlmf.md", {"step": text})


if __name__ == "__main__":
    main()
