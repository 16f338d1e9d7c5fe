"""``confide train rlmf``: reinforcement learning with metacognitive feedback."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Statement(StrEnum):
    """How a confidence is stated."""

    graded = "graded"
    tagged = "tagged"


class Target(StrEnum):
    """What the format stage teaches to state."""

    consistency = "consistency"
    constant = "constant"
    shuffled = "shuffled"


class Feedback(StrEnum):
    """What refines the advantages."""

    self = "self"
    none = "none"
    constant = "constant"
    shuffled = "shuffled"
    frozen = "frozen"


class Faithfulness(StrEnum):
    """The form of the faithfulness reward."""

    quadratic = "quadratic"
    linear = "linear"
    log = "log"


class Reward(StrEnum):
    """What is rewarded."""

    rlmf = "rlmf"
    rlcr = "rlcr"


class Intrinsic(StrEnum):
    """Which answers g is agreement with."""

    group = "group"
    frozen = "frozen"


class Select(StrEnum):
    """Which questions are trained on."""

    metacognitive = "metacognitive"
    random = "random"
    active = "active"


def rlmf(
    records: Annotated[Path, typer.Option(help="Records with train and validation rows and K samples each.")],
    out: Annotated[Path, typer.Option(help="Folder for the trained checkpoint.")],
    model: Annotated[
        str, typer.Option(help="The model that answered, or a folder of this verb: then its format stage is reused.")
    ] = "smollm2",
    task: Annotated[
        str | None, typer.Option(help="The task whose grader decides. Default: the one that the records name.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Take the task from a folder of question files.")] = None,
    statement: Annotated[
        Statement | None,
        typer.Option(help="State a confidence by graded tokens, or as tagged text. Default: graded."),
    ] = None,
    target: Annotated[
        Target | None,
        typer.Option(
            help="What the format stage teaches: g, one constant, or another question's g. Default: consistency."
        ),
    ] = None,
    feedback: Annotated[
        Feedback,
        typer.Option(
            help="What refines the advantages: the policy's self-judgement, none (standard RL), its running mean, "
            "shuffled in the group, or the starting model's."
        ),
    ] = Feedback.self,
    offset: Annotated[float, typer.Option(help="k in the multiplier k + Z.")] = 1.0,
    faithfulness: Annotated[Faithfulness, typer.Option(help="Form of the faithfulness reward.")] = (
        Faithfulness.quadratic
    ),
    reward: Annotated[Reward, typer.Option(help="RLMF's reward, or RLCR's correct − Brier.")] = Reward.rlmf,
    intrinsic: Annotated[
        Intrinsic, typer.Option(help="g: agreement within the group, or with the records' samples.")
    ] = Intrinsic.group,
    judge: Annotated[
        str | None, typer.Option(help="A model that says whether answers agree with a sentence, for longer answers.")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Optimisation steps; 0 for the format stage alone.")] = 100,
    group_size: Annotated[int, typer.Option(min=2, help="Completions a question.")] = 16,
    questions: Annotated[int, typer.Option(min=1, help="Questions a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-4,
    kl_weight: Annotated[float, typer.Option(min=0, help="KL to the starting model.")] = 0.1,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the low-rank weights.")] = 32,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the format stage. Default: 2.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Samples a validation question, for its g.")] = 12,
    look_every: Annotated[int, typer.Option(min=1, help="Steps between looks at validation, and checkpoints.")] = 20,
    select: Annotated[
        Select | None, typer.Option(help="Train on some questions only: by the model's own rating, random, active.")
    ] = None,
    select_rows: Annotated[int, typer.Option(min=1, help="How many `--select` keeps.")] = 1000,
    select_source: Annotated[str, typer.Option(help="The confidence that `--select active` holds against g.")] = (
        "logprob_sum"
    ),
    passes: Annotated[
        int, typer.Option(min=1, help="Split a step's completions into this many passes, to save memory.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seed of rows, weights and completions.")] = 0,
) -> None:
    """Train a model to state how often it would give the same answer, by RLMF; chosen on validation rows.

    Example: `confide train rlmf --model smollm2 --records runs/records.jsonl --out runs/rlmf`
    """
    from rich.console import Console

    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.errors import ConfideError
    from confide.methods.rlmf.intrinsic_agreement import SentenceJudge
    from confide.methods.rlmf.reinforcement import formed_by, train_rlmf
    from confide.methods.rlmf.rlmf_trainer import RLMFConfig
    from confide.progress import progress_bar
    from confide.records import read_records
    from confide.tasks import load_task

    rows = read_records(records)
    name = task or rows[0].task
    if not name:
        raise ConfideError(f"{records} names no task: say whose grader decides with --task")
    if group_size * questions % passes:
        raise ConfideError(f"{group_size * questions} completions a step do not split into {passes} passes")
    if select is not None:
        rows = _selected(rows, model, select.value, select_rows, select_source, seed)
    config = RLMFConfig(
        output_dir=str(out / "checkpoints"),
        feedback=feedback.value,
        offset=offset,
        faithfulness=faithfulness.value,
        rewarded=reward.value,
        intrinsic=intrinsic.value,
        max_steps=steps,
        num_generations=group_size,
        per_device_train_batch_size=group_size * questions // passes,
        gradient_accumulation_steps=passes,
        learning_rate=learning_rate,
        beta=kl_weight,
        eval_steps=look_every,
        save_steps=look_every,
        seed=seed,
    )
    with progress_bar("training") as progress:
        result = train_rlmf(
            model,
            load_task(name, data_dir=data_dir),
            rows,
            config,
            out,
            statement=_format(formed_by(model), statement, target, epochs, rank, seed),
            judge=None if judge is None else SentenceJudge(TransformersEngine.load(judge)),
            rank=rank,
            samples=samples,
            progress=progress,
        )
    start, best = result.start, result.best
    lines = [
        f"{out}: step {result.best_step} of {result.steps} is best on {int(best['n'])} validation rows "
        f"({result.seconds:.0f} s)",
        *(
            f"  {label}: {start[key]:.3f} → {best[key]:.3f}"
            for key, label in (
                ("cmfg_star", "cMFG*"),
                ("spearman", "rank correlation with g"),
                ("accuracy", "accuracy"),
                ("parsed", "confidence can be read"),
            )
        ),
    ]
    Console(soft_wrap=True, highlight=False).print("\n".join(lines))
    if result.stopped:
        raise ConfideError(f"stopped early, the best step was kept: {result.stopped}")


def _format(
    formed: bool, statement: Statement | None, target: Target | None, epochs: int | None, rank: int, seed: int
) -> Any:
    """How the format stage trains; None for a model that has passed it, where nothing may be said about it."""
    from confide.methods.rlmf.format_stage import FormatConfig

    said = {"statement": statement, "target": target, "epochs": epochs}
    given: dict[str, Any] = {n: getattr(value, "value", value) for n, value in said.items() if value is not None}
    return FormatConfig(rank=rank, alpha=2 * rank, seed=seed, **given) if given or not formed else None


def _selected(rows: list[Any], model: str, how: Any, count: int, source: str, seed: int) -> list[Any]:
    """The records with fewer train rows; what could not be rated is said."""
    from rich.console import Console

    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.free import free_confidence
    from confide.methods.rlmf.selection import rate, select
    from confide.progress import progress_bar

    train = [record for record in rows if record.split == "train"]
    scores = None
    if how == "metacognitive":
        with progress_bar("rating") as progress:
            scores = rate(TransformersEngine.load(model), train, progress=progress)
    elif how == "active":
        for record in train:
            record.confidence = free_confidence(record) | record.confidence
    chosen = select(train, scores, count, how, seed, source=source)
    Console(stderr=True).print(f"{len(chosen.records)} of {len(train)} train rows kept, {chosen.dropped} had no score")
    return [*chosen.records, *(record for record in rows if record.split != "train")]
