"""Generation: greedy and sampled answers, in stages, with the log-probabilities of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from confide.engines.directions import Watch
from confide.engines.engine import Completion, Gone
from confide.engines.transformers.forward import Forward
from confide.engines.transformers.sampling import Closer, Left, Sampler
from confide.engines.transformers.token_scores import log_mass, token_scores
from confide.engines.transformers.token_shares import TokenShares, Watched
from confide.engines.transformers.turn_end import cut_at_turn_end

FIRST_STAGE = 3
"""Tokens after which rows that have finished leave the batch for the first time; then whenever as many have passed."""


@dataclass(frozen=True)
class Generator:
    """Writes answers with one model.

    Args:
        end_ids: tokens that end an answer.
        banned: tokens that are never written and get no probability.
        grades: graded tokens, which close an answer together: its end is as likely as any of them.
        report: the two verdict tokens of a model that writes its verdict itself, confident first; each ends an answer.
        decode: token ids to text.
    """

    forward: Forward
    end_ids: list[int]
    banned: list[int]
    grades: list[int]
    decode: Callable[[Sequence[int]], str]
    report: tuple[int, int] | None = None

    def generate(
        self,
        ids: Tensor,
        mask: Tensor,
        cache: Any,
        max_new_tokens: int,
        sampler: Sampler | None = None,
        left: Left | None = None,
        watched: Watched | None = None,
    ) -> Any:
        """One call of the model's own ``generate`` behind a cache; see `Forward.prefill` for the first three.

        What the checkpoint's generation settings hold (penalties, beams, lengths, caches) changes no answer: greedy is
        the likeliest token, step by step.
        """
        chosen: Sampler | Closer | None = sampler or (Closer(self.grades) if self.grades else None)
        model = self.forward.model
        settings = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,  # a sampler leaves one token to choose
            eos_token_id=self.end_ids,
            pad_token_id=self.forward.filler,
            suppress_tokens=self.banned or None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        # What a given configuration leaves open, ``generate`` would take from the model's.
        kept, model.generation_config = model.generation_config, settings
        try:
            return model.generate(
                ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=settings,
                logits_processor=[chosen] if chosen else None,
                stopping_criteria=[one for one in (left, watched) if one] or None,
            )
        finally:
            model.generation_config = kept

    def in_stages(
        self,
        ids: Tensor,
        mask: Tensor,
        cache: Any,
        max_new_tokens: int,
        sampler: Sampler | None = None,
        gone: Gone | None = None,
        shares: TokenShares | None = None,
        watch: Watch | None = None,
    ) -> list[Completion]:
        """Generate in stages: the few rows that ramble go on without those that have finished, or that are ``gone``."""
        answers: dict[int, Completion] = {}
        rows, done = list(range(len(ids))), 0
        while rows:
            size = min(max(FIRST_STAGE, done), max_new_tokens - done)
            watched = self.watched(watch, rows, shares, ids, fresh=not done)
            out = self.generate(ids, mask, cache, size, sampler, Left(gone, rows) if gone else None, watched)
            parts = self.completions(out, ids.shape[1], shares, watched)
            for row, part in zip(rows, parts, strict=True):
                answers[row] = self._join(answers[row], part) if row in answers else part
            done += size
            cut = [place for place, part in enumerate(parts) if part.finish == "length" and done < max_new_tokens]
            going = [place for place in cut if not parts[place].stopped and (gone is None or not gone(rows[place]))]
            rows = [rows[place] for place in going]
            if rows:
                ids, cache = out.sequences[going], out.past_key_values
                mask = torch.cat([mask, mask.new_ones(len(mask), size)], 1)[going]
                cache.batch_select_indices(torch.tensor(going, device=mask.device))
        return [answers[row] for row in range(len(answers))]

    def watched(
        self, watch: Watch | None, rows: Sequence[int], shares: TokenShares | None, ids: Tensor, *, fresh: bool
    ) -> Watched | None:
        """What ends the ``rows`` of a batch ``ids`` [batch, length] by what is read of them."""
        if watch is None or shares is None:
            return None
        return Watched(watch, rows, shares, ids.shape[1], self.end_ids, fresh)

    def completions(
        self, out: Any, start: int, shares: TokenShares | None = None, watched: Watched | None = None
    ) -> list[Completion]:
        """What was generated from position ``start`` on, cut where each answer ends."""
        ids = out.sequences[:, start:]
        read, stopped = shares.take() if shares else None, watched.stopped_ if watched else {}
        # Step by step: a stack of all steps' logits would be held several times over.
        scores = [token_scores(logits, ids[:, step], self.banned) for step, logits in enumerate(out.logits)]
        logprobs = torch.stack([s[0] for s in scores], 1).tolist()
        entropies = torch.stack([s[1] for s in scores], 1).tolist()
        completions = []
        for number, (row, values, spread) in enumerate(zip(ids.tolist(), logprobs, entropies, strict=True)):
            answer, end = cut_at_turn_end(row[: stopped.get(number, len(row)) + 1], self.end_ids)
            if end is None and number in stopped:
                answer = answer[: stopped[number]]
            logs, spreads = ([round(v, 5) for v in column[: len(answer)]] for column in (values, spread))
            completion = Completion(self.decode(answer), answer, logs, spreads, None, "length")
            if read is not None:
                told = len(answer) + (end is not None or number in stopped)
                completion = replace(completion, shares=read[number, :told], stopped=number in stopped)
            if end is not None:
                logits = out.logits[end][number].float()
                end_logprob = float(log_mass(logits, self.grades)) if row[end] in self.grades else values[end]
                verdict = logits[list(self.report)].double().tolist() if self.report else None
                completion = replace(
                    completion,
                    end_logprob=round(end_logprob, 5),
                    finish="stop",
                    closed_by=row[end],
                    report_logit=verdict[0] - verdict[1] if verdict else None,
                )
            completions.append(completion)
        return completions

    def _join(self, head: Completion, tail: Completion) -> Completion:
        """An answer that went on: ``head`` was cut where ``tail`` begins."""
        ids, logprobs = head.ids + tail.ids, head.logprobs + tail.logprobs
        entropies = head.entropies + tail.entropies
        shares = head.shares
        if shares is not None and tail.shares is not None:
            shares = np.concatenate([shares, tail.shares])
        return replace(tail, text=self.decode(ids), ids=ids, logprobs=logprobs, entropies=entropies, shares=shares)
