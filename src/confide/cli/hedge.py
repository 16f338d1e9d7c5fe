"""``confide hedge``: answers in words that carry their confidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def hedge(
    records: Annotated[Path, typer.Option(help="Scored records, or `{id, answer, confidence}` rows of any system.")],
    out: Annotated[Path, typer.Option(help="Hedged records (JSON lines); an existing file is continued.")],
    source: Annotated[str, typer.Option(help="Whose confidence is put into words.")] = "stack",
    style: Annotated[str, typer.Option(help="`plain`, `first_person`, or `formal` (the terms of ICD 203).")] = "plain",
    engine: Annotated[
        str, typer.Option(help="`templates`, or the address of an OpenAI-compatible server, with its /v1.")
    ] = "templates",
    model: Annotated[str | None, typer.Option(help="With a server: the model that rewrites the answers.")] = None,
    language: Annotated[str, typer.Option(help="Language of the wording.")] = "en",
    seed: Annotated[int, typer.Option(help="Chooses among phrases that stand for nearly the same.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Reword every answer so that its wording says how likely it is to be right.

    Each row gains `hedged`, `hedges` and `hedge_confidence`, the number that readers take from the wording: within 0.1
    of the confidence, checked, as is that the answer is still there. Tagged answers
    (`<sentence>…</sentence><confidence>0.7</confidence>`) are worded sentence by sentence, by their own numbers. A row
    without a confidence passes through. A key for the server is taken from `OPENAI_API_KEY`.

    Example: `confide hedge --records scored.jsonl --out hedged.jsonl --style first_person`
    """
    import json as json_format
    from dataclasses import asdict

    from confide.errors import ConfideError
    from confide.hedging.hedged import STATUSES, Settings, is_tagged
    from confide.hedging.hedged import hedge as run
    from confide.hedging.language import load_language
    from confide.hedging.rewriting import Rewriter
    from confide.hedging.templates import Templates
    from confide.policies.labelled import pick_source
    from confide.progress import progress_bar
    from confide.records import read_records

    if out.resolve() == records.resolve():
        raise ConfideError(f"{out} would overwrite its own input")
    templates = Templates(load_language(language), style, seed)
    if engine != "templates" and "://" not in engine:
        raise ConfideError(f"--engine is templates or an address such as http://127.0.0.1:8000/v1, not {engine!r}")
    if (engine == "templates") != (model is None):
        raise ConfideError("a server is asked for a model by its name: --engine URL and --model NAME go together")
    rows = read_records(records)
    picked = source if all(is_tagged(row.answer) for row in rows) else pick_source(rows, source)
    rewriter = None if model is None else Rewriter(engine, model, templates)
    settings = Settings(picked, style, language, engine if rewriter is None else rewriter.url, model, seed)
    with progress_bar("hedging") as progress:
        summary = run(rows, out, templates, settings, engine=rewriter, progress=progress)

    if json:
        typer.echo(json_format.dumps(asdict(summary), indent=2))
        return
    passed = [f"{summary.statuses[name]} {told}" for name, told in STATUSES.items() if summary.statuses[name]]
    typer.echo(f"{out}: {summary.rows} rows: {', '.join(passed)}")
    if summary.largest_error is not None:
        typer.echo(
            f"{summary.claims} wordings by {style}, confidences from {picked}: read back within "
            f"{summary.largest_error:.3f} (mean {summary.error:.3f})"
        )
    for count, told in (
        (summary.suffix, "stand in brackets behind the answer, which its grader would not find in a sentence"),
        (summary.replaced, f"are templates, because rewrites of {model} were refused ({summary.refused} in all)"),
        (summary.hedged_before, "answers bring a hedge of their own, which was left in"),
    ):
        if count:
            typer.echo(f"{count} {told}")
