"""A stand-in for the model server of a page: it answers questions, and `confide engine check` as vLLM does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

import checked_endpoints
import endpoint_server

ASKED_TO_CHECK = ("Hello", "Say yes.", "Write a random number")
"""How the questions begin by which confide finds out what a server can."""


def knows(text: str) -> str:
    """A model that knows most cities: right answers where it is sure, mostly another one elsewhere."""
    from confide.tasks.geography.gazetteer import look_up

    right = look_up([{"role": "user", "content": text}])
    return right if right and endpoint_server.share_of(text) < 0.6 else "Peru"


class PageServer(checked_endpoints.Endpoint):
    """Serves one model under its name, without the plug-in."""

    def __init__(self, name: str):
        card = {"id": name, "object": "model", "owned_by": "vllm", "root": name, "max_model_len": 8192}
        super().__init__(takes=checked_endpoints.VLLM, models=[card], pages={"/version": {"version": "0.32.0"}})
        self.model = endpoint_server.Endpoint(knows=knows, top=20)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        if str(body["messages"][-1]["content"]).startswith(ASKED_TO_CHECK):
            return await super().chat(request)
        if refusal := await self.refusal(request, body | {self.limit: 1}):
            return refusal
        return web.json_response(self.model.completion(body, "ok"))


@contextmanager
def page_server(name: str) -> Iterator[str]:
    """The address of a server of the model ``name``, which stops at the end."""
    with PageServer(name).running() as server:
        yield server.url
