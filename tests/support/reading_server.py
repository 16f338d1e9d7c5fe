"""An endpoint in the shape of vLLM with confide's plug-in: each token comes with the ids of a reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from confide.engines.openai.learned_reading import EXTRA
from endpoint_server import Endpoint, share_of

VOCABULARY, END, ZERO = 1000, 2, -768.5
FINGERPRINT = [7, 0, 254, 128]


@dataclass
class ReadingServer(Endpoint):
    """Answers as `Endpoint` does. ``plugin``: ``there``, ``none`` (ids past the vocabulary are refused), ``silent``
    (fields beyond OpenAI's are passed over), ``other`` (another export), or ``masked`` (structured output).
    """

    plugin: Literal["there", "none", "silent", "other", "masked"] = "there"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "logprob_token_ids" in body and self.plugin == "none":
            self.requests.append(body)
            return web.json_response({"error": {"message": "out-of-vocab token ids", "code": 400}}, status=400)
        return await super().handle(request)

    def shares(self, text: str, place: int) -> list[float]:
        """What the token at this place of the answer to ``text`` comes with."""
        return [4 * share_of(text, place, i) - 2 for i in range(3)]

    def tokens_of(self, text: str, pieces: list[str], body: dict[str, Any]) -> list[dict[str, Any]]:
        ids = body.get("logprob_token_ids")
        if ids is None or self.plugin == "silent":
            return super().tokens_of(text, pieces, body)
        limit, found = body.get("max_tokens") or 99, []
        end = [] if len(pieces) >= limit else ["<|im_end|>"]
        for place, piece in enumerate([*pieces, *end]):
            id = END if piece == "<|im_end|>" else 10 + place
            digits = [byte ^ (self.plugin == "other") for byte in FINGERPRINT]
            values = dict(enumerate(self.shares(text, place), VOCABULARY + 1)) | {VOCABULARY: 0.0}
            values |= {VOCABULARY + EXTRA - 4 + i: float(digit - 128) for i, digit in enumerate(digits)}
            told = {i: -9999.0 if self.plugin == "masked" else ZERO + values[i] for i in ids}
            found.append(
                {
                    "token": f"token_id:{id}",
                    "logprob": -0.01 - share_of(text),
                    "bytes": list(piece.encode()),
                    "top_logprobs": [{"token": f"token_id:{i}", "logprob": value} for i, value in told.items()],
                }
            )
        return found

    def z(self, text: str, answer: str) -> float:
        """What the reading of the answer to ``text`` is."""
        rows = [self.shares(text, place) for place in range(len(range(0, len(answer), 3)) + 1)]
        inside = [row[1] for row in rows[1:]]
        return rows[0][0] + sum(inside) / len(inside) + rows[-1][2]
