"""Signals: what a model reports on, through a few new tokens, and how text is encoded around them.

The verdict and ask tokens are written by the model or appended by id. They never come out of text: a name
such as ``<|confident|>`` in a question, an answer or a system line is encoded as ordinary characters, and so
are the chat template's own markers (``<|im_end|>`` and the like).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confide.errors import ConfideError

if TYPE_CHECKING:
    from torch import Tensor, nn

PAD_ROWS_TO = 64  # matrix kernels are faster on such vocabularies
_ASK = re.compile(r"<\|ask_\d+\|>")


@dataclass(frozen=True)
class Signal:
    """What a model reports on, and the names of the tokens it reports with.

    ``verdict`` holds the two verdict tokens, the one that raises the confidence first.

    >>> CONFIDENCE.ask_tokens(2)
    ('<|ask_1|>', '<|ask_2|>')
    """

    name: str
    verdict: tuple[str, str]

    def ask_tokens(self, count: int) -> tuple[str, ...]:
        """Names of the first ``count`` ask tokens."""
        return tuple(f"<|ask_{number}|>" for number in range(1, count + 1))


CONFIDENCE = Signal("confidence", ("<|confident|>", "<|unconfident|>"))
SIGNALS = {CONFIDENCE.name: CONFIDENCE}

GRADES = 11
GRADED = tuple(f"<|conf_{grade}|>" for grade in range(GRADES))
"""Graded tokens: each closes an answer and states a confidence of 0, 0.1 … 1 in it."""


@dataclass(frozen=True)
class TokenIds:
    """Where a signal's tokens sit in one model's vocabulary: ``cn`` confident, ``un`` unconfident."""

    cn: int
    un: int
    ask: tuple[int, ...] = ()

    @property
    def all(self) -> list[int]:
        """Every id, the verdict first."""
        return [self.cn, self.un, *self.ask]


def add_to(model: Any, tokenizer: Any, signal: Signal = CONFIDENCE, ask_tokens: int = 0) -> TokenIds:
    """Add a signal's tokens to a tokenizer and a model; returns their ids.

    New rows, input and (when untied) output, start as the mean of the existing ones. Tokens that are already
    there keep their rows, so a second call changes nothing.
    """
    _add_names(model, tokenizer, [*signal.verdict, *signal.ask_tokens(ask_tokens)])
    return token_ids(tokenizer, signal, ask_tokens)


def token_ids(tokenizer: Any, signal: Signal = CONFIDENCE, ask_tokens: int | None = None) -> TokenIds:
    """The ids of a signal's tokens in a tokenizer that has them (`ConfideError` otherwise).

    ``ask_tokens`` None takes as many as there are.
    """
    vocabulary = tokenizer.added_tokens_encoder
    if ask_tokens is None:
        ask_tokens = sum(1 for name in vocabulary if _ASK.fullmatch(name))
    names = [*signal.verdict, *signal.ask_tokens(ask_tokens)]
    if missing := [name for name in names if name not in vocabulary]:
        raise ConfideError(f"the model has no token {missing[0]}: it was not trained to report its {signal.name}")
    cn, un, *ask = (int(vocabulary[name]) for name in names)
    return TokenIds(cn, un, tuple(ask))


def add_graded(model: Any, tokenizer: Any) -> list[int]:
    """Add the graded tokens to a tokenizer and a model, as `add_to` does; returns their ids, lowest grade first."""
    _add_names(model, tokenizer, GRADED)
    return graded_ids(tokenizer)


def graded_ids(tokenizer: Any) -> list[int]:
    """Ids of the graded tokens, lowest confidence first; empty for a tokenizer that has none."""
    vocabulary = tokenizer.added_tokens_encoder
    return [int(vocabulary[name]) for name in GRADED] if GRADED[-1] in vocabulary else []


def suppressed_ids(tokenizer: Any) -> list[int]:
    """Ids of every token that confide added and that must not be written into an answer.

    Graded tokens are not among them: where a model has them, they close its answers.
    """
    return sorted(int(token) for name, token in tokenizer.added_tokens_encoder.items() if _is_ours(name))


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text in which no special token's name counts as the token."""
    cut = _Cut(tokenizer, [text])
    return cut.encode(cut(text))


def encode_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> list[int]:
    """Token ids of a conversation; special tokens' names in its messages are encoded as ordinary characters.

    Without such names the ids are those of ``apply_chat_template``.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfideError("the model's tokenizer has no chat template: an instruction-tuned model is wanted")
    cut = _Cut(tokenizer, (message["content"] for message in messages))
    safe = [{**message, "content": cut(message["content"])} for message in messages]
    text = tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=add_generation_prompt)
    return cut.encode(text)


def turn_end_id(tokenizer: Any) -> int:
    """The token that closes an answer: the first special one that the chat template puts after it.

    The tokenizer's end-of-sequence token is not always the one that ends a turn (Gemma).
    """
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    if getattr(tokenizer, "chat_template", None):
        mark = "answer"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
        tail = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(mark)[2]
        for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
            if token in special:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise ConfideError("the model's tokenizer names no token that ends an answer")
    return int(tokenizer.eos_token_id)


class _Cut:
    """Cuts special tokens' names apart in text, so that no piece is taken for the token.

    A private-use character that the texts do not contain marks the cuts. Each cut text goes through the chat
    template as it is; encoding the pieces one by one and joining their ids leaves every character in place.
    """

    def __init__(self, tokenizer: Any, texts: Iterable[str]):
        self.tokenizer = tokenizer
        used = set("".join(texts))
        self._mark = next(char for char in map(chr, range(0xF0000, 0x10FFFE)) if char not in used)
        # Other added tokens (runs of spaces, tags) are part of how a model reads ordinary text: left alone.
        names = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        names |= {name for signal in SIGNALS.values() for name in signal.verdict} | set(GRADED)
        longest_first = sorted((re.escape(name) for name in names if len(name) > 1), key=len, reverse=True)
        self._names = re.compile("|".join([*longest_first, _ASK.pattern]))

    def __call__(self, text: str) -> str:
        while (cut := self._names.sub(lambda m: m[0][0] + self._mark + m[0][1:], text)) != text:
            text = cut  # again, for a name inside what is left of another
        return text

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in text.split(self._mark):
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids


def _is_ours(name: str) -> bool:
    return bool(_ASK.fullmatch(name)) or any(name in signal.verdict for signal in SIGNALS.values())


def _add_names(model: Any, tokenizer: Any, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in tokenizer.added_tokens_encoder]
    if missing:
        from transformers import AddedToken

        known = len(tokenizer)
        tokenizer.add_tokens(
            [AddedToken(name, special=True, normalized=False) for name in missing], special_tokens=True
        )
        _grow(model, known, len(tokenizer))


def _grow(model: Any, known: int, wanted: int) -> None:
    """Make room for tokens ``known`` … ``wanted`` and start every new row as the mean of the known ones."""
    rows = model.get_input_embeddings().weight.shape[0]
    if wanted > rows:
        model.resize_token_embeddings(wanted, pad_to_multiple_of=PAD_ROWS_TO, mean_resizing=False)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    _fill_with_mean(embedding, known)
    if head is not None and head.weight is not embedding.weight:
        _fill_with_mean(head, known)


def _fill_with_mean(layer: nn.Module, known: int) -> None:
    # Spare rows too: the mean logit never exceeds the largest, so a mean row cannot win a greedy choice.
    for tensor in (layer.weight, getattr(layer, "bias", None)):
        if tensor is not None:
            values: Tensor = tensor.data  # type: ignore[assignment]
            values[known:] = values[:known].float().mean(0).to(values.dtype)
