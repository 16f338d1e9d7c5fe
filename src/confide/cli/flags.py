"""Flags of a verb: its own parameters, the fields of a settings dataclass, and ``--config FILE``."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from confide.errors import ConfideError

ChatTemplateKwargs = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='What the chat template is given besides, such as {"enable_thinking": false}.'),
]

Identity = Annotated[
    str | None,
    typer.Option(metavar="IDENTITY", help="Take only the rows that this model answered, as rows name it."),
]


def parse_mapping(text: str | None) -> dict[str, Any]:
    """A flag's JSON object as a dictionary ({} for none); raises `ConfideError` for anything else."""
    try:
        data = json.loads(text or "{}")
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise ConfideError(f'{text!r} is not a JSON object, such as {{"enable_thinking": false}}')
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


CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        typer.Option("--config", is_eager=True, callback=read_config, help="YAML file whose keys are the flags."),
    ],
)


def command(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb as Typer takes it: a flag per field where a parameter is a dataclass, and ``--config FILE``."""
    shown: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., Any], dict[str, inspect.Parameter]]] = {}
    hints = get_type_hints(verb, include_extras=True)
    for name, parameter in inspect.signature(verb).parameters.items():
        flags = next((one for one in getattr(hints[name], "__metadata__", ()) if isinstance(one, Flags)), None)
        if flags is None:
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        config = hints[name].__origin__
        groups[name] = (_only_given if flags.given else config, flags.parameters(flags.given or config))
        shown += groups[name][1].values()
    shown.append(CONFIG)

    def run(**values: Any) -> None:
        values.pop("config")
        for name, (make, fields) in groups.items():
            values[name] = make(**{field: values.pop(parameter.name) for field, parameter in fields.items()})
        verb(**values)

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    setattr(run, "__signature__", inspect.Signature(shown))  # noqa: B010
    return run


def _only_given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
