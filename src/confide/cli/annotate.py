"""``confide annotate``: a model answers a task's questions, the grader marks the answers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class AnswerBy(StrEnum):
    """How choices are answered."""

    options = "options"
    generation = "generation"


def annotate(
    out: Annotated[Path, typer.Option(help="Records file (JSON lines); an existing one is continued.")],
    model: Annotated[str, typer.Option(help="`smollm2`, a model folder or a hub name.")] = "smollm2",
    task: Annotated[
        str, typer.Option(help="A name from `confide tasks` (`NAME/train`: another part), or a question file.")
    ] = "geography",
    data_dir: Annotated[
        Path | None, typer.Option(help="Take the task from a folder of question files, named NAME-test.jsonl.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask at most this many questions.")] = None,
    answer_by: Annotated[
        AnswerBy | None,
        typer.Option(help="Choices: the likeliest option's text (the default), or a letter that the model writes."),
    ] = None,
    reject: Annotated[
        float | None, typer.Option(help="Remove the right option from this share of the choice questions.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Sampled answers beside the greedy one.")] = 0,
    temperature: Annotated[float, typer.Option(min=0.01, help="Temperature of the samples.")] = 1.0,
    by: Annotated[str, typer.Option(help="How rows are split: `standard` or `relation`.")] = "standard",
    batch_size: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the questions drawn, the splits and the samples.")] = 0,
) -> None:
    """Answer a task's questions and grade the answers; a killed run continues where it stopped.

    Example: `confide annotate --model smollm2 --task geography --limit 4000 --out runs/records.jsonl`
    """
    from rich.console import Console

    from confide.annotation import annotate as run
    from confide.annotation import split_questions
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.checkpoint import load_checkpoint
    from confide.methods.rlmf.tagged import tagged_task
    from confide.progress import progress_bar
    from confide.records import read_records
    from confide.tasks import load_task
    from confide.tasks.unanswerable import without_right_options

    loaded = load_task(task, limit=limit, seed=seed, data_dir=data_dir)
    if reject is not None:
        loaded = without_right_options(loaded, reject, seed)
    splits = split_questions(loaded.questions, by, seed)
    if Path(model).is_dir() and load_checkpoint(Path(model)).statement == "tagged":
        loaded = tagged_task(loaded)
    engine = TransformersEngine.load(model)
    with progress_bar("annotating") as progress:
        run(
            engine,
            loaded,
            out,
            splits=splits,
            answer_by=None if answer_by is None else answer_by.value,
            samples=samples,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
    records = read_records(out)
    graded = [r for r in records if r.correct is not None]
    right = sum(bool(r.correct) for r in graded)
    cut = sum(r.finish == "length" for r in records)
    Console(soft_wrap=True).print(
        f"{out}: {len(records)} answers, {right} of {len(graded)} right ({right / max(1, len(graded)):.1%}), "
        f"{sum(r.answered is None for r in graded)} name no answer, {cut} cut ({cut / len(records):.1%})"
    )
