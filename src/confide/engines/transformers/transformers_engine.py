"""The engine in this process: a Hugging Face causal language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from confide.engines.directions import Directions, Watch
from confide.engines.engine import CAPABILITIES, Completion, Gone, NextTokens
from confide.engines.reasoning import left_open, reasoning_tokens, without_tags
from confide.engines.token_starts import moved, starts_of_ids
from confide.engines.transformers.batches import group_batches, rows_at_once
from confide.engines.transformers.closed_answers import TransformersClosed, close
from confide.engines.transformers.encoding import encode_chat, encode_text
from confide.engines.transformers.forward import Forward
from confide.engines.transformers.generation import Generator
from confide.engines.transformers.loading import freeze, load_model
from confide.engines.transformers.sampling import Left, Sampler
from confide.engines.transformers.tails import run_tails
from confide.engines.transformers.tensor_checksum import weights_sha256
from confide.engines.transformers.token_scores import row_logits, score_given
from confide.engines.transformers.token_shares import reading
from confide.engines.transformers.turn_end import turn_end_id
from confide.engines.transformers.turns import in_turn
from confide.policies.identities import weights_identity
from confide.progress import Progress
from confide.report_tokens import graded_ids, suppressed_ids, token_ids

TAG_TOKENS = 16
"""Of the end of a prompt, in which a chat template may open reasoning: more than any tag takes."""


class TransformersEngine:
    """An `Engine` whose model runs here, so that its states can be read.

    Making one changes nothing about the model; `load` freezes what it loads.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        name: what records say about where the answers come from.
        chat_template_kwargs: what the chat template is given besides the messages, such as ``enable_thinking=False``.
    """

    capabilities = frozenset(CAPABILITIES) - {"arrivals"}

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str = "model",
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self.turn_end = turn_end_id(tokenizer)
        self.grades = graded_ids(tokenizer)
        """Graded tokens, where the model has them: each closes an answer and states a confidence in it."""
        eos = model.generation_config.eos_token_id
        self.end_ids = sorted({self.turn_end, *([eos] if isinstance(eos, int) else eos or []), *self.grades})
        """Every token that ends an answer: those of the model's generation settings too."""
        # New tokens and the spare rows behind them: an answer never contains them, and they get no probability.
        ours = suppressed_ids(tokenizer)
        rows = model.get_output_embeddings().weight.shape[0]
        self._banned = sorted({*ours, *range(len(tokenizer), rows)}) if ours or self.grades else []
        self.forward = Forward(model, self.turn_end)
        self._generator = Generator(self.forward, self.end_ids, self._banned, self.grades, self.decode)

    @classmethod
    def load(
        cls,
        name: str,
        *,
        dtype: str | None = None,
        device: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> TransformersEngine:
        """Load a model by name or folder and freeze it (see `confide.engines.transformers.loading.load_model`)."""
        model, tokenizer = load_model(name, dtype=dtype, device=device)
        return cls(freeze(model), tokenizer, name, chat_template_kwargs)

    @property
    def lock(self) -> Any:
        """Held while the model runs; whoever needs several passes to belong together holds it over all of them."""
        return self.forward.lock

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.forward.device

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return self.forward.context

    @property
    def depth(self) -> int:
        """How many decoder layers the model has."""
        return len(self.forward.blocks)

    @property
    def width(self) -> int:
        """How many numbers a hidden state has."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def batch_size(self) -> int:
        """Prompts per batch where nobody says otherwise (see `rows_at_once`)."""
        return rows_at_once(self.model, self.device)

    @property
    @in_turn
    def sha256(self) -> str:
        """A hash that changes with any weight that answers, to tell which base a checkpoint belongs to.

        Rows of confide's own tokens and spare rows behind the vocabulary are left out: they write no answer, so a
        frozen model keeps its hash when it gains them.
        """
        return weights_sha256(self.model, min([len(self.tokenizer), *self.grades, *suppressed_ids(self.tokenizer)]))

    @property
    def identity(self) -> str:
        """The hash of the weights, as records and policies hold it."""
        return weights_identity(self.sha256)

    def wait(self) -> None:
        """Return when the device has done what it was given, so that what is timed next pays for itself alone."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @in_turn
    def encode(self, messages: Sequence[Any], chat_template_kwargs: Mapping[str, Any] | None = None) -> list[int]:
        """Token ids of a conversation, up to where the answer starts; user text never becomes a verdict."""
        plain = [m if isinstance(m, dict) else m.model_dump() for m in messages]
        given = self.chat_template_kwargs if chat_template_kwargs is None else chat_template_kwargs
        return encode_chat(self.tokenizer, plain, given)

    @in_turn
    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer that exists only as text."""
        return encode_text(self.tokenizer, text)

    @in_turn
    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def batches(
        self,
        prompts: Sequence[list[int]],
        *,
        keys: Sequence[Any] | None = None,
        size: int | None = None,
        progress: Progress | None = None,
        note: str = "",
    ) -> Iterator[list[int]]:
        """Row numbers in batches whose prompts share their start, which runs once (see `Engine.batches`)."""
        groups, done = self.forward.share_prefixes(prompts), 0
        keys = [len(prompt) for prompt in prompts] if keys is None else keys
        for rows in group_batches(groups, keys, size or self.batch_size):
            yield rows
            done += len(rows)
            if progress:
                progress(done, len(prompts), note)

    def tokens_read(self, prompts: Sequence[list[int]]) -> int:
        """Tokens of a batch's prompts, without those that run once for many batches."""
        return sum(map(len, prompts)) - len(prompts) * len(self.forward.shared_prefix(prompts)[0])

    def forget_prefixes(self) -> None:
        """Drop what earlier batches shared: the weights have moved since."""
        self.forward.forget_prefixes()

    @in_turn
    @torch.no_grad()
    def answer(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        *,
        gone: Gone | None = None,
        directions: Directions | None = None,
        watch: Watch | None = None,
    ) -> list[Completion]:
        """The greedy answer to each prompt; that of one which is ``gone`` meanwhile ends there."""
        passed = self.forward.prefill(prompts, max_new_tokens)
        with reading(self.forward, directions) as shares:
            written = self._generator.in_stages(*passed, max_new_tokens, gone=gone, shares=shares, watch=watch)
        return self.without_reasoning(prompts, written)

    @in_turn
    @torch.no_grad()
    def answer_and_close(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        layers: Sequence[int] = (),
        *,
        gone: Gone | None = None,
        directions: Directions | None = None,
        watch: Watch | None = None,
    ) -> TransformersClosed:
        """The greedy answer to each prompt, whose closing token can be read without another pass."""
        (ids, mask, cache), rows = self.forward.prefill(prompts, max_new_tokens), range(len(prompts))
        with self.forward.capture(layers) as captured, reading(self.forward, directions) as shares:
            left = Left(gone, rows) if gone else None
            watched = self._generator.watched(watch, rows, shares, ids, fresh=True)
            out = self._generator.generate(ids, mask, cache, max_new_tokens, left=left, watched=watched)
        written = self._generator.completions(out, ids.shape[1], shares, watched)
        completions = self.without_reasoning(prompts, written)
        return close(self.forward, prompts, out.past_key_values, mask, completions, captured)

    @in_turn
    @torch.no_grad()
    def answer_and_report(
        self, prompts: Sequence[list[int]], max_new_tokens: int, *, gone: Gone | None = None
    ) -> list[Completion]:
        """The greedy answer to each prompt by a model that writes its verdict, with the verdict's logit.

        Raises `ConfideError` for a model without verdict tokens.
        """
        ids = token_ids(self.tokenizer)
        pair = (ids.cn, ids.un)
        generator = replace(
            self._generator,
            end_ids=sorted({*self.end_ids, *pair}),
            banned=[token for token in self._banned if token not in pair],
            report=pair,
        )
        with self._in_float32(pair):
            passed = self.forward.prefill(prompts, max_new_tokens)
            written = generator.in_stages(*passed, max_new_tokens, gone=gone)
        return self.without_reasoning(prompts, written)

    @in_turn
    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        count: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        gone: Gone | None = None,
        directions: Directions | None = None,
    ) -> list[list[Completion]]:
        """``count`` sampled answers to each prompt, all from one pass over it."""
        ids, mask, cache = self.forward.prefill(prompts, max_new_tokens)
        cache.batch_repeat_interleave(count)
        with reading(self.forward, directions) as shares:
            flat = self._generator.in_stages(
                ids.repeat_interleave(count, 0),
                mask.repeat_interleave(count, 0),
                cache,
                max_new_tokens,
                Sampler(temperature, seed, self.device),
                (lambda row: gone(row // count)) if gone else None,
                shares,
            )
        flat = self.without_reasoning([prompt for prompt in prompts for _ in range(count)], flat)
        return [flat[i * count : (i + 1) * count] for i in range(len(prompts))]

    @in_turn
    @torch.no_grad()
    def next_tokens(
        self,
        prompts: Sequence[list[int]],
        ids: Sequence[int],
        tails: Sequence[list[int]] | None = None,
        *,
        float32: bool = False,
    ) -> NextTokens:
        """Log-probabilities of the tokens ``ids`` after each prompt and its tail (see `Engine.next_tokens`)."""
        tails = tails or [[] for _ in prompts]
        last = run_tails(self.forward, prompts, tails).hidden[
            torch.arange(len(tails)), torch.tensor([len(tail) for tail in tails])
        ]
        wanted = list(ids)
        with self._in_float32(wanted) if float32 else nullcontext():
            logits = self.forward.logits(last).float()
        total = logits.logsumexp(-1).double()
        chosen = logits[:, wanted].double() - total[:, None]
        logits[:, wanted] = -torch.inf
        rival = logits.amax(-1).double() - total
        return NextTokens(chosen.cpu().numpy(), rival.cpu().numpy())

    @in_turn
    @torch.no_grad()
    def closed(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        *,
        layers: Sequence[int] = (),
        measure: bool = False,
        directions: Directions | None = None,
    ) -> TransformersClosed:
        """Read given ``answers`` as if the model had written them (see `Engine.closed`)."""
        read = run_tails(self.forward, prompts, answers, layers, directions)
        if measure:
            completions = score_given(
                read.hidden,
                answers,
                head=self.forward.logits,
                end=self.turn_end,
                banned=self._banned,
                grades=self.grades,
            )
        else:
            completions = [Completion("", list(a), [], [], None, "stop") for a in answers]
        if read.shares is not None:
            rows = zip(completions, read.shares, strict=True)
            completions = [replace(c, shares=shares[: len(c.ids) + 1]) for c, shares in rows]
        return close(self.forward, prompts, read.cache, read.mask, completions, read.captured)

    @in_turn
    def without_reasoning(self, prompts: Sequence[list[int]], completions: Sequence[Completion]) -> list[Completion]:
        """Completions whose text, tokens and scores are the answer's; what came before it stands apart."""
        split = []
        for prompt, completion in zip(prompts, completions, strict=True):
            opened = left_open(self._spelled(prompt[-TAG_TOKENS:])) is not None
            cut = completion.finish == "length"
            count = reasoning_tokens(completion.ids, self._spelled, opened=opened, cut=cut)
            text, ids = completion.text, completion.ids[count:]
            if count:
                before, text = completion.ids[:count], self.decode(ids)
                completion = replace(
                    completion,
                    text=text.lstrip(),
                    ids=ids,
                    logprobs=completion.logprobs[count:],
                    entropies=completion.entropies[count:],
                    reasoning=without_tags(self._spelled(before)),
                    reasoning_ids=before,
                )
            starts = moved(starts_of_ids(ids, self.decode), len(text) - len(completion.text))
            split.append(replace(completion, starts=starts))
        return split

    def _spelled(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    @contextmanager
    def _in_float32(self, ids: Sequence[int]) -> Iterator[None]:
        """Passes inside compute the logits of the tokens ``ids`` in float32.

        In bfloat16 the difference of two logits takes only a few values.
        """

        def sharpen(head: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = output.float()
            output[..., list(ids)] = row_logits(head, inputs[0], ids)
            return output

        hook = self.model.get_output_embeddings().register_forward_hook(sharpen)
        try:
            yield
        finally:
            hook.remove()

    @in_turn
    def input_rows(self, ids: Sequence[int]) -> Tensor:
        """Input embeddings of the tokens ``ids``, a float32 copy [n, width]."""
        return _copy_rows(self.model.get_input_embeddings(), ids)

    @in_turn
    def output_rows(self, ids: Sequence[int]) -> Tensor:
        """Rows of the output layer for the tokens ``ids``, a float32 copy [n, width]."""
        return _copy_rows(self.model.get_output_embeddings(), ids)

    @in_turn
    def save(self, folder: Path) -> None:
        """Write model and tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _copy_rows(layer: Any, ids: Sequence[int]) -> Tensor:
    weight: Tensor = layer.weight.detach()
    return weight[list(ids)].float().clone()
