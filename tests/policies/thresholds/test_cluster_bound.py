from __future__ import annotations

import math

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.policies.thresholds.cluster_bound import ClusterCount, Clusters, _covered, draw, within
from shapes import allowed

SETS = 1000


def slowly(values: list[float], limit: float, most: int, error: float) -> float:
    """The highest capital of the bets, one cluster after the other, as the module says."""
    capital = highest = 1.0
    squares = most * abs(limit)
    for played, value in enumerate(values, start=1):
        stake = math.sqrt(2 * math.log(1 / error) / (len(values) * squares / played))
        capital *= 1 - min(stake, 0.9 / ((1 - limit) * most)) * value
        highest = max(highest, capital)
        squares += value**2
    return highest


def counted(bad: list[float], sizes: list[int], most: int, **more: bool) -> ClusterCount:
    return ClusterCount(sum(sizes), sum(sizes), np.array(bad, dtype=float), np.array(sizes, dtype=float), most, **more)


def test_capital_by_a_slow_loop():
    rng = np.random.default_rng(0)
    for most in (2, 5, 20):
        sizes = rng.integers(1, most + 1, 400)
        bad = rng.binomial(sizes, 0.04)
        count = counted(bad.tolist(), sizes.tolist(), most)
        for error in (0.05, 0.001, 1e-9):
            down = (bad - 0.1 * sizes).tolist()
            assert count.shows(0.1, error) == (slowly(down, 0.1, most, error) >= 1 / error)
            up = (0.01 * sizes - bad).tolist()
            assert count.exceeds(0.01, error) == (slowly(up, 0.99, most, error) >= 1 / error)


def test_a_flawless_run_needs_thirty_of_the_largest_size():
    # The largest stake, 0.9/(0.9 · 5), wins 1 + 0.1 · 5 · 0.2 = 1.1 a full cluster, and 1.1^32 = 21.1 ≥ 20 > 1.1^31.
    assert counted([0.0] * 32, [5] * 32, 5).shows(0.1, 0.05)
    assert not counted([0.0] * 31, [5] * 31, 5).shows(0.1, 0.05)


def drawn_counts(rng: np.random.Generator, clusters: int, small: float, large: float) -> tuple[np.ndarray, np.ndarray]:
    """Bad rows and sizes: one cluster in ten has 20 rows of risk ``large``, the others one of risk ``small``."""
    sizes = np.where(rng.random(clusters) < 0.1, 20, 1)
    risk = np.where(sizes == 20, large, small)
    together = rng.random(clusters) < 0.5
    return np.where(together, sizes * (rng.random(clusters) < risk), rng.binomial(sizes, risk)), sizes


def test_levels_hold_where_the_normal_bound_breaks_its():
    low = high = normal = 0
    for seed in range(SETS):
        # A row's risk is (2 · 0.1425 + 0.9 · 0.016) / 2.9 = 0.1032.
        bad, sizes = drawn_counts(np.random.default_rng(seed), 600, 0.016, 0.1425)
        count = counted(bad.tolist(), sizes.tolist(), 20)
        low += count.shows(0.1032, 0.05)
        high += count.exceeds(0.1033, 0.05)
        x = bad - 0.1032 * sizes
        normal += x.sum() + 1.645 * math.sqrt((x**2).sum()) <= 0
    assert low / SETS <= allowed(SETS)
    assert high / SETS <= allowed(SETS)
    assert normal / SETS > allowed(SETS)


def test_differences_hold_their_level_both_ways():
    below = above = 0
    for seed in range(SETS):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 4, 300)
        loss = np.where(rng.random(300) < 0.06, 1, np.where(rng.random(300) < 0.05, -1, 0)) * sizes
        mean = 2 * (0.06 - 0.94 * 0.05) / 2
        count = counted(loss.tolist(), sizes.tolist(), 3, signed=True)
        below += count.shows(mean, 0.05)
        above += count.exceeds(mean, 0.05)
    assert max(below, above) / SETS <= allowed(SETS)


def test_intervals_end_where_tests_begin_to_reject():
    bad, sizes = drawn_counts(np.random.default_rng(1), 2000, 0.02, 0.1)
    for signed in (False, True):
        count = counted(bad.tolist(), sizes.tolist(), 20, signed=signed)
        low, high = count.interval(0.95)
        assert low < count.observed < high
        assert count.shows(high, 0.05)
        assert not count.shows(high - 1e-4, 0.05)
        assert count.exceeds(low, 0.05)
        assert not count.exceeds(low + 1e-4, 0.05)
    assert counted([0], [0], 3).interval(0.95) == (0.0, 1.0)


def test_rows_that_would_decide_do():
    bad, sizes = drawn_counts(np.random.default_rng(2), 400, 0.02, 0.08)
    count = counted(bad.tolist(), sizes.tolist(), 20)
    assert count.observed < 0.08
    for limit, decides in ((0.1, ClusterCount.shows), (0.04, ClusterCount.exceeds)):
        needed = count.rows_needed(0.06, 1.0, limit, 0.95)
        assert needed is not None
        clusters = round(needed / count.n * 400)
        shown = 0
        for seed in range(300):
            picked = np.random.default_rng(seed).integers(0, 400, clusters)
            shown += decides(counted(bad[picked].tolist(), sizes[picked].tolist(), 20), limit, 0.05)
        assert 0.65 < shown / 300 < 0.95
    assert count.rows_needed(0.1, 1.0, count.observed, 0.95) is None


