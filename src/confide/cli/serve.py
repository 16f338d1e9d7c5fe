"""``confide serve``: the OpenAI-compatible router."""

from __future__ import annotations

import gc
import logging
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from confide.cli.printing import warn
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.serving.config import ServeConfig


def serve(
    serve_config: Annotated[
        Path | None, Option("--config", help="The router's configuration (YAML; see docs/reference/configuration.md).")
    ] = None,
    host: Annotated[str | None, Option(help="Address to listen on, in place of the configuration's.")] = None,
    port: Annotated[int | None, Option(min=0, max=65535, help="Port, in place of the configuration's.")] = None,
    mode: Annotated[
        str | None, Option(help="act, or observe: decide and log, but always answer as the small model.")
    ] = None,
    stream_mode: Annotated[
        str | None, Option(help="hold: stream once it is decided; early: stream the small answer at once.")
    ] = None,
    hash_key: Annotated[
        bool, Option("--hash-key", help="Read a key from standard input, print its entry for api_keys, and end.")
    ] = False,
) -> None:
    """Serve answers of a small model, and an expert's where it is not sure enough.

    Example: `confide serve --config serve.yaml`
    """
    if hash_key:
        from confide.serving.api_keys import entry_of

        typer.echo(entry_of(sys.stdin.readline().strip()))
        return
    if serve_config is None:
        raise ConfideError("--config is missing: confide serve --config serve.yaml")
    from confide.functions import look_in
    from confide.serving.config import ServeConfig
    from confide.serving.http.application import create_app
    from confide.serving.http.connections import make_server

    config = ServeConfig.load(serve_config, host=host, port=port, mode=mode, stream_mode=stream_mode)
    look_in(serve_config.parent)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = create_app(config)
    if (said := without_experts(config)) is not None:
        warn(said)
    listening = _listen(config.host, config.port)
    where = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{listening.getsockname()[1]}"
    typer.echo(f"confide serves {where}/v1 (mode {config.mode}); dashboard: {where}/")
    gc.collect()
    gc.freeze()  # what is there at the start stays: looking through it again and again takes 4 % of the time
    make_server(app, config).run(sockets=[listening])


def without_experts(config: ServeConfig) -> str | None:
    """What clients get for questions that escalate where there is no expert to ask (None: nothing escalates)."""
    from confide.policies.policy import Policy

    if config.mode != "act" or config.experts or config.policy is None:
        return None
    policy = Policy.load(config.policy)
    rules = [rule for part in policy.parts for rules in part.thresholds.values() for rule in rules]
    if config.unlike != "escalate" and all(rule.decision != "escalate" for rule in rules):
        return None
    got = {
        "error": "gets an error, status 503 (no expert could answer)",
        "abstain": "gets a refusal",
        "unverified": "gets the small model's answer, marked unverified",
    }[config.last_resort.failed or policy.last_resort]
    return (
        f"there are no experts, so whoever asks what escalates {got}. List `experts`, or choose with "
        "`last_resort: {failed: unverified}` (or abstain, or error)"
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfideError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
