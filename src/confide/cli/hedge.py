"""``confide hedge``: answers in words that carry their confidence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from confide.cli.flags import Identity, Json
from confide.cli.last_lines import beside, tell_next
from confide.cli.outputs import say
from confide.cli.printing import print_json, tell_source
from confide.errors import ConfideError
from confide.progress import progress_bar

if TYPE_CHECKING:
    from confide.hedging.hedged_records import Summary
    from confide.hedging.rewording import Templates


def hedge(
    records: Annotated[Path, Argument(help="Scored records, or `{id, answer, confidence}` rows of any system.")],
    out: Annotated[Path, Option(help="Hedged records (JSON lines); an existing file is continued.")],
    parts: Annotated[
        Path | None, Option(help="Scored records of the answers' sentences: each is worded by its own confidence.")
    ] = None,
    source: Annotated[str, Option(help="Whose confidence is put into words.")] = "stack",
    style: Annotated[str, Option(help="`plain`, `first_person`, or `formal` (the terms of ICD 203).")] = "plain",
    base_url: Annotated[
        str | None, Option(metavar="URL", help="An OpenAI-compatible server that words the answers, up to /v1.")
    ] = None,
    model: Annotated[str | None, Option(help="With a server: the model that words the answers.")] = None,
    identity: Identity = None,
    language: Annotated[str, Option(help="Language of the wording.")] = "en",
    seed: Annotated[int, Option(help="Chooses among phrases that stand for nearly the same.")] = 0,
    json: Json = False,
) -> None:
    """Reword every answer so that its wording says how likely it is to be right.

    Each row gains `hedged`, `hedges` and `hedge_confidence`, the number that readers take from the wording: within 0.1
    of the confidence, checked, as is that the answer is still there. Tagged answers
    (`<sentence>…</sentence><confidence>0.7</confidence>`) are worded sentence by sentence, by their own numbers, and so
    are answers whose sentences have scored records of their own (`confide parts --by sentences`, `--parts`). A row
    without a confidence passes through. A key for the server is taken from `OPENAI_API_KEY`.

    Example: `confide hedge scored.jsonl --out hedged.jsonl --style first_person`
    """
    from confide.hedging.hedged_records import hedge as run
    from confide.hedging.hedged_records import with_sentences
    from confide.hedging.statements import is_tagged
    from confide.policies.calibration_rows import pick_source
    from confide.policies.identities import answered_by, common_identity
    from confide.records import read_records

    wording = _wording(base_url, model, language, style, seed)
    rows = read_records(records)
    told = read_records(parts) if parts else rows
    picked = source if all(is_tagged(row.answer) for row in rows) else pick_source(told, source)
    if picked != source:
        tell_source([picked])
    rows = list(answered_by(identity, rows, picked))
    if parts:
        rows = with_sentences(rows, told, picked)
    common_identity(rows, picked)
    with progress_bar("hedging") as progress:
        summary = run(rows, out, wording, picked, progress=progress)
    if json:
        print_json(asdict(summary), indent=2)
    else:
        _print(summary, out, wording, picked)
        if any(row.correct is not None for row in rows):
            tell_next(
                f"confide calibrate {quote(str(records))} --source {quote(picked)} --max-risk 0.1 --out",
                beside(out, "policy.json"),
            )


def _wording(base_url: str | None, model: str | None, language: str, style: str, seed: int) -> Templates:
    """Templates, or the model on the server at ``base_url``."""
    from confide.hedging.language import load_language
    from confide.hedging.rewording import Rewriter, Templates

    templates = Templates(load_language(language), style, seed)
    if base_url is not None and "://" not in base_url:
        raise ConfideError(f"--base-url takes an address such as http://127.0.0.1:8000/v1, not {base_url!r}")
    if (base_url is None) != (model is None):
        raise ConfideError("a server is asked for a model by its name: --base-url URL and --model NAME go together")
    if base_url is None or model is None:
        return templates
    from confide.cli.rewriting_server import RewritingServer

    return Rewriter(RewritingServer(base_url, model), templates.language, style, seed)


def _print(summary: Summary, out: Path, wording: Templates, source: str) -> None:
    """Print what became of the rows, how near the words come, and what is remarkable about them."""
    from confide.hedging.hedged_records import STATUSES

    passed = [f"{summary.statuses[name]} {status}" for name, status in STATUSES.items() if summary.statuses[name]]
    say(out, f"{out}: {summary.rows} rows: {', '.join(passed)}")
    if summary.largest_error is not None:
        say(
            out,
            f"{summary.claims} wordings by {wording.style}, confidences from {source}: read back within "
            f"{summary.largest_error:.3f} (mean {summary.error:.3f})",
        )
    refused = f"are templates, because rewrites of {wording.model} were refused ({summary.refused} in all)"
    for count, sentence in (
        (summary.suffix, "stand in brackets behind the answer, which its grader would not find in a sentence"),
        (summary.replaced, refused),
        (summary.hedged_before, "answers bring a hedge of their own, which was left in"),
    ):
        if count:
            say(out, f"{count} {sentence}")
