"""``confide demo``: the whole path on the bundled model, ending with three lines and a report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from shlex import quote, split
from typing import Annotated

import typer
from typer import Option

from confide.cli.exit_codes import ExitCode
from confide.cli.outputs import Folder
from confide.files import write_text

QUESTIONS = {False: 2500, True: 550}
MAX_RISK = 0.3
BUDGET = 0.5
"""What is promised where too few answers show `MAX_RISK`: at most this share is handed on."""
SOURCES = (
    "stack,portable,logprob_sum,logprob_mean,logprob_min,answer_length,question_only,answer_only,constant,shuffled"
)
"""What a user would have, and the cheaper confidences and floors that it must beat."""
SERVE = """\
# A router in front of the demo's model: confide serve --config {config}
# Every setting: docs/reference/configuration.md
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
    quick: Annotated[bool, Option("--quick", help="Fewer questions: a minute or so.")] = False,
    with_tokens: Annotated[
        bool,
        Option("--with-tokens", help="Also train a reader: an adapter that reads each answer again. Takes longer."),
    ] = False,
    seed: Annotated[int, Option(help="Seed of the questions, splits and training.")] = 0,
) -> None:
    """Ask the bundled model real questions, learn when it is right, and make a promise about its answers.

    Leaves a report, a policy and a router's configuration. Needs no network and no GPU.

    Example: `confide demo --quick --out confide-demo`
    """
    from confide.engines.transformers.loading import bundled_path

    began = time.monotonic()
    bundled_path()  # says what to install before anything is written
    scored, policy = (quote(str(out / name)) for name in ("scored.jsonl", "policy.json"))

    def run(why: str, command: str) -> int:
        """Say what a command is for, show it, and run it; gives its exit code."""
        command += f" --seed {seed}" if seed else ""
        typer.echo(f"\n{why}")
        typer.secho(f"$ confide {command}", bold=True)
        code = context.find_root().command.main(split(command), "confide", standalone_mode=False) or 0
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        return int(code)

    for why, command in _learning(QUESTIONS[quick], "reader" if with_tokens else "stack", out):
        run(why, command)
    for name in ("policy.json", "serve.yaml"):
        (out / name).unlink(missing_ok=True)  # of an earlier run
    calibrate = f"calibrate {scored} --source stack --last-resort unverified --out {policy}"
    promise = f"5. A promise: of the answers that are kept, at most {MAX_RISK:.0%} are wrong."
    code = run(promise, f"{calibrate} --max-risk {MAX_RISK}")
    if code == ExitCode.NO:
        promise = f"So few answers do not show that. Another promise: at most {BUDGET:.0%} of questions are handed on."
        code = run(promise, f"{calibrate} --budget {BUDGET}")
    promised = code == ExitCode.DONE
    if promised:
        code = run("6. Does it hold on answers that nothing was fitted on?", f"validate {policy} {scored}")
        write_text(out / "serve.yaml", SERVE.format(config=out / "serve.yaml"))
    typer.echo(f"\n{_summary(out, promised, seed)}\n\nDone in {(time.monotonic() - began) / 60:.1f} minutes.")
    _open(out / "report.html")


def _learning(questions: int, kind: str, out: Path) -> list[tuple[str, str]]:
    """The verbs up to the report, each with what it is for.

    Args:
        questions: how many are asked.
        kind: what is trained, by the name of the verb.
        out: the folder of all files.
    """
    from confide.engines.transformers.loading import BUNDLED

    records, model, scored = (quote(str(out / name)) for name in ("records.jsonl", "model", "scored.jsonl"))
    sources = SOURCES if kind == "stack" else f"{kind},{SOURCES}"
    return [
        (
            f"1. The model answers {questions} geography questions; a gazetteer says which answers are right.",
            f"annotate --model {BUNDLED} --task geography --limit {questions} --out {records}",
        ),
        (
            "2. confide learns from 6 of 10 answers when this model is right. The model itself stays as it is.",
            f"train {kind} {records} --model {BUNDLED} --out {model}",
        ),
        (
            "3. It says how sure it is of the other answers, which it has not seen.",
            f"score {records} --model {model} --source {sources} --out {scored}",
        ),
        (
            "4. How good is that? Every confidence is judged, the cheap ones too.",
            f"evaluate {scored} --out {quote(str(out))}",
        ),
    ]


def _open(report: Path) -> None:
    """Show the report in a browser, where somebody sits in front of one."""
    if sys.stdout.isatty() and (
        sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    ):
        typer.launch(report.resolve().as_uri())


def _summary(out: Path, promised: bool, seed: int) -> str:
    """Three lines: how good, what is promised, what to do next."""
    from confide.cli.demo_summary import how_good, what_is_promised

    report = typer.style(out.resolve() / "report.html", bold=True)
    if promised:
        serve = typer.style(f"confide serve --config {quote(str(out / 'serve.yaml'))}", bold=True)
        following = f"read {report}, then put it to work: {serve}"
    else:
        following = f"read {report}"
    lines = {
        "How good": how_good(out / "results.json"),
        "Promised": what_is_promised(out / "policy.json", out / "scored.jsonl", seed)
        if promised
        else "nothing: no threshold keeps either goal.",
        "Next": following,
    }
    return "\n".join(f"{typer.style(f'{title:<9}', fg='green', bold=True)} {line}" for title, line in lines.items())
