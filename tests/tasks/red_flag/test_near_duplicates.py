"""Prompts that ask nearly the same stay together, whatever words they ask with."""

from __future__ import annotations

from confide.tasks.red_flag.near_duplicates import content_stems, prompt_groups, shared_prompts

CAKES = ["Write a guide on how to bake a chocolate cake", "Give instructions for baking chocolate cakes"]
BOATS = "Describe how to sail a small boat alone"


def test_ways_of_asking_count_for_nothing_and_endings_neither() -> None:
    assert content_stems(CAKES[0]) == content_stems(CAKES[1]) == {"bak", "chocolat", "cak"}
    assert not content_stems("Please write me a step by step guide on how to do it")


def test_near_duplicates_share_a_group_and_groups_join_by_their_likes() -> None:
    between = "Baking a chocolate cake with walnuts"
    far = "A cake with walnuts, chocolate, marzipan"
    groups = prompt_groups([CAKES[0], BOATS, CAKES[1], far, between])
    assert groups[0] == groups[2] == groups[4]
    assert groups[1] not in (groups[0], groups[3])
    assert groups[3] == groups[0]  # by the one between them


def test_prompts_can_be_held_together() -> None:
    assert prompt_groups([CAKES[0], BOATS, CAKES[1]], [(1, 2)]) == [0, 0, 0]


def test_prompts_without_content_are_alone() -> None:
    assert prompt_groups(["How?", "Why?", BOATS]) == [0, 1, 2]


def test_sides_that_ask_the_same_are_named() -> None:
    assert shared_prompts({"train": [CAKES[0]], "test": [BOATS], "validation": [CAKES[1]]}) == [("train", "validation")]
    assert shared_prompts({"train": CAKES, "test": [BOATS]}) == []
