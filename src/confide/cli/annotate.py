"""``confide annotate``: a model answers a task's questions, the grader marks the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from confide.cli.engines import DEFAULT_MODEL, EngineName, Judge, judge_of_rows, judged_rows, load_engine
from confide.cli.exit_codes import ExitCode
from confide.cli.flags import ChatTemplateKwargs, Flags, Json, Ray, Workers, parse_mapping
from confide.cli.last_lines import beside, tell_next
from confide.cli.on_ray import annotate_there, cluster_of
from confide.cli.outputs import Folder, say
from confide.cli.printing import print_json, warn, warn_of_shortages
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.files import is_stream
from confide.progress import progress_bar

if TYPE_CHECKING:
    from confide.methods.checkpoint import CheckpointInfo
    from confide.records import Record
    from confide.tasks.task import Task as Asked

Out = Annotated[Path, Option(help="Records file (JSON lines); an existing one is continued."), Folder(when="ray")]
Model = Annotated[str, Option(help="`smollm2`, a model folder, a hub name, or what the server calls it.")]
Task = Annotated[str, Option(help="A name from `confide tasks` (`NAME/train`: another part), or a question file.")]
DataDir = Annotated[Path | None, Option(help="Take the task from a folder of question files, named NAME-test.jsonl.")]
AnswerBy = Annotated[
    Literal["options", "generation"] | None,
    Option(help="Choices: the likeliest option's text (the default), or a letter that the model writes."),
]
Grader = Annotated[
    str | None,
    Option(metavar="MODULE:FUNCTION", help="Grade by a function of the question (a dictionary) and the answer's text."),
]
MaxNewTokens = Annotated[
    int | None, Option(min=1, help="Room for an answer and the reasoning before it; by default the task's.")
]
Reject = Annotated[float | None, Option(help="Remove the right option from this share of the choice questions.")]


def annotate(
    out: Out,
    endpoint: Annotated[EndpointConfig, Flags()],
    model: Model = DEFAULT_MODEL,
    engine: EngineName = "transformers",
    task: Task = "geography",
    data_dir: DataDir = None,
    limit: Annotated[int | None, Option(min=1, help="Ask at most this many questions.")] = None,
    answer_by: AnswerBy = None,
    reject: Reject = None,
    grader: Grader = None,
    judge: Judge = None,
    samples: Annotated[int, Option(min=0, help="Sampled answers beside the greedy one.")] = 0,
    temperature: Annotated[float, Option(min=0.01, help="Temperature of the samples.")] = 1.0,
    by: Annotated[str, Option(help="How rows are split: `standard` or `relation`.")] = "standard",
    max_new_tokens: MaxNewTokens = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    batch_size: Annotated[int, Option(min=1, help="Questions answered together.")] = 64,
    seed: Annotated[int, Option(help="Seed of the questions drawn, the splits and the samples.")] = 0,
    ray: Ray = None,
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Answer a task's questions and grade the answers; a killed run continues where it stopped, with the same settings.

    Exit code 4 when questions were left out: `--by relation` finds no split for those whose entity is asked about both
    in the tested domain and in others, a data set may hold rows without a reference, and a server may have given no
    answer; the same command again asks those alone.

    Example: `confide annotate --model smollm2 --task geography --limit 4000 --out runs/records.jsonl`

    Example: `confide annotate --engine openai --base-url http://127.0.0.1:8000/v1 --model NAME --out records.jsonl`
    """
    from confide import annotation
    from confide.records import check_records_file, read_records
    from confide.tasks import load_task

    on = cluster_of(ray, workers, {"--engine": engine != "transformers", "--judge": judge})
    if on is None:
        check_records_file(out, appended=True)
    loaded = _changed(load_task(task, limit=limit, seed=seed, data_dir=data_dir), grader, reject, seed)
    splits = annotation.split_questions(loaded.questions, by, seed)
    loaded, info = _asked_as(loaded, model, max_new_tokens)
    template = info.chat_template_kwargs | parse_mapping(chat_template_kwargs)
    judges = judge_of_rows(engine, endpoint, judge, out)
    with progress_bar("annotating") as progress:
        run = partial(annotate_there, on, endpoint) if on else partial(_annotate_here, engine, endpoint)
        new = run(
            model, template, loaded, out, splits=splits, answer_by=answer_by, samples=samples, temperature=temperature,
            batch_size=batch_size, seed=seed, progress=progress,
        )  # fmt: skip
    silent = judged_rows(judges, out)
    answered = [] if is_stream(out) else read_records(out)
    warn_of_shortages(answered)
    if json:
        print_json({"out": str(out), "new": new, **_counts(answered)})
    else:
        say(out, f"{out}: {_summary(answered) if answered else f'{new} answers'}")
        _tell_next(out, engine, model, trained=info.trained)
    _tell_left_out(loaded, splits, len(answered) or new, silent)


