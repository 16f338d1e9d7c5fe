"""``confide demo``: the whole path on the bundled model, ending with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

QUESTIONS = {False: 1500, True: 600}
MAX_RISK = 0.3
SERVE = """\
# A router in front of the demo's model: confide serve --config {config}
# Every setting: docs/serving.md
policy: {policy}
small: {{model: {model}, max_tokens: 20}}
experts:
  - {{name: gazetteer, tool: "confide.tasks.geography.gazetteer:look_up"}}
  # An imperfect one: the same small model with a passage of the gazetteer in its prompt.
  # - {{name: reread, self: {{passage: "confide.tasks.geography.gazetteer:passage"}}}}
store: sqlite:///{store}
audit_share: 0.1
"""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for records, checkpoint, policy and report.")] = Path(
        "confide-demo"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer questions and epochs: under three minutes.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the questions, splits and training.")] = 0,
) -> None:
    """Annotate, train, score, evaluate, calibrate and validate on the bundled model and real questions.

    Example: `confide demo --quick --out confide-demo`
    """
    import time

    from rich.console import Console

    from confide.cli.annotate import annotate
    from confide.cli.calibrate import calibrate
    from confide.cli.evaluate import evaluate
    from confide.cli.score import score
    from confide.cli.train import reader
    from confide.cli.validate import validate
    from confide.engines.transformers.loading import BUNDLED, bundled_path
    from confide.files import write_text

    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    bundled_path()  # says what to install before anything is written
    records, model, scored, policy = (out / name for name in ("records.jsonl", "reader", "scored.jsonl", "policy.json"))

    def step(command: str) -> None:
        console.print(f"\n[bold]$ confide {command}[/bold]")

    limit = QUESTIONS[quick]
    step(f"annotate --model {BUNDLED} --task geography --limit {limit} --out {records}")
    annotate(out=records, model=BUNDLED, task="geography", limit=limit, seed=seed)
    start, epochs = ("words", 2) if quick else ("words,random", 5)
    step(f"train reader --model {BUNDLED} --records {records} --out {model} --start {start} --epochs {epochs}")
    reader(records=records, out=model, model=BUNDLED, start=start, epochs=epochs, seed=seed)
    step(f"score --model {model} --records {records} --out {scored}")
    score(records=records, out=scored, model=str(model), seed=seed)
    step(f"evaluate {scored} --out {out}")
    evaluate(records=scored, out=out, seed=seed)
    step(f"calibrate {scored} --source stack --max-risk {MAX_RISK} --out {policy}")
    policy.unlink(missing_ok=True)
    try:
        calibrate(records=scored, out=policy, source="stack", max_risk=MAX_RISK, seed=seed)
    except typer.Exit:
        console.print("No policy was written; the report stands.")
    if policy.exists():
        step(f"validate {policy} {scored}")
        try:
            validate(policy=policy, fresh=scored, seed=seed)
        except typer.Exit as verdict:
            console.print(f"(exit code {verdict.exit_code}: 0 holds, 1 does not hold, 3 cannot say)")
        config = out / "serve.yaml"
        write_text(config, SERVE.format(config=config, policy=policy, model=model, store=out / "decisions.db"))
        console.print(f"\nTo serve it: confide serve --config {config}")
    minutes = (time.monotonic() - began) / 60
    console.print(f"\nDone in {minutes:.1f} minutes. Open the report: [bold]{(out / 'report.html').resolve()}[/bold]")
