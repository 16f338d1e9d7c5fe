"""The default engine: a Hugging Face causal language model in this process.

Prompts of one task share their first tokens (system line, worked examples). Their keys and values are computed
once and copied into every batch; the rest is padded on the left, between the shared prefix and the question,
with explicit position ids, so that a row's result does not depend on its neighbours' lengths.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from confide.engines.transformers.batches import rows_at_once
from confide.engines.transformers.kept import POSITIONS, Kept
from confide.engines.transformers.loading import load_model
from confide.engines.transformers.prefixes import crop, prefix_groups
from confide.engines.transformers.sampling import Closer, Sampler
from confide.engines.transformers.token_scores import Completion, joined, measured, row_logits, written
from confide.errors import ConfideError
from confide.signals import encode_chat, encode_text, graded_ids, suppressed_ids, turn_end_id

if TYPE_CHECKING:
    from confide.records import Record

__all__ = ["POSITIONS", "Completion", "Kept", "TransformersEngine"]

FIRST_STAGE = 3
"""Tokens after which rows that have finished leave the batch for the first time; then whenever as many have passed."""


class TransformersEngine:
    """Answers prompts and hands out the states that estimators read.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        name: what records say about where the answers come from.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str = "model"):
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self._body = model.base_model
        for parameter in model.parameters():
            parameter.requires_grad_(False)  # the model is read, never changed
        eos = model.generation_config.eos_token_id
        self.turn_end = turn_end_id(tokenizer)
        self.grades = graded_ids(tokenizer)
        """Graded tokens, where the model has them: each closes an answer and states a confidence in it."""
        self.end_ids: list[int] = sorted({self.turn_end, *([eos] if isinstance(eos, int) else eos or []), *self.grades})
        # New tokens and the spare rows behind them: an answer never contains them, and they get no probability.
        ours = suppressed_ids(tokenizer)
        rows = model.get_output_embeddings().weight.shape[0]
        self._banned = sorted({*ours, *range(len(tokenizer), rows)}) if ours or self.grades else []
        self._prefixes: list[tuple[list[int], Any]] = []

    @classmethod
    def load(cls, name: str, *, dtype: str | None = None, device: str | None = None) -> TransformersEngine:
        """Load a model by name or folder (see `confide.engines.transformers.loading.load_model`)."""
        model, tokenizer = load_model(name, dtype=dtype, device=device)
        return cls(model, tokenizer, name)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(iter(self.model.parameters())).device

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 20))

    @property
    def batch_size(self) -> int:
        """Rows that a pass takes where nobody says otherwise (see `confide.engines.transformers.batches`)."""
        return rows_at_once(self.model, self.device)

    def wait(self) -> None:
        """Return when the device has done what it was given, so that what is timed next pays for itself alone."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def blocks(self) -> Any:
        """The decoder layers; raises `ConfideError` for an architecture that does not name them so."""
        layers = getattr(self._body, "layers", None)
        if layers is None:
            raise ConfideError(f"{type(self.model).__name__} has no decoder layers that can be read")
        return layers

    def encode(self, messages: Sequence[Any]) -> list[int]:
        """Token ids of a conversation, up to where the answer starts; user text never becomes a verdict."""
        plain = [m if isinstance(m, dict) else {"role": m.role, "content": m.content} for m in messages]
        return encode_chat(self.tokenizer, plain)

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of an answer that exists only as text."""
        return encode_text(self.tokenizer, text)

    def spans(self, record: Record) -> tuple[list[int], list[int]]:
        """Token ids of a record's prompt and of its answer, the latter as written where the record kept them.

        Another model's answer is encoded from its text where its ids mean something else here.
        """
        ids = list(record.answer_ids)
        if ids and record.model not in ("", self.name) and self.decode(ids) != record.answer:
            ids = []
        return self.encode(record.messages), ids or self.encode_answer(record.answer)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's token ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @torch.no_grad()
    def share_prefixes(self, prompts: Sequence[list[int]]) -> list[int]:
        """Run what groups of ``prompts`` start with once; later calls reuse its keys and values.

        Returns each prompt's group. A batch must lie within a group to profit.
        """
        groups, prefixes = prefix_groups(prompts)
        held = {tuple(ids): cache for ids, cache in self._prefixes}
        self._prefixes = []
        for prefix in prefixes:
            cache = held.get(tuple(prefix))
            if prefix and cache is None:
                ids = torch.tensor([prefix], device=self.device)
                cache = self._body(input_ids=ids, use_cache=True).past_key_values
            self._prefixes.append((prefix, cache))
        return groups

    def forget_prefixes(self) -> None:
        """Drop what `share_prefixes` keeps: the weights have moved since."""
        self._prefixes = []

    def shared_prefix(self, prompts: Sequence[list[int]]) -> tuple[list[int], Any]:
        """The longest shared prefix that all ``prompts`` start with, and its cache (``([], None)`` for none)."""
        fitting = [
            (prefix, cache)
            for prefix, cache in self._prefixes
            if all(len(p) > len(prefix) and p[: len(prefix)] == prefix for p in prompts)
        ]
        return max(fitting, key=lambda pair: len(pair[0]), default=([], None))

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        *,
        samples: int = 0,
        temperature: float = 1.0,
        seed: int = 0,
        layers: Sequence[int] = (),
        keep: bool = False,
    ) -> tuple[list[Completion], list[list[Completion]], Kept | None]:
        """Answer a batch greedily and, with ``samples``, K more times by sampling (same prefill).

        Returns the greedy completions, K sampled ones a prompt, and with ``keep`` what can be read further
        (keys and values of the greedy answers; hidden states of ``layers``).
        """
        ids, mask, cache = self._prefill(prompts)
        sampled: list[list[Completion]] = [[] for _ in prompts]
        if samples:
            expanded = copy.deepcopy(cache)
            expanded.batch_repeat_interleave(samples)
            flat = self._staged(
                ids.repeat_interleave(samples, 0),
                mask.repeat_interleave(samples, 0),
                expanded,
                max_new_tokens,
                Sampler(temperature, seed, self.device),
            )
            sampled = [flat[i * samples : (i + 1) * samples] for i in range(len(prompts))]
        if not keep:
            return self._staged(ids, mask, cache, max_new_tokens), sampled, None
        with self._captured(layers) as captured:
            out = self._generate(ids, mask, cache, max_new_tokens)
        completions = self._completions(out, ids.shape[1])
        return completions, sampled, self._keep(out.past_key_values, mask, completions, captured)

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[list[int]], max_new_tokens: int, *, temperature: float = 1.0, seed: int = 0
    ) -> list[Completion]:
        """One sampled completion a prompt; a prompt that comes several times in a row runs once."""
        ids, mask, cache = self._prefill(prompts)
        return self._staged(ids, mask, cache, max_new_tokens, Sampler(temperature, seed, self.device))

    @torch.no_grad()
    def next_logits(
        self, prompts: Sequence[list[int]], tails: Sequence[list[int]] | None = None, *, rows: Sequence[int] = ()
    ) -> Tensor:
        """Logits [batch, vocabulary] of the token after each prompt and its tail; those of ``rows`` in float32.

        A prompt that comes several times in a row, with different tails, runs once.
        """
        ids, mask, cache = self._prefill(prompts)
        tails = tails or [[] for _ in prompts]
        lengths = torch.tensor([len(tail) for tail in tails], device=self.device)
        width = max(map(len, tails))
        more = torch.tensor([[*tail, *[self.turn_end] * (width - len(tail))] for tail in tails], device=self.device)
        fed = torch.cat([ids[:, -1:], more.to(ids.dtype)], 1)
        full = torch.cat([mask, (torch.arange(width, device=self.device) < lengths[:, None]).to(mask.dtype)], 1)
        out = self._body(
            input_ids=fed,
            attention_mask=full,
            position_ids=full.cumsum(1).sub(1)[:, -(width + 1) :],
            past_key_values=cache,
            use_cache=True,
        )
        last = out.last_hidden_state[torch.arange(len(tails), device=self.device), lengths]
        head = self.model.get_output_embeddings()
        logits: Tensor = head(last).float()
        if rows:
            logits[:, list(rows)] = row_logits(head, last, rows)
        return logits

    @torch.no_grad()
    def forced(
        self,
        prompts: Sequence[list[int]],
        answers: Sequence[list[int]],
        *,
        layers: Sequence[int] = (),
        measure: bool = False,
    ) -> tuple[Kept, list[Completion]]:
        """Run given answers as if the model had written them; returns the states and the answers.

        With ``measure`` the answers carry log p and entropy of their tokens and log p of the closing token.
        """
        length = max(len(a) for a in answers)
        ids, mask, cache = self._prefill(prompts)
        padded = [[*answer, *[self.turn_end] * (length - len(answer))] for answer in answers]
        given = torch.tensor(padded, dtype=torch.long, device=self.device).view(len(answers), length)
        lengths = torch.tensor([len(answer) for answer in answers], device=self.device)
        tail = torch.cat([ids[:, -1:], given], 1)
        inside = torch.arange(length, device=self.device)[None] < lengths[:, None]
        full = torch.cat([mask, inside.to(mask.dtype)], 1)
        positions = full.cumsum(1).sub(1).clamp(min=0)[:, -(length + 1) :]
        with self._captured(layers) as captured:
            out = self._body(
                input_ids=tail,
                attention_mask=full,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
        finished = [Completion("", list(a), [], [], None, "stop") for a in answers]
        if measure:
            finished = self.measured(out.last_hidden_state, answers)
        return self._keep(out.past_key_values, mask, finished, captured), finished

    @torch.no_grad()
    def measured(self, hidden: Tensor, answers: Sequence[Sequence[int]]) -> list[Completion]:
        """Completions of given ``answers`` from final hidden states [batch, length, width] (position 0: the first)."""
        head = self.model.get_output_embeddings()
        found = measured(hidden, [list(a) for a in answers], head=head, end=self.turn_end, banned=self._banned)
        if not self.grades:
            return found
        ends = torch.stack([hidden[row, len(answer)] for row, answer in enumerate(answers)])
        logits = head(ends).float()
        closing = (logits[:, self.grades].logsumexp(-1) - logits.logsumexp(-1)).tolist()
        return [replace(one, end_logprob=value) for one, value in zip(found, closing, strict=True)]

    def read(self, kept: Kept, rows: Tensor | None = None, *, layers: Sequence[int] = ()) -> Tensor:
        """Close the answers and feed ``rows`` [m, width] of input embeddings after them.

        Returns the final hidden state [batch, width] at the last fed position, and appends the states at the
        closing token to ``kept.states`` for ``layers``. Gradients flow to ``rows`` where they are enabled; the
        cache is left as it was, ready for another reading.
        """
        batch = kept.mask.shape[0]
        closing = torch.full((batch, 1), self.turn_end, device=self.device)
        embeds = self.model.get_input_embeddings()(closing)
        if rows is not None and len(rows):
            embeds = torch.cat([embeds, rows.to(embeds.dtype).expand(batch, -1, -1)], 1)
        fed = embeds.shape[1]
        full = torch.cat([kept.mask, kept.mask.new_ones(batch, fed)], 1)
        positions = kept.position[:, None] + torch.arange(fed, device=self.device)
        with self._captured(layers) as captured:
            out = self._body(
                inputs_embeds=embeds,
                attention_mask=full,
                position_ids=positions,
                past_key_values=kept.cache,
                use_cache=True,
            )
        crop(kept.cache, kept.mask.shape[1])
        for layer in layers:
            kept.states[layer] = torch.cat([kept.states[layer][:, :3], captured[layer][0][:, :1].float()], 1)
        return out.last_hidden_state[:, -1]

    # -- internals ---------------------------------------------------------------------------------------

    def _prefill(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor, Any]:
        """Left-padded ids [batch, length], their mask, and a cache of all but the last prompt token.

        A prompt that comes several times in a row of answers runs once.
        """
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        if len(places) < len(prompts):
            ids, mask, cache = self._prefill([list(prompt) for prompt in places])
            picked = torch.tensor(rows, device=self.device)
            if cache.get_seq_length():
                cache.batch_select_indices(picked)
            return ids[picked], mask[picked], cache
        prefix, shared = self.shared_prefix(prompts)
        rests = [p[len(prefix) :] for p in prompts]
        width = max(map(len, rests))
        if len(prefix) + width >= self.context:
            raise ConfideError(f"a prompt of {len(prefix) + width} tokens does not fit the context of {self.context}")
        ids = torch.tensor([prefix + [self.turn_end] * (width - len(r)) + r for r in rests], device=self.device)
        mask = torch.tensor(
            [[1] * len(prefix) + [0] * (width - len(r)) + [1] * len(r) for r in rests], device=self.device
        )
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(prompts))
        else:
            from transformers import DynamicCache

            cache = DynamicCache(config=self.model.config)
        if width > 1:
            positions = mask.cumsum(1).sub(1).clamp(min=0)
            cache = self._body(
                input_ids=ids[:, len(prefix) : -1],
                attention_mask=mask[:, :-1],
                position_ids=positions[:, len(prefix) : -1],
                past_key_values=cache,
                use_cache=True,
            ).past_key_values
        return ids, mask, cache

    def _generate(
        self, ids: Tensor, mask: Tensor, cache: Any, max_new_tokens: int, sampler: Sampler | None = None
    ) -> Any:
        return self.model.generate(
            ids,
            attention_mask=mask,
            past_key_values=cache,
            max_new_tokens=max_new_tokens,
            do_sample=False,  # a sampler leaves one token to choose
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=[sampler] if sampler else [Closer(self.grades)] if self.grades else None,
            eos_token_id=self.end_ids,
            pad_token_id=self.turn_end,
            suppress_tokens=self._banned or None,
            return_dict_in_generate=True,
            output_logits=True,
        )

    def _staged(
        self, ids: Tensor, mask: Tensor, cache: Any, max_new_tokens: int, sampler: Sampler | None = None
    ) -> list[Completion]:
        """Generate in stages: the few rows that ramble go on without those that have finished."""
        found: dict[int, Completion] = {}
        rows, done = list(range(len(ids))), 0
        while rows:
            size = min(max(FIRST_STAGE, done), max_new_tokens - done)
            out = self._generate(ids, mask, cache, size, sampler)
            parts = self._completions(out, ids.shape[1])
            for row, part in zip(rows, parts, strict=True):
                known = found.get(row)
                found[row] = joined(known, part, self.decode(known.ids + part.ids)) if known else part
            done += size
            going = [place for place, part in enumerate(parts) if part.finish == "length" and done < max_new_tokens]
            rows = [rows[place] for place in going]
            if rows:
                ids, cache = out.sequences[going], out.past_key_values
                mask = torch.cat([mask, mask.new_ones(len(mask), size)], 1)[going]
                cache.batch_select_indices(torch.tensor(going, device=self.device))
        return [found[row] for row in range(len(found))]

    def _completions(self, out: Any, start: int) -> list[Completion]:
        return written(
            out.logits,
            out.sequences[:, start:],
            banned=self._banned,
            end_ids=self.end_ids,
            grades=self.grades,
            decode=self.decode,
        )

    def _keep(self, cache: Any, mask: Tensor, completions: list[Completion], captured: dict[int, list[Tensor]]) -> Kept:
        """Cut the cache to the longest answer and mask what lies past each row's own."""
        prompt = mask.shape[1]
        longest = max(len(c.ids) for c in completions)
        held = cache.get_seq_length()
        lengths = torch.tensor([len(c.ids) for c in completions], device=self.device)
        if held < prompt + longest:  # generation never feeds the last token of a cut answer
            cache = self._feed_last(cache, mask, completions, longest, captured)
        crop(cache, prompt + longest)
        answer_mask = (torch.arange(longest, device=self.device)[None] < lengths[:, None]).to(mask.dtype)
        full = torch.cat([mask, answer_mask], 1)
        states = {}
        rows = torch.arange(len(completions), device=self.device)
        weights = torch.cat([torch.zeros_like(answer_mask[:, :1]), answer_mask], 1)[..., None]
        for layer, pieces in captured.items():
            steps = torch.cat(pieces, 1)[:, : longest + 1].float()
            mean = (steps * weights).sum(1) / weights.sum(1).clamp(min=1)
            states[layer] = torch.stack([steps[:, 0], mean, steps[rows, lengths]], 1)
        return Kept(cache, full, full.sum(1), states)

    def _feed_last(
        self,
        cache: Any,
        mask: Tensor,
        completions: list[Completion],
        longest: int,
        captured: dict[int, list[Tensor]],
    ) -> Any:
        held = cache.get_seq_length() - mask.shape[1]
        tokens = [c.ids[held] if len(c.ids) > held else self.turn_end for c in completions]
        full = torch.cat([mask, mask.new_ones(mask.shape[0], held + 1)], 1)
        with self._captured(list(captured)) as more:
            out = self._body(
                input_ids=torch.tensor(tokens, device=self.device)[:, None],
                attention_mask=full,
                position_ids=full.sum(1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            )
        for layer, pieces in more.items():
            captured[layer].extend(pieces)
        return out.past_key_values

    @contextmanager
    def _captured(self, layers: Sequence[int]) -> Iterator[dict[int, list[Tensor]]]:
        """Collect the output of decoder layers (1 = the first) for as long as the context is open."""
        captured: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        blocks = self.blocks if layers else ()

        def collector(layer: int) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                captured[layer].append(output[0] if isinstance(output, tuple) else output)

            return hook

        handles = [blocks[layer - 1].register_forward_hook(collector(layer)) for layer in layers]
        try:
            yield captured
        finally:
            for handle in handles:
                handle.remove()
