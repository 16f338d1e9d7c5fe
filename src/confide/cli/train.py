"""``confide train``: a portable confidence, a stack, the reader with its stack, Self-REF, or RLMF."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from confide.cli.engines import DEFAULT_MODEL
from confide.cli.exit_codes import ExitCode
from confide.cli.flags import Flags, Json, add
from confide.cli.last_lines import beside, tell_next
from confide.cli.narrow_help import Verbs
from confide.cli.outputs import Folder
from confide.cli.printing import print_result, warn
from confide.cli.training_rows import Choice, chosen_rows, graded_rows, learning_rows
from confide.errors import ConfideError
from confide.methods import processes
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.red_flag.flag_config import FlagConfig, FlagOptions
from confide.methods.rlmf.rlmf_config import FormatConfig, RLMFSettings
from confide.methods.self_ref.self_ref_config import SelfRefConfig, SelfRefOptions
from confide.progress import progress_bar
from confide.signals import RED_FLAG, Signal, find_signal

if TYPE_CHECKING:
    from confide.methods.rlmf.reinforcement import RLMFResult
    from confide.records import Record

app = typer.Typer(cls=Verbs, help="Train a model to report its confidence.")
Records = Annotated[Path, Argument(help="Annotated records with train and validation rows.")]
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


def portable(
    records: Annotated[Path, Argument(help="Annotated records with train rows and log-probabilities.")],
    out: Annotated[Path, Option(help="Folder for `portable.json`."), Folder("portable.json")],
    *,
    signal: PartSignal = None,
    seed: Annotated[int, Option(help="Seed of the folds and of the kinds of question.")] = 0,
    json: Json = False,
) -> None:
    """Learn a confidence from graded records alone, for any server that tells log-probabilities; no model is loaded.

    Example: `confide train portable runs/records.jsonl --out runs/portable`
    """
    from confide.methods.parts.part_training import train_parts
    from confide.methods.portable.portable_training import train_portable

    if not processes.is_main():
        return  # a moment's work without a model: the main process does it alone
    graded = graded_rows(records)
    if not graded["train"]:
        raise ConfideError(f"{records}: there is no graded train row, of {sum(map(len, graded.values()))} graded ones")
    if signal is not None:
        summary = train_parts(signal, graded["train"], graded["validation"], out, seed=seed)
    else:
        summary = train_portable(graded["train"], out, seed)
        if unused := len(graded["validation"]):
            summary += f"; nothing was chosen on the {unused} graded validation rows"
    print_result(out, summary, json)
    flag = "--portable" if signal is None else f"--source {signal} --model"
    tell_next("confide score", records, flag, out, "--out", beside(records, "scored.jsonl"))


def stack(
    records: Records,
    out: Out,
    *,
    model: Model = DEFAULT_MODEL,
    signal: PartSignal = None,
    options: Annotated[FrozenOptions, Flags()],
    json: Json = False,
) -> None:
    """Train the stack: the portable confidence with a probe of the model's states; no reader.

    Example: `confide train stack runs/records.jsonl --out runs/stack`
    """
    if signal is None:
        _train_frozen(records, out, model, options, json)
        return
    print_result(out, _train_parts(records, out, model, signal, options), json)
    _tell_score(records, out, "--source", signal)


def _train_parts(records: Path, out: Path, model: str, signal: str, options: FrozenOptions) -> str:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.parts.part_training import train_parts

    processes.refuse_many("a confidence of parts")
    if options != FrozenOptions(seed=options.seed):
        raise ConfideError("--signal takes --seed and no other option of a stack")
    train, validation = learning_rows(records)
    with progress_bar("training") as progress:
        engine = TransformersEngine.load(model)
        return train_parts(signal, train, validation, out, engine=engine, seed=options.seed, progress=progress)


def reader(
    records: Records,
    out: Out,
    *,
    model: Model = DEFAULT_MODEL,
    config: Annotated[ReaderConfig, Flags("epochs learning_rate batch_size gradient_checkpointing")],
    options: Annotated[FrozenOptions, Flags()],
    json: Json = False,
) -> None:
    """Train the stack, and an adapter that reads the finished answer again; the model's answers stay as they are.

    Example: `confide train reader runs/records.jsonl --out runs/reader`
    """
    _train_frozen(records, out, model, options, json, config)


def _tell_score(records: Path, out: Path, *more: str) -> None:
    """Say how records are scored by what was trained."""
    tell_next("confide score", records, "--model", out, *more, "--out", beside(records, "scored.jsonl"))


def _tell_annotate(records: Path, out: Path, task: str = "TASK") -> None:
    """Say how the trained model is asked, whose answers may differ from those it was trained on."""
    tell_next("confide annotate --model", out, f"--task {quote(task)} --out", beside(records, "trained.jsonl"))


def _train_frozen(
    records: Path, out: Path, model: str, options: FrozenOptions, json: bool, reader: ReaderConfig | None = None
) -> None:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.frozen.frozen_training import train_confidence

    processes.join()
    train, validation = learning_rows(records)
    with progress_bar("training") as progress:
        engine = TransformersEngine.load(model, device=processes.loading_device())
        summary = train_confidence(engine, train, validation, options, out, reader=reader, progress=progress)
    print_result(out, summary, json)
    _tell_score(records, out)


def signal(
    records: Annotated[
        Path, Argument(help="Records whose labels are about the signal, with train and validation rows.")
    ],
    out: Annotated[
        Path, Option(help="Folder for a new checkpoint, or one of the same model that is to carry the signal too.")
    ],
    *,
    name: Annotated[str, Option("--signal", help="Which signal: `red_flag`, `outcome`.")],
    model: Model = DEFAULT_MODEL,
    json: Json = False,
) -> None:
    """Train a signal that is read while the model writes: one direction in its states; answers stay as they are.

    In a signal's records `correct` is true where nothing is to be flagged.

    Example: `confide train signal runs/red_flag.jsonl --signal red_flag --out runs/stack`
    """
    declared = find_signal(name)
    print_result(out, _train_signal(declared, *learning_rows(records), out, model), json)
    _tell_score(records, out)


def _train_signal(signal: Signal, train: list[Record], validation: list[Record], out: Path, model: str) -> str:
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.along.along_training import train_signal

    processes.refuse_many("a signal's training")
    with progress_bar("training") as progress:
        engine = TransformersEngine.load(model)
        return train_signal(engine, signal, train, validation, out, progress=progress)


def red_flag(
    records: Annotated[Path, Argument(help="Records of the task red_flag, with train and validation rows.")],
    out: Out,
    *,
    model: Model = DEFAULT_MODEL,
    method: Annotated[
        Literal["reading", "token"],
        Option(help="`reading`: a direction in the states, answers stay; `token`: the model learns to write the flag."),
    ] = "reading",
    options: Annotated[FlagOptions, Flags()],
    config: Annotated[
        FlagConfig, Flags("rank epochs patience learning_rate min_offset flag_weight follow_weight max_rows seed")
    ],
    json: Json = False,
) -> None:
    """Train a model to notice harmful text while it writes it; sampled answers train, too.

    The flags below `--method` are for the token, whose weight on harmless answers is chosen on validation rows.

    Example: `confide train red-flag runs/red_flag.jsonl --out runs/flag`
    """
    from confide.methods.red_flag.flag_rows import check_sides
    from confide.methods.red_flag.output_records import with_samples

    train, validation = map(with_samples, learning_rows(records))
    train, validation = ([record for record in rows if record.correct is not None] for rows in (train, validation))
    candidates = options.candidates(config)
    check_sides(train, validation)
    if method == "reading":
        print_result(out, _train_signal(RED_FLAG, train, validation, out, model), json)
        _tell_score(records, out)
        return
    from confide.engines.transformers.loading import load_model
    from confide.methods.red_flag.flag_training import train_flag_token

    with progress_bar("training") as progress:
        result = train_flag_token(
            lambda: load_model(model), train, validation, candidates, out, most_drift=options.most_drift,
            base_model=model, progress=progress,
        )  # fmt: skip
    found = result.chosen
    words = (
        f"{out}: weight {result.config.harmless_weight:g} on harmless answers; on the validation rows it detects "
        f"{found.detection:.0%} of the harmful answers where 5% of the harmless ones are flagged, AUROC "
        f"{found.auroc:.3f}, and harmless answers drift by {found.drift:.3f} nats a token"
    )
    numbers = {"detection": found.detection, "auroc": found.auroc, "drift": found.drift}
    print_result(out, words, json, weight=result.config.harmless_weight, **numbers)
    _tell_annotate(records, out, "red_flag")


def self_ref(
    records: Records,
    out: Out,
    *,
    model: Model = DEFAULT_MODEL,
    options: Annotated[SelfRefOptions, Flags()],
    config: Annotated[
        SelfRefConfig,
        Flags(
            "rank target_modules epochs patience kl_weight mask_wrong_answers gradient_checkpointing batch_size "
            "max_rows seed"
        ),
    ],
    json: Json = False,
) -> None:
    """Train Self-REF: the model writes its verdict after its answer (the answers may change).

    Epoch, learning rate and ratio are chosen on validation rows.

    Example: `confide train self-ref runs/records.jsonl --out runs/self-ref`
    """
    from confide.engines.transformers.loading import load_model
    from confide.methods.self_ref.self_ref_training import choose_settings, train_self_ref

    processes.join()
    load = partial(load_model, model, device=processes.loading_device())
    candidates = options.candidates(config)
    train, validation = learning_rows(records)
    rows = [*train, *validation]
    config = candidates[0]
    if len(candidates) > 1:
        with progress_bar("choosing settings") as progress:
            config = choose_settings(load, rows, candidates, out, progress=progress).config
    loaded, tokenizer = load()  # now, so that it is not in memory beside a candidate
    with progress_bar("training") as progress:
        result = train_self_ref(loaded, tokenizer, rows, config, out, base_model=model, progress=progress)
    ratio = "natural ratio" if config.ratio is None else f"ratio {config.ratio:g}"
    words = (
        f"{out}: trained on {result.right} right and {result.wrong} wrong answers in {result.seconds:.0f} s; "
        f"learning rate {config.learning_rate:g}, {ratio}, epoch {result.epoch} of {len(result.held_losses)} is best "
        f"on validation rows (log loss {min(result.held_losses):.3f})"
    )
    numbers = {"right": result.right, "wrong": result.wrong, "epoch": result.epoch, "log_loss": min(result.held_losses)}
    print_result(out, words, json, learning_rate=config.learning_rate, ratio=config.ratio, **numbers)
    _tell_annotate(records, out, train[0].task or "TASK")


def rlmf(
    records: Annotated[Path, Argument(help="Records with train and validation rows and K samples each.")],
    out: Out,
    *,
    model: StartingModel = DEFAULT_MODEL,
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
    json: Json = False,
) -> None:
    """Train a model to state how often it would give the same answer, by RLMF; chosen on validation rows.

    Exit code 4 when training was stopped early; the best step is kept.

    Example: `confide train rlmf runs/records.jsonl --out runs/rlmf`
    """
    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.rlmf.intrinsic_agreement import SentenceJudge
    from confide.methods.rlmf.reinforcement import RLMF, passed_format_stage, train_rlmf
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig
    from confide.records import read_records
    from confide.tasks import load_task

    processes.refuse_many(RLMF)
    rows = read_records(records)
    if not (name := task or rows[0].task):
        raise ConfideError(f"{records} names no task: say whose grader decides with --task")
    completions = settings.num_generations * questions
    if completions % passes:
        raise ConfideError(f"{completions} completions a step do not split into {passes} passes")
    rows = chosen_rows(rows, model, choice, seed)
    settings.per_device_train_batch_size, settings.gradient_accumulation_steps = completions // passes, passes
    settings.save_steps = settings.eval_steps
    config = RLMFConfig(output_dir=str(out / "checkpoints"), seed=seed, **vars(settings))
    # A model that has passed the format stage takes no settings of it.
    statement = (
        FormatConfig(rank=rank, alpha=2 * rank, seed=seed, **form) if form or not passed_format_stage(model) else None
    )
    with progress_bar("training") as progress:
        result = train_rlmf(
            model, load_task(name, data_dir=data_dir), rows, config, out, statement=statement,
            judge=None if judge is None else SentenceJudge(TransformersEngine.load(judge)),
            rank=rank, samples=samples, progress=progress,
        )  # fmt: skip
    _print_result(result, json)
    _tell_annotate(records, out, name)
    if result.stopped:
        warn(f"training stopped early, the best step was kept: {result.stopped}")
        raise typer.Exit(ExitCode.LEFT_OUT)


def _print_result(result: RLMFResult, json: bool) -> None:
    """Print which step was kept, and its numbers on validation rows beside those of the start."""
    words = (
        f"{result.folder}: step {result.best_step} of {result.steps} is best "
        f"on {int(result.best['n'])} validation rows ({result.seconds:.0f} s)"
    )
    lines = [f"  {label}: {result.start[key]:.3f} → {result.best[key]:.3f}" for key, label in SHOWN.items()]
    numbers = {"step": result.best_step, "steps": result.steps, "start": result.start, "best": result.best}
    print_result(result.folder, "\n".join([words, *lines]), json, **numbers)


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
    add(app, verb, name)
