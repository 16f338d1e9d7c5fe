"""RLMF beside its controls and its cheap rivals: one protocol, paired seeds, relations held out from training.

    python -m benchmarks.rlmf.rlmf                          # all stages; a killed run continues
    python -m benchmarks.rlmf.rlmf --stage format --seeds 0 # one stage, some seeds or rows: they may run side by side
    python -m benchmarks.rlmf.rlmf --stage judge            # only puts the tables together
    python -m benchmarks.rlmf.rlmf --sentences              # answers in full sentences, few rows on one seed

Stages: ``answers`` (the bundled model answers geography questions, K samples each), ``format`` (the format stage, with
true, constant and shuffled targets), ``train`` (reinforcement learning and its controls), ``answer`` (every final model
answers the test questions K times), ``judge`` (tables). A seed draws the training rows and holds out one relation;
every row of the table sees the same questions (`rlmf_study`, which says how many).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import common
from benchmarks.common import MODEL, RESULTS, annotated, load_engine, show_progress
from benchmarks.rlmf import rlmf_figures, rlmf_study, rlmf_tables
from benchmarks.rlmf.rlmf_study import BASE, FORMATS, GPU, SAMPLED, SEEDS, STEPS, TRAINED, Study, draw
from confide.methods.rlmf.format_stage import train_format
from confide.methods.rlmf.reinforcement import train_rlmf
from confide.methods.rlmf.rlmf_config import FormatConfig
from confide.methods.rlmf.rlmf_trainer import RLMFConfig
from confide.methods.scoring import score
from confide.model import load
from confide.records import write_records

STAGES = ("answers", "format", "train", "answer", "judge")


def form(study: Study, seed: int, row: str) -> None:
    """A format stage, in its folder."""
    rows = rlmf_study.trained_on(study, seed)
    train, validation = ([r for r in rows if r.split == part] for part in ("train", "validation"))
    config = FormatConfig(**{**vars(rlmf_study.FORMAT), "target": FORMATS[row], "seed": seed})
    train_format(MODEL, study.asked, train, validation, config, study.place(seed, row))


def train(study: Study, seed: int, row: str) -> None:
    """A trained row, in its folder, from the true format stage of its seed."""
    out, start = study.place(seed, row), str(study.place(seed, "format"))
    if (out / "confide.json").exists():
        return
    config = RLMFConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=STEPS,
        num_generations=rlmf_study.GROUP,
        per_device_train_batch_size=rlmf_study.GROUP * rlmf_study.QUESTIONS,
        gradient_accumulation_steps=1,
        eval_steps=STEPS // 2,
        save_steps=STEPS // 2,
        accuracy_margin=0.1,
        gradient_checkpointing=GPU,  # several runs share a device
        seed=seed,
        **TRAINED[row],
    )
    rows, progress = rlmf_study.trained_on(study, seed), show_progress(f"{seed} {row}")
    train_rlmf(start, study.asked, rows, config, out, rank=rlmf_study.FORMAT.rank, samples=SAMPLED, progress=progress)


def answer(study: Study, seed: int, row: str) -> None:
    """Validation and test questions, answered and sampled by a final model, with what it states and how it judges that.

    The untrained model's answers are in the pool; what it *says* when asked for a number stands for its statement.
    """
    out, folder, title = study.answers(seed, row), study.place(seed, row), f"{seed} {row}"
    if out.exists():
        return
    rows = [r for r in draw(study, seed) if r.split != "train"]
    sources = ["graded", "f_pred"]
    if row == BASE:
        sources = ["logprob_sum", *(["verbalized"] if GPU or seed == SEEDS[0] else [])]
    else:
        engine, splits = load_engine(str(folder)), {r.id: str(r.split) for r in rows}
        part = folder / "answers" / "records.jsonl"  # a folder of its own: several rows are answered side by side
        rows = annotated(
            lambda: engine, study.asked, part, title=title, count=len(rows), splits=splits, samples=SAMPLED, seed=seed,
        )  # fmt: skip
    model = load(MODEL if row == BASE else folder)
    write_records(out, score(rows, sources, model=model, progress=show_progress(title)))


def judge(study: Study, name: str) -> None:
    """Put the tables together."""
    result = {
        "machine": study.machine() | {"trl": version("trl")},
        "sizes": common.read_json(study.folder / "sizes.json"),
        **rlmf_figures.judged(study),
    }
    rlmf_tables.write(common.write_result(RESULTS / f"{name}.json", "rlmf/rlmf.py", result), study.sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", action="store_true", help="ask for full sentences; on the first seed")
    parser.add_argument("--work", type=Path, default=None, help="default: runs/rlmf or runs/rlmf-sentences")
    parser.add_argument("--stage", default=",".join(STAGES), help="stages, separated by commas")
    parser.add_argument("--seeds", default=None, help="default: all; with --sentences the first")
    parser.add_argument("--rows", default=None, help="names of rows, separated by semicolons")
    arguments = parser.parse_args()
    name = "rlmf-sentences" if arguments.sentences else "rlmf"
    study = Study(arguments.work or Path("runs") / name, arguments.sentences)
    usual = ([*rlmf_study.SENTENCE_ROWS, BASE], SEEDS[:1]) if study.sentences else ([*FORMATS, *TRAINED, BASE], SEEDS)
    named = arguments.rows.split(";") if arguments.rows else usual[0]
    seeds = [int(seed) for seed in arguments.seeds.split(",")] if arguments.seeds else usual[1]
    stages = arguments.stage.split(",")

    def each(stage: str, make: Callable[[Study, int, str], None], rows: list[str]) -> None:
        for seed, row in rlmf_study.wanted([row for row in rows if row in named], seeds) if stage in stages else []:
            make(study, seed, row)

    if "answers" in stages:
        rlmf_study.answers(study)
    each("format", form, [*FORMATS])
    each("train", train, [*TRAINED])
    each("answer", answer, [*FORMATS, *TRAINED, BASE])
    if "judge" in stages:
        judge(study, name)


if __name__ == "__main__":
    main()
