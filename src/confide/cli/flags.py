"""Flags of a verb: its own parameters, the fields of a settings dataclass, and ``--config FILE``."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from confide.arguments import shown
from confide.cli.config_file import config_flag
from confide.cli.last_lines import running
from confide.cli.old_spellings import Verb
from confide.cli.outputs import check_out
from confide.errors import ConfideError

ChatTemplateKwargs = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='What the chat template is given besides, such as {"enable_thinking": false}.'),
]

Identity = Annotated[
    str | None,
    typer.Option(metavar="IDENTITY", help="Take only the rows that this model answered, as rows name it."),
]

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Run on a Ray cluster: HOST:PORT of its head, or `local`. `--out` is then a folder of Parquet files.",
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="With `--ray`: models that run at once; by default one a GPU, or else one a machine."),
]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def parse_mapping(text: str | None) -> dict[str, Any]:
    """A flag's JSON object as a dictionary ({} for none); raises `ConfideError` for anything else."""
    try:
        data = json.loads(text or "{}")
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ConfideError(f'{shown(text)} is not a JSON object, such as {{"enable_thinking": false}}')
    return data


class Flags:
    """Which fields of a dataclass are flags, as in ``config: Annotated[SelfRefConfig, Flags("rank epochs")]``.

    Name, type, default, bound and help of a flag come from its field (`supervised_config.option`).

    Args:
        fields: names of fields, separated by spaces; all of them, if none is named.
        given: for a parameter that is a dictionary: the dataclass. The flags then have no defaults, and the
            dictionary holds the fields whose flags were given.
    """

    def __init__(self, fields: str = "", given: type | None = None):
        self.fields = fields.split()
        self.given = given

    def parameters(self, config: type) -> dict[str, inspect.Parameter]:
        """The parameters that Typer makes flags of, by their fields."""
        hints = get_type_hints(config)
        known = {field.name: field for field in dataclasses.fields(config)}
        parameters = {}
        for name in self.fields or known:
            hint, default, about = hints[name], known[name].default, known[name].metadata
            help = about["help"]
            if self.given:
                hint, default, help = hint | None, None, f"{help} Default: {default}."
            flag = about.get("flag", name)
            # Named, a switch has no `--no-` twin, which only makes sense for one that is on.
            switch = [f"--{flag.replace('_', '-')}"] if default is False else []
            option = typer.Option(*switch, min=about.get("min"), help=help)
            parameters[name] = inspect.Parameter(
                flag, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option]
            )
        return parameters


LARGEST = {"seed": (1 << 32) - 1}
"""Whole numbers are at most this, and others at most what 64 bits hold."""


def command(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb as Typer takes it: a flag per field where a parameter is a dataclass, and ``--config FILE``."""
    shown: list[inspect.Parameter] = []
    names: dict[str, str] = {}
    groups: dict[str, tuple[Callable[..., Any], dict[str, inspect.Parameter]]] = {}
    hints = get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        flags = next((one for one in _metadata(hints[name]) if isinstance(one, Flags)), None)
        if flags is None:
            _name_argument(name, hints[name])
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
            names[name] = _shown_as(name, hints[name])
            continue
        config = hints[name].__origin__
        groups[name] = (_only_given if flags.given else config, flags.parameters(flags.given or config))
        shown += groups[name][1].values()
    beside = [one for hint in hints.values() for one in _metadata(hint) if isinstance(one, typer.models.OptionInfo)]
    own = any("--config" in (one.default, *(one.param_decls or ())) for one in beside)  # the router's
    shown += [] if own else [config_flag(shown)]

    def run(**values: Any) -> None:
        with running(verb.__name__, values):
            check_out(values, hints, names | {"config": "--config"})
            values.pop("config", None)
            _check_numbers(values)
            for name, (make, fields) in groups.items():
                values[name] = make(**{field: values.pop(parameter.name) for field, parameter in fields.items()})
            verb(**values)

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    setattr(run, "__signature__", inspect.Signature(shown))  # noqa: B010
    return run


def add(app: typer.Typer, verb: Callable[..., None], name: str | None = None, panel: str | None = None) -> None:
    """Make ``verb`` a verb of ``app``; old spellings of its flags work, too.

    Args:
        app: the command line, or a group of verbs.
        verb: the function, whose parameters become flags (`command`).
        name: what it is called there, by default as the function.
        panel: under which heading help lists it.
    """
    app.command(name, cls=Verb, rich_help_panel=panel)(command(verb))


def _metadata(hint: Any) -> tuple[Any, ...]:
    """What stands in ``Annotated`` beside the type."""
    found: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    return found


def _name_argument(name: str, hint: Any) -> None:
    """Help writes every argument in capitals, as errors do."""
    for one in _metadata(hint):
        if isinstance(one, typer.models.ArgumentInfo):
            one.metavar = one.metavar or name.upper()


def _shown_as(name: str, hint: Any) -> str:
    """What help calls a parameter: ``--flag``, or the name of an argument."""
    argument = any(isinstance(one, typer.models.ArgumentInfo) for one in _metadata(hint))
    return name.upper() if argument else f"--{name.replace('_', '-')}"


def _check_numbers(values: dict[str, Any]) -> None:
    """Raise `ConfideError` for numbers that no verb takes: not finite ones, and whole ones beyond their range."""
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfideError(f"{flag} takes a finite number, not {value}")
        if isinstance(value, int) and not isinstance(value, bool):
            low, high = (0 if name in LARGEST else -(1 << 63)), LARGEST.get(name, (1 << 63) - 1)
            if not low <= value <= high:
                raise ConfideError(f"{flag} takes a whole number from {low} to {high}, not {value}")


def _only_given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