def test_rows_of_one_an_entity_are_all_and_independent():
    drawn = draw(list("abcd"), "question", 0)
    assert (drawn.rows.tolist(), drawn.clusters, drawn.per, drawn.most) == ([0, 1, 2, 3], None, None, None)


def test_per_entity_one_row_of_each_is_drawn():
    drawn = draw(["a", "a", "b", "c", "c"], "entity", 0)
    assert (len(drawn.rows), drawn.clusters, drawn.per, drawn.entities) == (3, None, "entity", 3)


def test_per_question_the_largest_hundredth_sets_the_bound():
    names = [f"e{i}" for i in range(600) for _ in range(1 + i % 3 + 20 * (i in (5, 77)))]
    drawn = draw(names, "question", 0)
    assert drawn.clusters is not None
    # Six of 600 are left out: the two large ones, and four of those with three rows; of the others as large a share.
    assert (drawn.most, drawn.clusters.most) == (3, 3)
    one, two, three = np.bincount(drawn.clusters.sizes, minlength=4)[1:].tolist()
    assert three == 194
    assert 180 < one <= 200
    assert 180 < two <= 200
    assert drawn.entities == one + two + three
    left = {name for i, name in enumerate(names) if i not in set(drawn.rows.tolist())}
    assert {"e5", "e77"} < left
    # Rows of a cluster stay together.
    kept = [names[i] for i in drawn.rows]
    assert len(set(zip(kept, drawn.clusters.code.tolist(), strict=True))) == drawn.entities


def test_entities_up_to_the_size_covered_are_drawn_as_often_as_there_are():
    """One in ten has 20 rows: were the left-out ones not made up for, one in eleven of those tested would."""
    large = entities = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        sizes = np.where(rng.random(300) < 0.1, 20, 1)
        tested, most = _covered(sizes, rng)
        if most == 20:
            large += int((sizes[tested] == 20).sum())
            entities += int(tested.sum())
    error = math.sqrt(0.09 / entities)
    assert large / entities == pytest.approx(0.1, abs=3 * error)
    assert 3 * error < 0.1 - 9 / 99


def test_a_single_largest_entity_leaves_those_below_it():
    for seed in range(20):
        tested, most = _covered(np.array([9, *([2] * 60)]), np.random.default_rng(seed))
        assert not tested[0]
        if most == 8:
            assert tested.sum() == 60
        else:
            assert most == 9
            assert tested.sum() > 20


def test_few_rows_for_their_entities_are_drawn_as_independent_questions():
    names = [f"e{i}" for i in range(60) for _ in range(10 if i < 20 else 1)]
    large, picked = [], []
    for seed in range(300):
        drawn = draw(names, "question", seed)
        assert (drawn.clusters, drawn.most, drawn.entities) == (None, 10, len(drawn.rows))
        entities = [names[i] for i in drawn.rows]
        assert len(set(entities)) == len(entities)
        large.append(sum(int(name[1:]) < 20 for name in entities))
        picked.append(len(entities))
    # Nineteen large entities always, and each of 40 small ones one time in ten, less the share left out (1/21).
    assert set(large) == {19}
    assert np.mean(picked) == pytest.approx(19 + 4 * 20 / 21, abs=0.4)


def test_a_few_repeats_leave_independent_rows():
    drawn = draw([*(f"e{i}" for i in range(500)), "e1", "e2", "e2"], "question", 0)
    assert (drawn.clusters, drawn.most, drawn.entities, len(drawn.rows)) == (None, 1, 495, 495)


def test_fresh_rows_of_larger_entities_are_left_out():
    names = ["a", "a", "a", "b", "b", "c"]
    drawn = within(names, np.ones(6, dtype=bool), 2)
    assert (drawn.rows.tolist(), drawn.entities) == ([3, 4, 5], 2)
    # Rows that do not count do not make an entity larger.
    assert len(within(names, np.array([True, True, False, True, True, True]), 2).rows) == 6
    assert within(["a", "b", "c"], np.ones(3, dtype=bool), 2).clusters is None


def test_clusters_tell_as_much_as_fewer_even_ones():
    assert Clusters(np.array([0, 0, 1, 1, 2, 2]), 2).effective == 3
    assert Clusters(np.array([0] * 9 + [1]), 9).effective == 1


def test_too_few_rows_say_how_many_it_takes():
    groups = Clusters(np.repeat(np.arange(20), 10), 10)
    with pytest.raises(ConfideError, match=r"per question, a bound of 0\.1 needs about 302 rows .* up to 10, got 200"):
        groups.check_flawless(0.1, 0.05)
    Clusters(np.repeat(np.arange(32), 10), 10).check_flawless(0.1, 0.05)
