"""The source: families of estimators, told by name, so that a comparison knows who competes with whom."""

from __future__ import annotations

from collections.abc import Iterable

FAMILIES: dict[str, tuple[str, ...]] = {
    "learned": ("stack", "reader", "self_ref", "graded", "probe"),
    "asked": ("p_true", "verbalized"),
    "sampled": ("self_consistency", "semantic_entropy"),
    "outside": ("verifier",),
    "given": ("given",),
    "free": ("logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length"),
    "prior": ("question_only", "answer_only"),
    "floor": ("constant", "shuffled"),
}
"""Family to the names of its sources, in the order in which tables list them. Other names are "other"."""

FREE = FAMILIES["free"]
"""Sources that the engine gives for nothing: what a learned source has to beat."""


def family(source: str) -> str:
    """The family of a source; a variant (``probe_logprobs``, ``p_true:2``) goes with its base name."""
    matches = [
        (len(name), group)
        for group, names in FAMILIES.items()
        for name in names
        if source == name or (source.startswith(name) and not source[len(name)].isalpha())
    ]
    return max(matches)[1] if matches else "other"


def in_order(sources: Iterable[str]) -> list[str]:
    """Sources as tables list them: learned first, floors last; by name within an unknown rank."""
    groups = ["learned", "given", "other", "asked", "sampled", "outside", "free", "prior", "floor"]
    known = [name for names in FAMILIES.values() for name in names]

    def key(source: str) -> tuple[int, int, str]:
        base = [place for place, name in enumerate(known) if source.startswith(name)]
        return groups.index(family(source)), base[0] if base else len(known), source

    return sorted(sources, key=key)
