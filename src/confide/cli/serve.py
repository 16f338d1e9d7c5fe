"""``confide serve``: the OpenAI-compatible router."""

from __future__ import annotations

import gc
import logging
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from confide.errors import ConfideError


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
    listening = _listen(config.host, config.port)
    where = f"http://{f'[{config.host}]' if ':' in config.host else config.host}:{listening.getsockname()[1]}"
    typer.echo(f"confide serves {where}/v1 (mode {config.mode}); dashboard: {where}/")
    gc.collect()
    gc.freeze()  # what is there at the start stays: looking through it again and again takes 4 % of the time
    make_server(app, config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfideError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
