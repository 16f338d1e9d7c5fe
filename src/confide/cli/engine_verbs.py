"""``confide engine check``: what a server can give, and which confidence that allows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer import Option

from confide.cli.flags import Json, add
from confide.cli.last_lines import tell_next
from confide.cli.narrow_help import Verbs
from confide.cli.printing import names_in, print_json
from confide.cli.terminal_tables import make_console
from confide.errors import ConfideError
from confide.progress import progress_bar

if TYPE_CHECKING:
    from confide.engines.openai.abilities import Abilities
    from confide.engines.openai.server_config import ServerModel

app = typer.Typer(cls=Verbs, help="Look at the engine that runs a model.")

TIMEOUT_S = 60.0
"""How long one question may take; a server may load its model at the first."""

_FLAGS = {"base_url": "--base-url", "model": "--model"}
_WAYS = {"id": "in the log-probabilities"}


def check(
    base_url: Annotated[str, Option(metavar="URL", help="The server's address, up to /v1.")],
    model: Annotated[
        str | None, Option(metavar="NAME", help="The model to ask for; without it, the only one that the server lists.")
    ] = None,
    api_key_env: Annotated[
        str | None, Option(metavar="VARIABLE", help="The environment variable that holds the key.")
    ] = None,
    safe_to_ask: Annotated[
        str | None,
        Option(
            metavar="FIELDS", help="Fields that kill some servers and not yours: logprob_token_ids,prompt_logprobs."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Ask an OpenAI-compatible server what it can give, and say which sources of confidence that allows.

    About a dozen questions of one token, and up to four of sixteen. Nothing that is known to kill a server is sent,
    unless you say that it does not kill yours; vLLM's metrics are looked at even then.

    Example: `confide engine check --base-url http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B`
    """
    from confide.methods.endpoint_sources import offers

    safe = _safe(safe_to_ask)
    # The list of models is asked for in the name of none.
    config = _server(base_url, "any" if model is None else model, api_key_env)
    if model is None:
        model = asyncio.run(_listed(config))
        config = config.model_copy(update={"model": model})
    found = asyncio.run(_ask(config, safe))
    there = offers(found)
    if json:
        sources = [{"source": source, "cost": offer.cost} for offer in there for source in offer.sources]
        print_json(asdict(found) | {"capabilities": sorted(found.capabilities), "sources": sources}, indent=2)
        return
    console = make_console()
    console.print(_table(_rows(found)))
    console.print("\nSources of confidence that you can have here, cheapest first:")
    console.print(_table([(", ".join(offer.sources), offer.cost) for offer in there], ("source", "cost")))
    server = f"--base-url {quote(base_url)} --model {quote(model)}"
    tell_next(f"confide annotate --engine openai {server} --task questions.jsonl --out records.jsonl")


add(app, check)


def _server(base_url: str, model: str, api_key_env: str | None) -> ServerModel:
    """The server that the flags name; raises `ConfideError` that names the wrong one."""
    from pydantic import ValidationError

    from confide.engines.openai.server_config import ServerModel

    try:
        address = base_url.strip().rstrip("/").removesuffix("/chat/completions")
        return ServerModel(
            name="engine", base_url=address, model=model.strip(), api_key_env=api_key_env, timeout_s=TIMEOUT_S
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        reason = "a name is wanted" if wrong["type"] == "string_too_short" else wrong["msg"]
        flag = _FLAGS.get(str(wrong["loc"][0]), str(wrong["loc"][0]))
        raise ConfideError(f"{flag}: {reason.removeprefix('Value error, ')}") from None


def _safe(fields: str | None) -> list[str]:
    from confide.engines.openai.engine_check import RISKS

    safe = [] if fields is None else names_in(fields)
    if unknown := [name for name in safe if name not in RISKS]:
        raise ConfideError(f"--safe-to-ask takes {' and '.join(RISKS)}, not {unknown[0]!r}")
    return safe


async def _ask(config: ServerModel, safe: Sequence[str]) -> Abilities:
    from confide.engines.openai.engine_check import check_engine
    from confide.engines.openai.upstream import Http

    http = Http()
    try:
        with progress_bar("asking") as progress:
            return await check_engine(config, http, safe_to_ask=safe, progress=progress)
    finally:
        await http.close()


async def _listed(config: ServerModel) -> str:
    from confide.engines.openai.engine_check import only_model
    from confide.engines.openai.upstream import Http

    http = Http()
    try:
        return await only_model(config, http)
    finally:
        await http.close()


def _table(rows: Sequence[tuple[str, str]], headers: Sequence[str] = ()) -> Table:
    """Two columns; without headers the first one holds labels, which stay on one line."""
    table = Table(show_header=bool(headers), box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(headers[0] if headers else "", no_wrap=not headers, overflow="fold")
    table.add_column(headers[1] if headers else "", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _rows(found: Abilities) -> list[tuple[str, str]]:
    """What the table says, a row for each ability."""

    def told(name: str, value: Any) -> str:
        """An ability in words: yes, no or a value, and the note on it."""
        note = found.notes.get(name, "")
        if value is None:
            return note or "cannot be told"
        word = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        return f"{word} ({note})" if note else word

    prompt: dict[str | None, Any] = {"chat": True, "completions": "in /v1/completions (echo)", "no": False}
    ways = None if found.token_ids is None else ", ".join(_WAYS.get(way, way) for way in found.token_ids) or False
    return [
        ("model", _model(found)),
        ("version", found.version or (f"not told; {found.fingerprint}" if found.fingerprint else "not told")),
        ("context", f"{found.context:,} tokens" if found.context else "not told"),
        ("tokens counted", told("usage", found.usage) + _in_streams(found)),
        ("streaming", told("streaming", found.streaming)),
        ("reasoning", {"apart": "told apart from the answer", None: "none seen"}.get(found.reasoning, "in the answer")),
        ("log-probabilities", told("logprobs", found.logprobs)),
        (
            "likeliest tokens",
            told("top_logprobs", (found.top_logprobs or "none") if found.logprobs else found.logprobs),
        ),
        ("chosen token ids", told("chosen_ids", found.chosen_ids)),
        ("prompt log-probabilities", told("prompt_logprobs", prompt.get(found.prompt_logprobs))),
        ("token ids in replies", told("token_ids", ways)),
        ("several answers at once", told("several", found.several)),
        ("samples", told("samples", found.samples)),
        ("samples with a seed", told("seeded", found.seeded)),
        ("learned reading", told("learned", found.learned)),
    ]


def _model(found: Abilities) -> str:
    """Which model answers, and whether it is the one that was asked for."""
    called = {
        True: f"{found.reported}: another model than {found.model}, which was asked for",
        False: found.reported,
        None: f"{found.model}: whether it is the one that answers cannot be told",
    }[found.other_model]
    note = f"; {found.notes['other_model']}" if "other_model" in found.notes else ""
    return called + note + (f"; loaded from {found.root}" if found.root not in ("", found.reported) else "")


def _in_streams(found: Abilities) -> str:
    if not found.streaming or found.stream_usage == found.usage:
        return ""
    return ", but not in streams" if found.usage else ", but in streams"
