"""The source: families of estimators, told by name, so that a comparison knows who competes with whom."""

from __future__ import annotations

from collections.abc import Iterable

FAMILIES: dict[str, tuple[str, ...]] = {
    "learned": ("stack", "reader", "self_ref", "graded", "tagged", "f_pred", "probe", "p_true_trained"),
    "asked": ("p_true", "verbalized"),
    "sampled": ("self_consistency", "semantic_entropy"),
    "outside": ("verifier",),
    "given": ("given",),
    "free": ("option_probability", "logprob_sum", "logprob_mean", "logprob_min", "entropy", "answer_length"),
    "prior": ("question_only", "answer_only"),
    "floor": ("constant", "shuffled"),
}
"""Family to the names of its sources, in the order in which tables list them. Other names are "other"."""

NO_RIVALS = ("free", "prior", "floor", "control")
"""Families that are compared with and never compete."""

OTHER, SHUFFLED, SWAPPED, AT = "other_", "_shuffled_labels", "_swapped", "@"
"""How controls are named after their source: read from another model's states, trained on shuffled outcomes (the seed
follows), read with the question exchanged, read at another position (``probe@prompt_end``).
"""


def auxiliary(source: str) -> bool:
    """Whether a source only serves a comparison with its base source and is not judged by itself."""
    return AT in source or source.endswith(SWAPPED)


def family(source: str) -> str:
    """The family of a source; a variant (``probe_logprobs``, ``p_true:2``) goes with its base name."""
    if source.startswith(OTHER) or SHUFFLED in source or auxiliary(source):
        return "control"
    matches = [
        (len(name), group)
        for group, names in FAMILIES.items()
        for name in names
        if source == name or (source.startswith(name) and not source[len(name)].isalpha())
    ]
    return max(matches)[1] if matches else "other"


def in_order(sources: Iterable[str]) -> list[str]:
    """Sources as tables list them: learned first, floors last; by name within an unknown rank."""
    groups = ["learned", "given", "other", "asked", "sampled", "outside", "free", "prior", "floor", "control"]
    known = [name for names in FAMILIES.values() for name in names]

    def key(source: str) -> tuple[int, int, str]:
        base = [place for place, name in enumerate(known) if source.startswith(name)]
        return groups.index(family(source)), base[0] if base else len(known), source

    return sorted(sources, key=key)
