"""``confide train``: a portable confidence, a stack, the reader with its stack, Self-REF, or RLMF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from confide.cli.exit_codes import ExitCode
from confide.cli.flags import Flags, command
from confide.cli.outputs import Folder
from confide.cli.printing import warn, warn_of_shortages
from confide.errors import ConfideError
from confide.methods.finetuning.supervised_config import option
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.red_flag.flag_config import FlagConfig, FlagOptions
from confide.methods.rlmf.rlmf_config import FormatConfig, How, RLMFSettings
from confide.methods.self_ref.self_ref_config import SelfRefConfig, SelfRefOptions
from confide.progress import progress_bar
from confide.signals import RED_FLAG, Signal, find_signal

if TYPE_CHECKING:
    from confide.methods.rlmf.reinforcement import RLMFResult
    from confide.records import Record

app = typer.Typer(no_args_is_help=True, help="Train a model to report its confidence.")
Records = Annotated[Path, Option(help="Annotated records with train and validation rows.")]
Out = Annotated[
    Path,
    Option(help="Folder for the trained checkpoint."),
    Folder("confide.json", "config.json", "run.json", "log.jsonl", "format.json", "choice.json"),
]
PartSignal = Annotated[
    str | None,
    Option(help="`field` or `claim`: records are of parts of answers; the folder carries it beside what is there."),
]
Model = Annotated[str, Option(help="The model that gave the answers: `smollm2`, a folder or a hub name.")]
StartingModel = Annotated[
    str, Option(help="The model that answered, or a folder of this verb: then its format stage is reused.")
]
Judge = Annotated[
    str | None, Option(help="A model that says whether answers agree with a sentence, for longer answers.")
]
Passes = Annotated[int, Option(min=1, help="Split a step's completions into this many passes, to save memory.")]
RLMF_FLAGS = Flags(
    "feedback offset faithfulness rewarded intrinsic max_steps num_generations learning_rate beta eval_steps"
)
SHOWN = {
    "cmfg_star": "cMFG*",
    "spearman": "rank correlation with g",
    "accuracy": "accuracy",
    "parsed": "confidence can be read",
}
"""The numbers on validation rows that the summary gives, before and after."""


@dataclass(frozen=True)
class Choice:
    """Which questions to train on."""

    select: How | None = option(None, "Train on some questions only: by the model's own rating, random, active.")
    select_rows: int = option(1000, "How many `--select` keeps.", min=1)
    select_source: str = option("logprob_sum", "The confidence that `--select active` holds against g.")


def portable(
    records: Annotated[Path, Option(help="Annotated records with train rows and log-probabilities.")],
    out: Annotated[Path, Option(help="Folder for `portable.json`."), Folder("portable.json")],
    *,
    signal: PartSignal = None,
    seed: Annotated[int, Option(help="Seed of the folds and of the kinds of question.")] = 0,
) -> None:
    """Learn a confidence from graded records alone, for any server that tells log-probabilities; no model is loaded.

    Example: `confide train portable --records runs/records.jsonl --out runs/portable`
    """
    from confide.methods.parts.part_training import train_parts
    from confide.methods.portable.portable_training import train_portable

    graded = _graded_rows(records)
    if not graded["train"]:
        raise ConfideError(f"{records}: there is no graded train row, of {sum(map(len, graded.values()))} graded ones")
    if signal is not None:
        typer.echo(train_parts(signal, graded["train"], graded["validation"], out, seed=seed))
        return
    summary = train_portable(graded["train"], out, seed)
    unused = len(graded["validation"])
    typer.echo(summary + (f"; nothing was chosen on the {unused} graded validation rows" if unused else ""))


def stack(
    records: Records,
    out: Out,
    *,
    model: Model = "smollm2",
    signal: PartSignal = None,
    options: Annotated[FrozenOptions, Flags()],
) -> None:
    """Train the stack: the portable confidence with a probe of the model's states; no reader.

    Example: `confide train stack --model smollm2 --records runs/records.jsonl --out runs/stack`
    """
    if signal is not None:
        _train_parts(records, out, model, signal, options)
        return
    _train_frozen(records, out, model, options)


def _train_parts(records: Path, out: Path, model: str, signal: str, options: FrozenOptions) -> None:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.parts.part_training import train_parts

    if options != FrozenOptions(seed=options.seed):
        raise ConfideError("--signal takes --seed and no other option of a stack")
    train, validation = _learning_rows(records)
    engine = TransformersEngine.load(model)
    with progress_bar("training") as progress:
        typer.echo(train_parts(signal, train, validation, out, engine=engine, seed=options.seed, progress=progress))


def reader(
    records: Records,
    out: Out,
    *,
    model: Model = "smollm2",
    config: Annotated[ReaderConfig, Flags("epochs learning_rate")],
    options: Annotated[FrozenOptions, Flags()],
) -> None:
    """Train the stack, and an adapter that reads the finished answer again; the model's answers stay as they are.

    Example: `confide train reader --model smollm2 --records runs/records.jsonl --out runs/reader`
    """
    _train_frozen(records, out, model, options, config)


def _train_frozen(
    records: Path, out: Path, model: str, options: FrozenOptions, reader: ReaderConfig | None = None
) -> None:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.frozen.frozen_training import train_confidence

    train, validation = _learning_rows(records)
    engine = TransformersEngine.load(model)
    with progress_bar("training") as progress:
        summary = train_confidence(engine, train, validation, options, out, reader=reader, progress=progress)
    typer.echo(summary)


def signal(
    records: Annotated[Path, Option(help="Records whose labels are about the signal, with train and validation rows.")],
    out: Annotated[
        Path, Option(help="Folder for a new checkpoint, or one of the same model that is to carry the signal too.")
    ],
    *,
    name: Annotated[str, Option("--signal", help="Which signal: `red_flag`, `outcome`.")],
    model: Model = "smollm2",
) -> None:
    """Train a signal that is read while the model writes: one direction in its states; answers stay as they are.

    In a signal's records `correct` is true where nothing is to be flagged.

    Example: `confide train signal --signal red_flag --records runs/red_flag.jsonl --out runs/stack`
    """
    declared = find_signal(name)
    _train_signal(declared, *_learning_rows(records), out, model)


def _train_signal(signal: Signal, train: list[Record], validation: list[Record], out: Path, model: str) -> None:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.along.along_training import train_signal

    engine = TransformersEngine.load(model)
    with progress_bar("training") as progress:
        typer.echo(train_signal(engine, signal, train, validation, out, progress=progress))


def red_flag(
    records: Annotated[Path, Option(help="Records of the task red_flag, with train and validation rows.")],
    out: Out,
    *,
    model: Model = "smollm2",
    method: Annotated[
        Literal["reading", "token"],
        Option(help="`reading`: a direction in the states, answers stay; `token`: the model learns to write the flag."),
    ] = "reading",
    options: Annotated[FlagOptions, Flags()],
    config: Annotated[
        FlagConfig, Flags("rank epochs patience learning_rate min_offset flag_weight follow_weight max_rows seed")
    ],
) -> None:
    """Train a model to notice harmful text while it writes it; sampled answers train, too.

    The flags below `--method` are for the token, whose weight on harmless answers is chosen on validation rows.

    Example: `confide train red-flag --model smollm2 --records runs/red_flag.jsonl --out runs/flag`
    """
    from confide.methods.red_flag.flag_rows import check_sides
    from confide.methods.red_flag.output_records import with_samples

    train, validation = map(with_samples, _learning_rows(records))
    train, validation = ([record for record in rows if record.correct is not None] for rows in (train, validation))
    candidates = options.candidates(config)
    check_sides(train, validation)
    if method == "reading":
        _train_signal(RED_FLAG, train, validation, out, model)
        return
    from confide.engines.transformers.loading import load_model
    from confide.methods.red_flag.flag_training import train_flag_token

    with progress_bar("training") as progress:
        result = train_flag_token(
            lambda: load_model(model), train, validation, candidates, out, most_drift=options.most_drift,
            base_model=model, progress=progress,
        )  # fmt: skip
    found = result.chosen
    typer.echo(
        f"{out}: weight {result.config.harmless_weight:g} on harmless answers; on the validation rows it detects "
        f"{found.detection:.0%} of the harmful answers where 5% of the harmless ones are flagged, AUROC "
        f"{found.auroc:.3f}, and harmless answers drift by {found.drift:.3f} nats a token"
    )


def self_ref(
    records: Records,
    out: Out,
    *,
    model: Model = "smollm2",
    options: Annotated[SelfRefOptions, Flags()],
    config: Annotated[
        SelfRefConfig, Flags("rank target_modules epochs patience kl_weight mask_wrong_answers max_rows seed")
    ],
) -> None:
    """Train Self-REF: the model writes its verdict after its answer (the answers may change).

    Epoch, learning rate and ratio are chosen on validation rows.

    Example: `confide train self-ref --model smollm2 --records runs/records.jsonl --out runs/self-ref`
    """
    from confide.engines.transformers.loading import load_model
    from confide.methods.self_ref.self_ref_training import choose_settings, train_self_ref

    candidates = options.candidates(config)
    train, validation = _learning_rows(records)
    rows = [*train, *validation]
    config = candidates[0]
    if len(candidates) > 1:
        with progress_bar("choosing settings") as progress:
            config = choose_settings(lambda: load_model(model), rows, candidates, out, progress=progress).config
    loaded, tokenizer = load_model(model)  # now, so that it is not in memory beside a candidate
    with progress_bar("training") as progress:
        result = train_self_ref(loaded, tokenizer, rows, config, out, base_model=model, progress=progress)
    ratio = "natural ratio" if config.ratio is None else f"ratio {config.ratio:g}"
    typer.echo(
        f"{out}: trained on {result.right} right and {result.wrong} wrong answers in {result.seconds:.0f} s; "
        f"learning rate {config.learning_rate:g}, {ratio}, epoch {result.epoch} of {len(result.held_losses)} is best "
        f"on validation rows (log loss {min(result.held_losses):.3f})"
    )


def rlmf(
    records: Annotated[Path, Option(help="Records with train and validation rows and K samples each.")],
    out: Out,
    *,
    model: StartingModel = "smollm2",
    task: Annotated[
        str | None, Option(help="The task whose grader decides. Default: the one that the records name.")
    ] = None,
    data_dir: Annotated[Path | None, Option(help="Take the task from a folder of question files.")] = None,
    form: Annotated[dict[str, Any], Flags("statement target epochs", given=FormatConfig)],
    judge: Judge = None,
    settings: Annotated[RLMFSettings, RLMF_FLAGS],
    questions: Annotated[int, Option(min=1, help="Questions a step.")] = 8,
    rank: Annotated[int, Option(min=1, help="Rank of the low-rank weights.")] = 32,
    samples: Annotated[int, Option(min=2, help="Samples a validation question, for its g.")] = 12,
    choice: Annotated[Choice, Flags()],
    passes: Passes = 1,
    seed: Annotated[int, Option(help="Seed of rows, weights and completions.")] = 0,
) -> None:
    """Train a model to state how often it would give the same answer, by RLMF; chosen on validation rows.

    Exit code 4 when training was stopped early; the best step is kept.

    Example: `confide train rlmf --model smollm2 --records runs/records.jsonl --out runs/rlmf`
    """
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.rlmf.intrinsic_agreement import SentenceJudge
    from confide.methods.rlmf.reinforcement import passed_format_stage, train_rlmf
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig
    from confide.records import read_records
    from confide.tasks import load_task

    rows = read_records(records)
    if not (name := task or rows[0].task):
        raise ConfideError(f"{records} names no task: say whose grader decides with --task")
    completions = settings.num_generations * questions
    if completions % passes:
        raise ConfideError(f"{completions} completions a step do not split into {passes} passes")
    rows = _chosen_rows(rows, model, choice, seed)
    settings.per_device_train_batch_size, settings.gradient_accumulation_steps = completions // passes, passes
    settings.save_steps = settings.eval_steps
    config = RLMFConfig(output_dir=str(out / "checkpoints"), seed=seed, **vars(settings))
    # A model that has passed the format stage takes no settings of it.
    statement = (
        FormatConfig(rank=rank, alpha=2 * rank, seed=seed, **form) if form or not passed_format_stage(model) else None
    )
    with progress_bar("training") as progress:
        result = train_rlmf(
            model,
            load_task(name, data_dir=data_dir),
            rows,
            config,
            out,
            statement=statement,
            judge=None if judge is None else SentenceJudge(TransformersEngine.load(judge)),
            rank=rank,
            samples=samples,
            progress=progress,
        )
    _print_result(result)


def _learning_rows(path: Path) -> tuple[list[Record], list[Record]]:
    """The graded records of the train split and of the validation split."""
    graded = _graded_rows(path)
    train, validation = graded["train"], graded["validation"]
    if not train or not validation:
        raise ConfideError(f"{path}: {len(train)} graded train and {len(validation)} validation rows; both are needed")
    return train, validation


def _graded_rows(path: Path) -> dict[str, list[Record]]:
    """The graded records of the train split and of the validation split, by its name; says how many have no label."""
    from confide.records import read_records

    everything = read_records(path)
    warn_of_shortages(everything)
    rows = [record for record in everything if record.split in ("train", "validation")]
    graded = [record for record in rows if record.correct is not None]
    if len(graded) < len(rows):
        warn(f"{len(rows) - len(graded)} of the {len(rows)} train and validation rows have no label and are left out")
    return {split: [r for r in graded if r.split == split] for split in ("train", "validation")}


def _chosen_rows(rows: list[Any], model: str, choice: Choice, seed: int) -> list[Any]:
    """The records with fewer train rows, where a choice is asked for; says how many could not be rated."""
    if choice.select is None:
        return rows
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.free import free_confidence
    from confide.methods.rlmf.selection import rate, select

    train = [record for record in rows if record.split == "train"]
    ratings = None
    if choice.select == "metacognitive":
        with progress_bar("rating") as progress:
            ratings = rate(TransformersEngine.load(model), train, progress=progress)
    elif choice.select == "active":
        for record in train:
            record.confidence = free_confidence(record) | record.confidence
    chosen = select(train, ratings, choice.select_rows, choice.select, seed, source=choice.select_source)
    typer.echo(f"{len(chosen.records)} of {len(train)} train rows kept, {chosen.dropped} had no score", err=True)
    return [*chosen.records, *(record for record in rows if record.split != "train")]


def _print_result(result: RLMFResult) -> None:
    """Print which step was kept, and its numbers on validation rows beside those of the start; end as it ended."""
    typer.echo(
        f"{result.folder}: step {result.best_step} of {result.steps} is best "
        f"on {int(result.best['n'])} validation rows ({result.seconds:.0f} s)"
    )
    for key, label in SHOWN.items():
        typer.echo(f"  {label}: {result.start[key]:.3f} → {result.best[key]:.3f}")
    if result.stopped:
        warn(f"training stopped early, the best step was kept: {result.stopped}")
        raise typer.Exit(ExitCode.LEFT_OUT)


verbs: dict[str, Callable[..., None]] = {
    "portable": portable,
    "stack": stack,
    "reader": reader,
    "signal": signal,
    "red-flag": red_flag,
    "self-ref": self_ref,
    "rlmf": rlmf,
}
for name, verb in verbs.items():
    app.command(name)(command(verb))
