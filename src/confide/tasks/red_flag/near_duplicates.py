"""Prompts that ask nearly the same: they belong on one side of a split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from confide.tasks.text import fold

ALIKE = 0.6
"""Two prompts whose stems overlap by this share (Jaccard) or more ask nearly the same."""

_ENDINGS = ("izations", "ization", "ations", "ation", "ings", "ing", "ers", "ed", "er", "es", "ly", "s", "e")

# Words of asking: nearly every request has some of them, and they say nothing about what is asked.
_ASKING = frozenset(
    [
        "a",
        "about",
        "all",
        "also",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "describe",
        "detail",
        "detailed",
        "do",
        "does",
        "explain",
        "for",
        "from",
        "get",
        "give",
        "given",
        "guide",
        "had",
        "has",
        "have",
        "help",
        "how",
        "i",
        "if",
        "in",
        "instruct",
        "instruction",
        "instructions",
        "into",
        "is",
        "it",
        "its",
        "make",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "one",
        "or",
        "other",
        "our",
        "out",
        "outline",
        "provide",
        "please",
        "should",
        "show",
        "so",
        "some",
        "someone",
        "somebody",
        "step",
        "steps",
        "such",
        "tell",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "tutorial",
        "up",
        "use",
        "used",
        "using",
        "was",
        "we",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "why",
        "will",
        "with",
        "without",
        "would",
        "write",
        "you",
        "your",
        "create",
        "develop",
        "script",
        "list",
        "teach",
        "people",
        "way",
        "ways",
        "person",
        "generate",
        "compose",
        "design",
        "making",
        "creating",
        "first",
        "here",
        "sure",
        "anything",
        "program",
        "software",
        "code",
        "website",
        "site",
        "video",
        "blog",
        "post",
        "article",
        "message",
        "email",
        "letter",
        "book",
        "story",
        "song",
        "speech",
        "social",
        "media",
        "online",
        "computer",
        "individual",
        "others",
        "good",
        "best",
        "great",
        "possible",
        "specific",
        "number",
        "different",
        "example",
    ]
)


def stem(word: str) -> str:
    """A word without its ending, as far as three letters are left.

    >>> stem("hacking"), stem("hackers"), stem("baked"), stem("bake"), stem("use")
    ('hack', 'hack', 'bak', 'bak', 'use')
    """
    return next((word[: -len(e)] for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), word)


def content_stems(text: str) -> set[str]:
    """The stems of a text's words that say what it is about.

    >>> sorted(content_stems("Write a guide on how to bake breads"))
    ['bak', 'bread']
    """
    words = re.findall(r"[^\W\d_]{3,}", fold(text))
    return {stem(word) for word in words if word not in _ASKING}


def alike(a: set[str], b: set[str]) -> bool:
    """Whether two prompts, as their stems, ask nearly the same (see `ALIKE`)."""
    return bool(a | b) and len(a & b) >= ALIKE * len(a | b)


def prompt_groups(prompts: Sequence[str], together: Iterable[tuple[int, int]] = ()) -> list[int]:
    """The number of each prompt's group; prompts that ask nearly the same share one, and so do their own likes.

    Args:
        prompts: texts.
        together: further pairs of prompts, by their places, that share a group.

    Returns:
        One number per prompt, that of the first prompt of its group.

    >>> prompt_groups(["Bake a cake", "Sail a boat", "How to bake cakes"])
    [0, 1, 0]
    """
    first = list(range(len(prompts)))

    def root(place: int) -> int:
        while first[place] != place:
            first[place] = first[first[place]]
            place = first[place]
        return place

    def join(a: int, b: int) -> None:
        low, high = sorted((root(a), root(b)))
        first[high] = low

    stems = [content_stems(prompt) for prompt in prompts]
    holders: dict[str, list[int]] = defaultdict(list)
    for place, own in enumerate(stems):
        for other in {other for one in own for other in holders[one]}:
            if alike(own, stems[other]):
                join(place, other)
        for one in own:
            holders[one].append(place)
    for a, b in together:
        join(a, b)
    return [root(place) for place in range(len(prompts))]


def shared_prompts(sides: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Pairs of sides of a split that hold prompts which ask nearly the same, each pair once, in order.

    >>> shared_prompts({"train": ["Bake a cake"], "test": ["How to bake cakes"], "validation": ["Sail a boat"]})
    [('test', 'train')]
    """
    where = [(side, prompt) for side, prompts in sides.items() for prompt in prompts]
    groups: dict[int, set[str]] = defaultdict(set)
    for (side, _), group in zip(where, prompt_groups([prompt for _, prompt in where]), strict=True):
        groups[group].add(side)
    return sorted({(a, b) for found in groups.values() for a in found for b in found if a < b})