def _asked_as(task: Asked, model: str, room: int | None) -> tuple[Asked, CheckpointInfo]:
    """The task as a model is to be asked it, with ``room`` for an answer, and what is known of the model."""
    from confide.methods.catalogue import ask_as
    from confide.methods.checkpoint import read_info

    info = read_info(Path(model))
    task = ask_as(info, task)
    return replace(task, max_new_tokens=room or task.max_new_tokens), info


def _annotate_here(
    engine: str, endpoint: EndpointConfig, model: str, template: Mapping[str, Any], task: Asked, out: Path, **how: Any
) -> int:
    """Annotate with an engine of this process, into a file; how many records are new."""
    from confide import annotation

    return annotation.annotate(load_engine(engine, endpoint, model, chat_template_kwargs=template), task, out, **how)


def _changed(task: Asked, grader: str | None, reject: float | None, seed: int) -> Asked:
    """The task with another grader, and without some right options."""
    from confide.tasks.python_grader import graded_by
    from confide.tasks.task import without_right_options

    task = graded_by(task, grader)
    return task if reject is None else without_right_options(task, reject, seed)


def _tell_next(out: Path, engine: str, model: str, *, trained: bool) -> None:
    """Say what to do with the records: score them by what is trained, or train something."""
    if engine != "transformers":
        tell_next("confide train portable", out, "--out", beside(out, "portable"))
    elif trained:
        tell_next("confide score", out, "--model", Path(model), "--out", beside(out, "scored.jsonl"))
    else:
        named: list[str | Path] = [] if model == DEFAULT_MODEL else ["--model", Path(model)]
        tell_next("confide train stack", out, *named, "--out", beside(out, "trained"))


def _tell_left_out(task: Asked, splits: Mapping[str, str], answered: int, silent: int) -> None:
    """Say on standard error what was not asked, and end with the exit code that means it."""
    unsplit = [q.id for q in task.questions if q.id not in splits]
    without_reference, unanswered = task.without_reference, len(splits) - answered
    if unsplit:
        shown = ", ".join(unsplit[:3]) + (", …" if len(unsplit) > 3 else "")
        warn(
            f"{len(unsplit)} questions were not asked, because any split would put what they are about on two sides "
            f"({shown})"
        )
    if without_reference:
        warn(f"{without_reference} rows of the data set have no reference and were not asked")
    if unanswered:
        warn(f"{unanswered} questions got no answer; the same command again asks those alone")
    if silent:
        warn(f"{silent} answers got no verdict of the judge; the same command again asks for those alone")
    if unsplit or without_reference or unanswered or silent:
        raise typer.Exit(ExitCode.LEFT_OUT)


def _counts(records: Sequence[Record]) -> dict[str, int]:
    """How many answers there are, and of which kinds."""
    graded = [r for r in records if r.correct is not None]
    return {
        "answers": len(records),
        "graded": len(graded),
        "right": sum(bool(r.correct) for r in graded),
        "name_no_answer": sum(r.answered is None for r in graded),
        "cut": sum(r.finish == "length" for r in records),
    }


def _summary(records: Sequence[Record]) -> str:
    n, graded, right, unnamed, cut = _counts(records).values()
    ungraded = f", {n - graded} without a grade" if graded < n else ""
    if judged := [r.judged for r in records if r.correct is None and r.judged is not None]:
        ungraded += f", of which {judged.count(True)} are right and {judged.count(False)} wrong by the judge's word"
    return (
        f"{n} answers, {right} of {graded} right ({right / max(1, graded):.1%}), "
        f"{unnamed} name no answer, {cut} cut ({cut / n:.1%}){ungraded}"
    )
