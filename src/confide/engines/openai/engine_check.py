"""What an OpenAI-compatible server can give, found out by asking it a few questions of one token.

Nothing that is known to kill a server is sent to one whose operator has not said that it is safe there (`RISKS`), and
an ability counts only where the answer shows it. The words of a server's errors are not repeated.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from confide.engines.openai import told_abilities as told_of
from confide.engines.openai.abilities import Abilities
from confide.engines.openai.bare_requests import BareRequests, Told
from confide.engines.openai.check_errors import no_answer, refusal_of_all, shown_names
from confide.engines.openai.learned_reading import EXTRA
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.start_check import QUESTION
from confide.engines.openai.upstream import Http
from confide.errors import ConfideError
from confide.progress import Progress

RISKS = {
    "logprob_token_ids": ("spec_decode",),
    "prompt_logprobs": ("spec_decode", "lora_requests_info"),
}
"""Fields that have killed servers → what in vLLM's metrics shows that they would.

``logprob_token_ids``: vLLM that decodes speculatively (issue 42592). ``prompt_logprobs``, and ``echo`` that implies it:
vLLM with LoRA on (issues 16668 and 29955), or that decodes speculatively (issue 7742).
"""

_KILLS = {
    "logprob_token_ids": "a server that decodes speculatively",
    "prompt_logprobs": "a server with LoRA or speculative decoding",
}
_ELSE = {"logprob_token_ids": "does not", "prompt_logprobs": "has neither"}
_SHOWN = {"spec_decode": "speculative decoding", "lora_requests_info": "LoRA"}

_REFUSES_IDS = (0, 30)
"""The version of vLLM from which on an id past the vocabulary is refused before it reaches the model."""
_PAST_ALL = 2**31 - 1
_NUMBER = [{"role": "user", "content": "Write a random number of twelve digits. Reply with the number only."}]
_NUMBER_TOKENS = 16
_SEEDS = (7, 7, 8, 9)
_PROMPT = "The capital of France is Paris"
_MOST_TOP = (20, 5, 1, 0)
_PASSING = frozenset({408, 429, 502, 503, 504})


async def check_engine(
    config: ServerModel, http: Http, *, safe_to_ask: Collection[str] = (), progress: Progress | None = None
) -> Abilities:
    """Ask a server what it can give.

    Args:
        config: the server and the model.
        http: the connections to ask over.
        safe_to_ask: fields of `RISKS` of which the operator says that they do not kill this server.
        progress: called with (questions done, all, note).

    Raises:
        ConfideError: there is no server, it refuses the key, it does not serve the model, or it answers no chat.
    """
    return await _Check(config, BareRequests(config, http), frozenset(safe_to_ask)).run(progress)


async def only_model(config: ServerModel, http: Http) -> str:
    """The one model that a server lists, where nobody named one; ``config``'s own is not looked at.

    Raises:
        ConfideError: it lists none, or several, which the error names.
    """
    requests = BareRequests(config, http)
    try:
        told = await requests.look(f"{config.base_url}/models")
    except ModelError as failure:
        raise no_answer(config, failure.kind) from None
    names = list(dict.fromkeys(told_of.names_listed(told.data) or ())) if told.taken else []
    if len(names) == 1:
        return names[0]
    if names:
        raise ConfideError(f"--model is missing; the server lists {shown_names(requests, names)}")
    raise ConfideError(
        f"--model is missing, and {config.base_url}/models lists none (status {told.status}): name it, and check that "
        "--base-url goes up to /v1 and that --api-key-env names the key"
    )


class _Check:
    """The questions to one server, in their order; what they found is collected in ``_found`` and ``_notes``."""

    def __init__(self, config: ServerModel, requests: BareRequests, safe: frozenset[str]):
        self._config = config
        self._requests = requests
        self._safe = safe
        self._found: dict[str, Any] = {"limit_field": "max_tokens"}
        self._notes: dict[str, str] = {}
        self._id_ways: set[str] = set()
        self._metrics: bytes | None = None

    async def run(self, progress: Progress | None) -> Abilities:
        steps = (
            self._first,
            self._look_around,
            self._logprobs,
            self._token_ids,
            self._several,
            self._samples,
            self._streaming,
            self._prompt_logprobs,
            self._chosen_ids,
            self._learned,
        )
        for done, step in enumerate(steps):
            if progress is not None:
                progress(done, len(steps), step.__name__.strip("_").replace("_", " "))
            await step()
        if progress is not None:
            progress(len(steps), len(steps), "")
        return Abilities(
            base_url=self._config.base_url,
            model=self._config.model,
            notes=dict(sorted(self._notes.items())),
            **self._found,
        )

    # -- what every answer tells -------------------------------------------------------------------------------------

    async def _first(self) -> None:
        """A plain question: whether the server answers at all, and as which model."""
        listing = await self._listing()
        names = told_of.names_listed(listing.data) if listing is not None else None
        try:
            told = await self._ask({})
            if told.status in (400, 422):  # models that reason first want their limit under this name
                self._found["limit_field"] = "max_completion_tokens"
                told = await self._ask({})
        except ModelError as failure:
            raise no_answer(self._config, failure.kind) from None
        if not told.taken or not told_of.messages_in(told.data):
            raise await refusal_of_all(self._config, self._requests, told, names)
        reported, fingerprint = (self._requests.shown(told.data.get(key)) for key in ("model", "system_fingerprint"))
        card = told_of.card_of(listing.data, self._config.model) if listing is not None else {}
        self._found |= {
            "reported": reported,
            "other_model": told_of.is_other_model(self._config.model, reported) if reported else None,
            "fingerprint": fingerprint,
            "root": self._requests.shown(card.get("root")),
            "context": told_of.context_in(card),
            "usage": told_of.usage_told(told.data),
            "reasoning": told_of.reasoning_in(told.data),
        }
        if names and all(told_of.is_other_model(self._config.model, name) for name in names):
            self._notes["other_model"] = f"it lists only {shown_names(self._requests, names)}"
            if not self._found["other_model"]:
                self._found["other_model"] = None

    async def _listing(self) -> Told | None:
        try:
            return await self._requests.look(f"{self._config.base_url}/models")
        except ModelError as failure:
            if failure.kind == "refused":
                raise no_answer(self._config, failure.kind) from None
            return None

    async def _look_around(self) -> None:
        """Pages beside the API: the version, and the metrics where it depends on them what may be asked."""
        root = self._config.root
        for page in ("version", "api/version"):
            if version := told_of.version_in(await self._page(f"{root}/{page}") or b""):
                self._found["version"] = self._requests.shown(version)
                break
        if self._safe:
            self._metrics = await self._page(f"{root}/metrics")
            if self._metrics is not None and b"vllm:" in self._metrics:
                self._found["speculative"] = b"spec_decode" in self._metrics

    # -- log-probabilities -------------------------------------------------------------------------------------------

    async def _logprobs(self) -> None:
        data: dict[str, Any] | None = {}
        for count in _MOST_TOP:
            data = await self._try("logprobs", {"logprobs": True} | ({"top_logprobs": count} if count else {}))
            if data != {}:
                break
        if data is None:
            self._found["logprobs"] = None
            return
        self._found["logprobs"] = False
        if token := told_of.first_token(data):
            self._found |= {"logprobs": True, "top_logprobs": min(told_of.top_logprobs_in(token), count)}
            self._id_ways |= told_of.token_ids_in(data)
            if (more := next((more for more in reversed(_MOST_TOP) if more > count), None)) is not None:
                self._notes["top_logprobs"] = f"{more} are refused"

    async def _token_ids(self) -> None:
        more = {"logprobs": True} if self._found["logprobs"] else {}
        fields = ["return_token_ids", *(["return_tokens_as_token_ids"] if more else [])]
        data = await self._try("token_ids", more | dict.fromkeys(fields, True))
        self._id_ways |= told_of.token_ids_in(data or {})
        if data == {} and len(fields) > 1:  # one of them may be refused because of the other
            for name in fields:
                self._id_ways |= told_of.token_ids_in(await self._try("token_ids", more | {name: True}) or {})
        if data is not None or self._id_ways:
            self._found["token_ids"] = tuple(sorted(self._id_ways))

    async def _prompt_logprobs(self) -> None:
        if not self._may_ask("prompt_logprobs", "prompt_logprobs"):
            return
        where: str | None = "no"
        data = await self._try("prompt_logprobs", {"prompt_logprobs": 1})
        if data is not None and told_of.prompt_logprobs_in_chat(data):
            where = "chat"
        elif data is not None:
            # An answer of no tokens has killed vLLM (issue 6521), so one token is asked for.
            body = {"prompt": _PROMPT, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
            data = await self._try("prompt_logprobs", body, path="completions")
            if data is not None and told_of.prompt_logprobs_in_echo(data, _PROMPT):
                where = "completions"
        self._found["prompt_logprobs"] = None if data is None else where

    async def _chosen_ids(self) -> None:
        if self._may_ask("chosen_ids", "logprob_token_ids"):
            data = await self._chosen([0, 1])
            self._found["chosen_ids"] = None if data is None else {0, 1} <= told_of.chosen_in(data).keys()

    async def _learned(self) -> None:
        """Whether the ids past the model's own vocabulary hold a reading; the server itself names their place."""
        if not self._found.get("chosen_ids"):
            self._found["learned"] = self._found.get("chosen_ids")
            if self._found["learned"] is None:
                self._notes["learned"] = "cannot be told without chosen token ids"
            return
        if not told_of.at_least(self._found.get("version", ""), _REFUSES_IDS):
            least = ".".join(map(str, _REFUSES_IDS))
            self._notes["learned"] = f"not asked: only vLLM {least} and later are known to refuse an id that is none"
            return
        told = await self._told("learned", self._chosen_fields([_PAST_ALL]))
        if told is None:
            return
        size = told_of.vocabulary_in(told.body) if told.status in (400, 422) else None
        self._found |= {"learned": False, "vocabulary": size}
        if size is not None and size > EXTRA:
            own = size - EXTRA
            data = await self._chosen(told_of.reading_ids(own), "learned")
            if data is None:
                self._found["learned"] = None
            elif told_of.is_reading(told_of.chosen_in(data), own):
                self._found |= {"learned": True, "vocabulary": own}

    async def _chosen(self, ids: list[int], name: str = "chosen_ids") -> dict[str, Any] | None:
        return await self._try(name, self._chosen_fields(ids))

    @staticmethod
    def _chosen_fields(ids: list[int]) -> dict[str, Any]:
        return {"logprobs": True, "logprob_token_ids": ids, "return_tokens_as_token_ids": True}

    # -- samples and streams -----------------------------------------------------------------------------------------

    async def _several(self) -> None:
        data = await self._try("several", {"n": 2, "temperature": 1})
        self._found["several"] = None if data is None else len(told_of.messages_in(data)) > 1

    async def _samples(self) -> None:
        """Draw with seeds until two answers differ; without seeds where they are refused."""
        texts: list[str] = []
        fields: dict[str, Any] = {"temperature": 1}
        for seed in _SEEDS:
            if "seeded" not in self._found:
                fields["seed"] = seed
            data = await self._try("seeded" if "seed" in fields else "samples", fields, _NUMBER)
            if data == {} and "seed" in fields:
                self._found["seeded"] = False
                del fields["seed"]
                data = await self._try("samples", fields, _NUMBER)
            if not data:
                self._found["samples"] = None if data is None else False
                return
            self._found["reasoning"] = self._found["reasoning"] or told_of.reasoning_in(data)
            texts += (told_of.texts_in(data) or [""])[:1]
            if len(texts) > 2 and len(set(texts)) > 1:
                break
        if not all(text.strip() for text in texts):
            self._notes["samples"] = self._notes["seeded"] = "the answers hold no text"
            return
        self._found["samples"] = len(set(texts)) > 1
        if not self._found["samples"]:
            self._notes["samples"] = self._notes["seeded"] = "answers at temperature 1 are all alike"
        if "seeded" not in self._found:
            self._found["seeded"] = texts[0] == texts[1] if self._found["samples"] else None

    async def _streaming(self) -> None:
        told = await self._told("streaming", {"stream": True, "stream_options": {"include_usage": True}})
        if told is not None and told.status != 200:
            told = await self._told("streaming", {"stream": True})
        if told is not None:
            pieces, usage = told_of.streamed(told.body) if told.status == 200 else (False, False)
            self._found |= {"streaming": pieces, "stream_usage": usage}

    # -- how it is asked ---------------------------------------------------------------------------------------------

    async def _ask(self, fields: dict[str, Any], messages: list[dict[str, str]] = QUESTION) -> Told:
        limit = _NUMBER_TOKENS if messages is _NUMBER else 1
        body = {"model": self._config.model, "messages": messages, self._found["limit_field"]: limit}
        return await self._requests.post("chat/completions", body | fields)

    async def _try(
        self, name: str, fields: dict[str, Any], messages: list[dict[str, str]] = QUESTION, *, path: str = ""
    ) -> dict[str, Any] | None:
        """What a question about the ability ``name`` brings: {} where it is refused, None where that is not told."""
        told = await self._told(name, fields, messages, path=path)
        return None if told is None else told.data if told.taken else {}

    async def _told(
        self, name: str, fields: dict[str, Any], messages: list[dict[str, str]] = QUESTION, *, path: str = ""
    ) -> Told | None:
        """The answer to such a question, refusals included; None, and a note, where there is none."""
        try:
            if path:
                told = await self._requests.post(path, {"model": self._config.model} | fields)
            else:
                told = await self._ask(fields, messages)
        except ModelError as failure:
            self._fail(name, failure)
            return None
        if told.status in _PASSING:
            self._notes[name] = f"cannot be told: the server turned the question away ({told.status})"
            return None
        if told.status >= 500:
            self._notes[name] = f"the server fails when it is asked for that ({told.status})"
        elif told.status == 200:
            self._notes.pop(name, None)  # of a failure before
        return told

    def _fail(self, name: str, failure: ModelError) -> None:
        if failure.kind == "refused":
            raise ConfideError(
                f"the server at {self._config.base_url} answered at first and cannot be reached any more, since it was "
                f"asked about {name}: is it still running?"
            ) from None
        why = {"timeout": f"no answer in {self._config.timeout_s:g} s", "broken": "the connection broke off"}
        self._notes[name] = f"cannot be told: {why.get(failure.kind, failure.kind)}"

    def _may_ask(self, name: str, risk: str) -> bool:
        """Whether a field of `RISKS` may be sent; a note says why not."""
        if risk not in self._safe:
            self._notes[name] = f"not asked: kills {_KILLS[risk]}; say --safe-to-ask {risk} if yours {_ELSE[risk]}"
            return False
        shown = [_SHOWN[sign] for sign in RISKS[risk] if sign.encode() in (self._metrics or b"")]
        if shown:
            self._notes[name] = f"not asked: the server's metrics show {' and '.join(shown)}, and that would kill it"
        return not shown

    async def _page(self, url: str) -> bytes | None:
        try:
            told = await self._requests.look(url)
        except ModelError:
            return None
        return told.body if told.status == 200 else None
