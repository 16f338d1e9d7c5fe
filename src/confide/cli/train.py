"""``confide train``: the reader with its stack, Self-REF, or RLMF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from confide.cli.main import with_config
from confide.cli.train_rlmf import rlmf

app = typer.Typer(no_args_is_help=True, help="Train a model to report its confidence.")
Records = Annotated[Path, typer.Option(help="Annotated records with train and validation rows.")]
Out = Annotated[Path, typer.Option(help="Folder for the trained checkpoint.")]
Model = Annotated[str, typer.Option(help="The model that gave the answers: `smollm2`, a folder or a hub name.")]


def _learning_rows(path: Path) -> tuple[Any, Any]:
    from confide.errors import ConfideError
    from confide.records import read_records

    records = [r for r in read_records(path) if r.correct is not None]
    train = [r for r in records if r.split == "train"]
    validation = [r for r in records if r.split == "validation"]
    if not train or not validation:
        raise ConfideError(f"{path}: {len(train)} graded train and {len(validation)} validation rows; both are needed")
    return train, validation


def reader(
    records: Records,
    out: Out,
    model: Model = "smollm2",
    target: Annotated[str, typer.Option(help="`correctness`, or `consistency` with the K samples.")] = "correctness",
    ask_tokens: Annotated[
        str,
        typer.Option(
            help="Ask-token counts to choose from; 0 reads at the closing token; empty for no ask tokens at all."
        ),
    ] = "4",
    start: Annotated[str, typer.Option(help="What ask tokens start from, to choose from.")] = "words,random",
    epochs: Annotated[int, typer.Option(min=1, help="At most this many passes.")] = 6,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    pairwise: Annotated[float, typer.Option(min=0, help="Weight of the pairwise term.")] = 0.0,
    prefix_cache: Annotated[str, typer.Option(help="Memory for kept keys and values; a file past it.")] = "4GB",
    comparisons: Annotated[
        bool, typer.Option("--comparisons", help="Also train what readers are compared with: P(True), random tokens.")
    ] = False,
    positions: Annotated[
        bool, typer.Option("--positions", help="Also fit a probe at each token position (`probe@closing` …).")
    ] = False,
    shuffle_labels: Annotated[
        bool,
        typer.Option("--shuffle-labels", help="Control: shuffle labels by the seed; over five seeds nothing may rank."),
    ] = False,
    other_model: Annotated[
        bool, typer.Option("--other-model", help="The answers are another model's; train on this one's states.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of start values and order.")] = 0,
) -> None:
    """Train the frozen-model reader and the stack on top.

    Example: `confide train reader --model smollm2 --records runs/records.jsonl --out runs/reader`
    """
    from rich.console import Console

    from confide.engines.transformers.transformers_engine import TransformersEngine
    from confide.methods.reader.training_pipeline import ReaderOptions, train_confidence
    from confide.progress import progress_bar

    train_rows, validation = _learning_rows(records)
    options = ReaderOptions.parse(
        target=target,
        ask_tokens=ask_tokens,
        start=start,
        epochs=epochs,
        learning_rate=learning_rate,
        pairwise=pairwise,
        prefix_cache=prefix_cache,
        seed=seed,
        comparisons=comparisons,
        positions=positions,
        shuffle_labels=shuffle_labels,
        other_model=other_model,
    )
    engine = TransformersEngine.load(model)
    with progress_bar("training") as progress:
        summary = train_confidence(engine, train_rows, validation, options, out, progress=progress)
    Console(soft_wrap=True).print(summary)


app.command()(with_config(reader))


def self_ref(
    records: Records,
    out: Out,
    model: Model = "smollm2",
    ratio: Annotated[
        str,
        typer.Option(
            help="UN:CN mixing: a number such as 0.5, `natural`, or `choose` to try 1:1 to 1:5 on validation."
        ),
    ] = "natural",
    rank: Annotated[int, typer.Option(min=1, help="Rank of the low-rank weights on q, k and v.")] = 8,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    kl_weight: Annotated[float, typer.Option(min=0, help="KL to the base on the answer tokens.")] = 0.0,
    mask_wrong_answers: Annotated[bool, typer.Option(help="No gradient on wrong answers' tokens.")] = True,
    max_rows: Annotated[int | None, typer.Option(min=1, help="Train on at most this many rows.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the row order and the low-rank weights.")] = 0,
) -> None:
    """Train Self-REF: the model writes its verdict after its answer (the answers may change).

    Example: `confide train self-ref --model smollm2 --records runs/records.jsonl --out runs/self-ref`
    """
    from dataclasses import replace

    from rich.console import Console

    from confide.engines.transformers.loading import load_model
    from confide.errors import ConfideError
    from confide.methods.self_ref.self_ref_training import SelfRefConfig, choose_ratio, train_self_ref

    train_rows, validation = _learning_rows(records)
    config = SelfRefConfig(
        rank=rank,
        epochs=epochs,
        learning_rate=learning_rate,
        kl_weight=kl_weight,
        mask_wrong_answers=mask_wrong_answers,
        max_rows=max_rows,
        seed=seed,
    )
    if ratio == "choose":
        choice = choose_ratio(lambda: load_model(model), [*train_rows, *validation], config, out / "choice")
        config = replace(config, ratio=choice.ratio)
    elif ratio != "natural":
        try:
            config = replace(config, ratio=float(ratio))
        except ValueError:
            raise ConfideError(f"--ratio is a number, natural or choose, not {ratio!r}") from None
    loaded, tokenizer = load_model(model)
    result = train_self_ref(loaded, tokenizer, [*train_rows, *validation], config, out, base_model=model)
    Console(soft_wrap=True).print(
        f"{out}: trained on {result.right} right and {result.wrong} wrong answers "
        f"in {result.seconds:.0f} s ({result.epoch_seconds:.0f} s an epoch)"
    )


app.command("self-ref")(with_config(self_ref))
app.command()(with_config(rlmf))
