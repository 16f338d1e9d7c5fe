"""The command line: one file per verb, heavy imports inside the verb, clear errors with exit code 2."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from confide.cli import policy_verbs, train
from confide.cli.annotate import annotate
from confide.cli.ask import ask
from confide.cli.calibrate import calibrate
from confide.cli.demo import demo
from confide.cli.evaluate import evaluate, signal_quality
from confide.cli.export import export
from confide.cli.flags import command
from confide.cli.hedge import hedge
from confide.cli.policy_verbs import decide, validate
from confide.cli.score import score
from confide.cli.serve import serve
from confide.cli.split import split
from confide.cli.tasks import tasks
from confide.errors import ConfideError

app = typer.Typer(
    name="confide",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Teach a language model to say how sure it is, and act on it: answer, escalate or abstain.",
)
verbs = (demo, tasks, annotate, split, score, evaluate, calibrate, validate, signal_quality, decide, ask, export, hedge)
for verb in verbs:
    app.command()(command(verb))
app.command()(serve)  # its --config is the router's own
app.add_typer(train.app, name="train")
app.add_typer(policy_verbs.app, name="policy")


def main() -> None:
    """Entry point: bad input is one sentence on standard error and exit code 2."""
    if sys.argv[1:2] != ["serve"]:  # its server ends gracefully by itself
        signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except (ConfideError, OSError) as error:
        typer.secho(f"confide: {error}", fg="red", err=True)
        sys.exit(2)


def _stop(*_: object) -> NoReturn:
    """End on SIGTERM as on an error, so that files that are half-written are taken away."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
