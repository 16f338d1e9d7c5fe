"""The command line: one file a verb, heavy imports inside the verb, clear errors with exit code 2."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.console import Console
from rich.text import Text

from confide.errors import ConfideError

app = typer.Typer(
    name="confide",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Teach a language model to say how sure it is, and act on it: answer, escalate or abstain.",
)


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the keys of a YAML file the defaults of a verb's flags; flags on the command line win."""
    if path is None:
        return None
    import yaml

    from confide.files import read_text

    try:
        data = yaml.safe_load(read_text(path)) or {}
    except yaml.YAMLError as error:
        raise ConfideError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfideError(f"{path} must map flags to values")
    flags = {
        option.removeprefix("--").replace("-", "_"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
    }
    names = {str(key).replace("-", "_"): value for key, value in data.items()}
    if unknown := sorted(set(names) - set(flags)):
        raise ConfideError(f"{path}: no such flag: {', '.join(unknown)}")
    context.default_map = {str(flags[name]): value for name, value in names.items()}
    return path


def with_config(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb that also takes its flags from ``--config file.yaml``."""
    option = Annotated[
        Path | None,
        typer.Option("--config", is_eager=True, callback=read_config, help="YAML file whose keys are the flags."),
    ]

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> None:
        kwargs.pop("config", None)
        verb(*args, **kwargs)

    signature = inspect.signature(verb, eval_str=True)
    extra = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
    setattr(run, "__signature__", signature.replace(parameters=[*signature.parameters.values(), extra]))  # noqa: B010
    run.__annotations__ = {**get_type_hints(verb, include_extras=True), "config": option}
    del run.__wrapped__
    return run


def register() -> None:
    """Attach every verb; verb modules import nothing heavy at the top."""
    from confide.cli import (
        annotate,
        ask,
        calibrate,
        decide,
        demo,
        evaluate,
        export,
        hedge,
        score,
        serve,
        split,
        train,
        validate,
    )
    from confide.cli import (
        policy_verbs as policy,
    )
    from confide.cli import (
        signal_quality_verb as signal_quality,
    )
    from confide.cli import tasks as tasks_verb

    for verb in (
        demo.demo, tasks_verb.tasks, annotate.annotate, split.split, score.score, evaluate.evaluate,
        calibrate.calibrate, validate.validate, signal_quality.signal_quality, decide.decide, ask.ask, export.export,
        hedge.hedge,
    ):  # fmt: skip
        app.command()(with_config(verb))
    app.command()(serve.serve)  # its --config is the router's own
    app.add_typer(train.app, name="train")
    app.add_typer(policy.app, name="policy")


def main() -> None:
    """Entry point: bad input is one sentence on standard error and exit code 2."""
    register()
    try:
        app()
    except (ConfideError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"confide: {error}", style="red"))
        sys.exit(2)


if __name__ == "__main__":
    main()
