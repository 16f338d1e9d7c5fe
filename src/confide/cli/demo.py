"""``confide demo``: the whole path on the bundled model, ending with a report."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote, split
from typing import Annotated

import typer
from typer import Option

from confide.cli.outputs import Folder
from confide.files import write_text

QUESTIONS = {False: 1500, True: 600}
MAX_RISK = 0.3
SERVE = """\
# A router in front of the demo's model: confide serve --config {config}
# Every setting: docs/serving.md
policy: policy.json
small: {{model: model, max_tokens: 20}}
experts:
  - {{name: gazetteer, tool: "confide.tasks.geography.gazetteer:look_up"}}
  # An imperfect one: the same small model with a passage of the gazetteer in its prompt.
  # - {{name: reread, self: {{passage: "confide.tasks.geography.gazetteer:passage"}}}}
store: sqlite:///decisions.db
audit_share: 0.1
# Where the model is not sure and the gazetteer does not help, a demo still answers, marked unverified.
# Without this line the router says nothing that it cannot stand behind: it abstains, or sends an error.
last_resort: {{no_answer: unverified, failed: unverified}}
"""


def demo(
    context: typer.Context,
    out: Annotated[Path, Option(help="Folder for records, checkpoint, policy and report."), Folder()] = Path(
        "confide-demo"
    ),
    quick: Annotated[bool, Option("--quick", help="Fewer questions: a few minutes.")] = False,
    seed: Annotated[int, Option(help="Seed of the questions, splits and training.")] = 0,
) -> None:
    """Annotate, train, score, evaluate, calibrate and validate on the bundled model and real questions.

    Example: `confide demo --quick --out confide-demo`
    """
    from confide.engines.transformers.loading import BUNDLED, bundled_path

    began = time.monotonic()
    bundled_path()  # says what to install before anything is written
    names = "records.jsonl", "model", "scored.jsonl", "policy.json"
    records, model, scored, policy = (quote(str(out / name)) for name in names)

    def run(command: str) -> int:
        """Show a command and run it; gives its exit code."""
        command += f" --seed {seed}" if seed else ""
        typer.secho(f"\n$ confide {command}", bold=True)
        return context.find_root().command.main(split(command), "confide", standalone_mode=False) or 0

    run(f"annotate --model {BUNDLED} --task geography --limit {QUESTIONS[quick]} --out {records}")
    run(f"train stack --model {BUNDLED} --records {records} --out {model}")
    run(f"score --model {model} --records {records} --out {scored}")
    run(f"evaluate {scored} --out {quote(str(out))}")
    (out / "policy.json").unlink(missing_ok=True)
    if run(f"calibrate {scored} --source stack --max-risk {MAX_RISK} --out {policy}"):
        typer.echo("No policy was written; the report stands.")
    else:
        code = run(f"validate {policy} {scored}")
        typer.echo(f"(exit code {code}: 0 holds, 1 does not hold, 3 cannot say)")
        config = out / "serve.yaml"
        write_text(config, SERVE.format(config=config))
        typer.echo(f"\nTo serve it: confide serve --config {config}")
    minutes = (time.monotonic() - began) / 60
    report = typer.style((out / "report.html").resolve(), bold=True)
    typer.echo(f"\nDone in {minutes:.1f} minutes. Open the report: {report}")
