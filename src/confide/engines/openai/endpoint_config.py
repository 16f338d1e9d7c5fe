"""How an endpoint is asked: its address, its key, how many requests at once, and what it charges."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from confide.engines.openai.server_config import Price, ServerModel
from confide.errors import ConfideError

KEY = "OPENAI_API_KEY"
"""Where the key is looked for when nothing else is said."""

SENT = (
    "chat_template_kwargs",
    "prompt_logprobs",
    "add_generation_prompt",
    "continue_final_message",
    "return_token_ids",
)
"""Fields beyond OpenAI's that some servers take; each is sent only where its answer is wanted."""

_MAY_BE_SAFE = ("prompt_logprobs", "logprob_token_ids")


def _option(default: Any, help: str, **more: Any) -> Any:
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class EndpointConfig:
    """An OpenAI-compatible endpoint, as flags and YAML files name it; prices are of a million tokens."""

    base_url: str | None = _option(None, "Address of the server, up to /v1.")
    api_key_env: str | None = _option(None, f"Environment variable that holds its key; by default {KEY}, if set.")
    concurrency: int = _option(16, "Requests under way at once.", min=1)
    retries: int = _option(8, "How often a request is sent again that the server could not take.", min=0)
    timeout_s: float = _option(60.0, "Seconds after which a request is given up and sent again.", min=0.1)
    safe_to_ask: str = _option(
        "",
        "`prompt_logprobs`: this server bears it (no LoRA, no speculative decoding); options are then compared. "
        "`logprob_token_ids`: this vLLM bears it (no speculative decoding); a reader then needs one request, not two.",
    )
    reading: str | None = _option(
        None,
        "With --engine vllm: the folder that the server serves, or its reading.json (`confide export --for vllm`).",
    )
    reader: str | None = _option(
        None,
        "With --engine vllm or llama.cpp: the folder of the reader whose adapter the server runs, or its reader.json "
        "(`confide export`); a second request reads each answer. Needs --adapter.",
    )
    adapter: str | None = _option(
        None, "The LoRA adapter that reads, by its name on vLLM, its number on llama.cpp's server."
    )
    input_price: float = _option(0.0, "Price of a million tokens read.", min=0)
    output_price: float = _option(0.0, "Price of a million tokens written.", min=0)

    @property
    def safe(self) -> list[str]:
        """The fields that this server bears being asked with, by its operator's word; raises `ConfideError`."""
        names = [name.strip() for name in self.safe_to_ask.split(",") if name.strip()]
        if unknown := [name for name in names if name not in _MAY_BE_SAFE]:
            raise ConfideError(f"--safe-to-ask takes {' and '.join(_MAY_BE_SAFE)}, not {unknown[0]}")
        return names

    def server(self, model: str) -> ServerModel:
        """The server, asked for ``model``.

        Raises `ConfideError` for an address that is none, or a key that is not set.
        """
        if self.base_url is None:
            raise ConfideError("--engine openai needs the server's address: --base-url http://127.0.0.1:8000/v1")
        key = self.api_key_env or (KEY if os.environ.get(KEY, "").strip() else None)
        url = self.base_url.strip().rstrip("/").removesuffix("/chat/completions")
        try:
            config = ServerModel(
                name="endpoint",
                base_url=url,
                model=model,
                api_key_env=key,
                price=Price(input=self.input_price, output=self.output_price),
                timeout_s=self.timeout_s,
                fields=SENT,
            )
        except ValidationError as error:
            problem = error.errors()[0]
            place = str(problem["loc"][0]) if problem["loc"] else "base_url"
            flag = {"input": "input_price", "output": "output_price"}.get(place, place).replace("_", "-")
            raise ConfideError(f"--{flag}: {problem['msg'].removeprefix('Value error, ')}") from None
        config.api_key()
        return config
