"""Write the parts of the reference that the code has the words for.

Run it as `python docs/generate_reference.py`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from typer.main import get_command

from confide.cli.exit_codes import ExitCode
from confide.cli.main import app
from confide.engines.openai.server_config import Price, ServerModel
from confide.report.terms import TERMS
from confide.serving.api_keys import ApiKey
from confide.serving.config import (
    Again,
    Audit,
    Fields,
    LastResort,
    Limits,
    SelfExpert,
    ServeConfig,
    SmallLocal,
    SmallServer,
    ToolExpert,
    Watch,
)
from confide.serving.http.routes import routes
from confide.serving.monitor.alarms import ALARMS
from confide.serving.routing.prometheus import Metrics
from confide.serving.routing.turn import Extension

REFERENCE = Path(__file__).parent / "reference"
SECTIONS: dict[type[BaseModel], str] = {
    ServeConfig: "The file",
    SmallLocal: "`small` in this process",
    SmallServer: "`small` on a server",
    ServerModel: "A server",
    ToolExpert: "A tool among the experts",
    SelfExpert: "The small model asked again",
    Again: "`self`",
    Price: "`price`",
    Fields: "`fields`",
    Watch: "`watch`",
    LastResort: "`last_resort`",
    Audit: "`audit`",
    Limits: "`limits`",
    ApiKey: "`api_keys`",
}
"""The heading of each part of the configuration, in the order of the page."""
PLAIN = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}


def configuration_page() -> str:
    """A table of settings for every part of ``serve.yaml``."""
    return "\n\n".join(_section(model, heading) for model, heading in SECTIONS.items())


def endpoints_table() -> str:
    """The paths of the router and what each does."""
    rows = ["| path | what it does |", "|---|---|"]
    for route in routes.routes:
        if isinstance(route, APIRoute):
            about = _markdown((route.endpoint.__doc__ or "").split("\n\n")[0])
            rows.append(f"| `{' '.join(sorted(route.methods))} {route.path.replace(':path', '')}` | {about} |")
    return "\n".join(rows)


def extension_table() -> str:
    """The fields of the field ``confide``."""
    fields = TypeAdapter(Extension).json_schema()["properties"]
    rows = [f"| `{name}` | {_markdown(field['description'])} |" for name, field in fields.items()]
    return "\n".join(["| field | meaning |", "|---|---|", *rows])


def alarms_table() -> str:
    """The alarms, and when each comes."""
    return "\n".join(["| alarm | when |", "|---|---|", *(f"| `{name}` | {when} |" for name, when in ALARMS.items())])


def terms_table() -> str:
    """The words of the report, the dashboard and the comparison."""
    return "\n".join(
        ["| term | meaning |", "|---|---|", *(f"| {term} | {meaning} |" for term, meaning in TERMS.items())]
    )


def metrics_table() -> str:
    """What ``/metrics`` tells: name, labels and meaning."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in vars(Metrics()).values():
        if hasattr(metric, "_labelnames"):
            told = next(iter(metric.describe()))
            name = told.name + {"counter": "_total"}.get(told.type, "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
            rows.append(f"| `{name}` | {told.type} | {labels} | {told.documentation} |")
    return "\n".join(rows)


def _section(model: type[BaseModel], heading: str) -> str:
    """A heading, what the part is, and a row for each setting; what every server has stands with the servers."""
    about = _markdown((model.__doc__ or "").split("\n\n")[0])
    fields = model.model_fields
    if model is ServeConfig:
        about = "The keys of the file itself; unknown keys are refused."
    if model is SmallServer:
        fields = {name: field for name, field in fields.items() if name not in ServerModel.model_fields}
        about += f" All settings of {_link(ServerModel)}, and:"
    rows = [_row(name, field) for name, field in fields.items()]
    return "\n".join(
        [f"## {heading}", "", about, "", "| key | value | default | meaning |", "|---|---|---|---|", *rows]
    )


def _row(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"the setting {name} has no description")
    cells = f"`{field.alias or name}`", _value(field.annotation), _default(field), _markdown(field.description)
    return f"| {' | '.join(cells)} |"


def _value(kind: Any) -> str:
    """What may be written there: a type, as words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _value(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_value(one) for one in arguments if one is not type(None)))
    if origin is tuple:
        return f"list of {_value(arguments[0])}"
    if origin is dict:
        return "mapping"
    return _link(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else PLAIN[kind]


def _link(model: type[BaseModel]) -> str:
    base = model if model in SECTIONS else ServerModel
    heading = SECTIONS[base]
    anchor = heading.lower().replace("`", "").replace(" ", "-")
    return f"[{heading[0].lower()}{heading[1:]}](#{anchor})"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in (None, "", (), {}):
        return "–"
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    shown = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
    return f"`{shown}`"


def _markdown(docstring: str) -> str:
    return " ".join(docstring.replace("``", "`").replace("|", "\\|").split())


def exit_codes_table() -> str:
    """Every exit code and its meaning."""
    rows = (f"| {int(code)} | {code.meaning} |" for code in ExitCode)
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def verbs_page() -> str:
    """A section for every verb: what it does, and a table of what it takes."""
    return "\n\n".join(_verb(name, verb) for name, verb in _verbs(get_command(app), "confide"))


def _verbs(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield name, command
        return
    for word, verb in commands.items():
        yield from _verbs(verb, f"{name} {word}")


def _verb(name: str, verb: Any) -> str:
    rows = [_flag(parameter) for parameter in verb.params if not getattr(parameter, "hidden", False)]
    table = ["| argument or flag | default | meaning |", "|---|---|---|", *rows]
    return "\n".join([f"### {name}", "", _one_line(verb.help), "", *table])


def _flag(parameter: Any) -> str:
    argument = parameter.param_type_name == "argument"
    name = parameter.name.upper() if argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = "required" if parameter.required else _flag_default(parameter)
    return f"| `{name}` | {default} | {_one_line(parameter.help or '').replace('|', chr(92) + '|')} |"


def _flag_default(parameter: Any) -> str:
    default = parameter.default
    empty = default is None or default is False or default in ("", (), [])
    return "–" if callable(default) or empty else f"`{default}`"


def _one_line(text: str) -> str:
    """Paragraphs stay, lines inside one are joined."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "cli.md": {"exit-codes": exit_codes_table, "verbs": verbs_page},
    "configuration.md": {"settings": configuration_page},
    "glossary.md": {"terms": terms_table},
    "http.md": {"endpoints": endpoints_table, "confide": extension_table},
    "monitoring.md": {"metrics": metrics_table, "alarms": alarms_table},
}
"""Page → mark → what stands there."""


def filled(text: str, name: str, body: str) -> str:
    """A page with ``body`` between ``<!-- name -->`` and ``<!-- /name -->``."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = text.split(first)
    return f"{before}{first}\n\n{body}\n\n{last}{rest.split(last)[1]}"


def written() -> Iterator[tuple[Path, str]]:
    """Each page, and its text as the code is now."""
    for page, parts in PARTS.items():
        text = (REFERENCE / page).read_text(encoding="utf-8")
        for name, make in parts.items():
            text = filled(text, name, make())
        yield REFERENCE / page, text


def main() -> None:
    """Write the pages."""
    for path, text in written():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
