"""The command line: one file per verb, heavy imports inside the verb, and one table of exit codes for all."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

import confide
from confide.cli import engine_verbs, policy_verbs, train
from confide.cli.annotate import annotate
from confide.cli.ask import ask
from confide.cli.calibrate import calibrate
from confide.cli.compare import compare
from confide.cli.demo import demo
from confide.cli.evaluate import evaluate, signal_quality
from confide.cli.exit_codes import ExitCode
from confide.cli.export import export
from confide.cli.flags import add
from confide.cli.hedge import hedge
from confide.cli.import_log import import_
from confide.cli.label import label
from confide.cli.narrow_help import Verbs
from confide.cli.parts import parts
from confide.cli.policy_verbs import decide, validate
from confide.cli.score import score
from confide.cli.serve import serve
from confide.cli.split import split
from confide.cli.tasks import tasks
from confide.errors import ConfideError, missing_package
from confide.methods import processes

FIRST_WORD_S = 2.0
"""Of several processes those that say nothing end so much later: with the first end the others are stopped."""
Group = tuple[typer.Typer, str]
PATH: dict[str, tuple[Callable[..., None] | Group, ...]] = {
    "Try it": (demo, ask),
    "1 Ask: answers of a model, graded": (tasks, (engine_verbs.app, "engine"), annotate, import_),
    "2 Learn: a confidence for each answer": ((train.app, "train"), score),
    "3 Measure: start here where there are scores": (evaluate, compare, signal_quality),
    "4 Promise: a threshold, and whether it holds": (calibrate, validate, (policy_verbs.app, "policy")),
    "5 Act: answer, escalate or abstain": (decide, serve, hedge),
    "Besides": (split, parts, label, export),
}
"""The verbs in the order in which they are used, under the headings of help."""


def called(verb: Callable[..., None]) -> str:
    """The name of a verb's function, as it is typed."""
    return verb.__name__.rstrip("_").replace("_", "-")


class Path(Verbs):
    """The verbs in the order of `PATH`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the verbs, in the order of `PATH`."""
        verbs = [verb for some in PATH.values() for verb in some]
        return [verb[1] if isinstance(verb, tuple) else called(verb) for verb in verbs]


app = typer.Typer(
    name="confide",
    cls=Path,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "color": False if os.environ.get("NO_COLOR") else None},
    help="Teach a language model to say how sure it is, and act on it: answer, escalate or abstain.",
    epilog=f"Exit codes of all verbs:\n\n{ExitCode.listed()}",
)
for heading, verbs in PATH.items():
    for verb in verbs:
        if isinstance(verb, tuple):
            app.add_typer(verb[0], name=verb[1], rich_help_panel=heading)
        else:
            add(app, verb, called(verb), panel=heading)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"confide {confide.__version__}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What is said before any verb."""


def main() -> None:
    """Entry point: runs a verb and ends with a code of `ExitCode`."""
    if sys.argv[1:2] != ["serve"]:  # its server ends gracefully by itself
        signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every terminal can show every character
    if not processes.is_main():
        sys.stdout = sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # one speaks for all
    code = ended(app)
    lost = ended(sys.stdout.flush) if sys.stdout is not None else ExitCode.DONE
    if ExitCode.CLOSED_PIPE in (code, lost) or lost:
        _drop_output()
    sys.exit(lost or code)


def ended(call: Callable[[], object]) -> int:
    """Call, and give the exit code of what became of it; an error is told on standard error."""
    try:
        try:
            call()
        except SystemExit as stopped:
            # Typer ends a run for these by itself, two of them with a code that means something else here.
            reason = stopped.__context__ and (stopped.__context__.__cause__ or stopped.__context__)
            if isinstance(reason, BrokenPipeError | EOFError | KeyboardInterrupt):
                raise reason from None
            return stopped.code if isinstance(stopped.code, int) else ExitCode.DONE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.CLOSED_PIPE
    except ModuleNotFoundError as error:
        name = error.name or getattr(error.__cause__, "name", None)  # transformers hides it
        if name is None or name.partition(".")[0] == "confide":
            return _fault()
        return _bad(str(missing_package(name)))
    except OSError as error:
        return _bad(f"{error.filename or 'input or output'}: {error.strerror}" if error.strerror else str(error))
    except ConfideError as error:
        return _bad(str(error))
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of an accelerator
            return _bad(f"there is not enough memory for this; fewer rows at once take less. {error}".strip())
        return _fault()
    return ExitCode.DONE


def _bad(sentence: str) -> int:
    if processes.speaks():  # a file may be missing on one machine of several
        _speak()
    else:
        time.sleep(FIRST_WORD_S)
    _tell(sentence)
    return ExitCode.BAD_INPUT


def _fault() -> int:
    _speak()
    traceback.print_exc()
    _tell("this is a fault of confide, not of your input: please report it with the lines above and your command")
    return ExitCode.FAULT


def _speak() -> None:
    """Let one of several processes say something that the main one may not know of."""
    if not processes.is_main():
        sys.stderr = sys.__stderr__


def _tell(sentence: str) -> None:
    with contextlib.suppress(OSError):  # standard error may be a closed pipe too
        typer.secho(f"confide: {sentence}", fg=None if os.environ.get("NO_COLOR") else "red", err=True)


def _drop_output() -> None:
    """Let the interpreter's own flush at its end succeed, where nobody takes the output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(*_: object) -> NoReturn:
    """End on SIGTERM as on an error, so that files that are half-written are taken away."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
