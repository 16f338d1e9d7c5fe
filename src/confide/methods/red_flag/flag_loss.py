"""The three terms of a red-flag token's loss (arXiv 2502.16366): pure functions of logits."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn import functional

from confide.methods.finetuning.supervised import kl_to_base


def flag_loss(logits: Tensor, flag_id: int) -> Tensor:
    """Cross-entropy on the flag, a mean over positions; 0 where there are none.

    Args:
        logits: next-token logits [positions, vocabulary] where the flag is to be written.
    """
    target = torch.full((len(logits),), flag_id, device=logits.device)
    total = functional.cross_entropy(logits, target, reduction="sum")
    return total / max(len(logits), 1)


def no_flag_log_odds(logits: Tensor, flag_id: int) -> Tensor:
    """Log-odds of any other token than the flag, [positions], by next-token logits [positions, vocabulary].

    The logits of the flag are gone afterwards.
    """
    flag = logits[:, flag_id].double()
    logits[:, flag_id] = -torch.inf
    return logits.double().logsumexp(-1) - flag


def three_terms(
    logits: Tensor, flagged: Tensor, base: Tensor, harmful: Tensor, flag_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The flag's cross-entropy, the KL on what follows a flag, and the KL on harmless answers.

    No token of a harmful answer is ever a target: what follows a flag is only held to what the base model says there
    when no flag is in its context.

    Args:
        logits: the trained model's [positions, vocabulary].
        flagged: at which of these the flag is to be written, [positions].
        base: the base model's logits at the others, without the flag in context, [others, vocabulary].
        harmful: which of the others are of a harmful answer, [others].
    """
    others = logits[~flagged]
    follow = kl_to_base(others[harmful], base[harmful], [flag_id])
    harmless = kl_to_base(others[~harmful], base[~harmful], [flag_id])
    return flag_loss(logits[flagged], flag_id), follow, harmless


def flag_place(length: int, min_offset: int, chance: random.Random) -> int:
    """After how many tokens of a harmful answer the flag is put into the context: at random, not before the offset.

    >>> flag_place(5, 9, random.Random(0))
    5
    """
    return chance.randint(min(min_offset, length), length)
