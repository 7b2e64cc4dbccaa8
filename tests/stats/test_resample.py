import numpy as np
import pandas as pd

from scsave.stats.resample import draw_like, half, proportional, rank_within, resample_like, subsample


def counts(labels):
    return pd.Series(labels).value_counts().to_dict()


def test_half_is_a_half_of_each_label():
    labels = np.array(["a"] * 10 + ["b"] * 7 + ["c"], dtype=object)
    masks = [half(labels, seed) for seed in range(40)]
    for mask in masks:
        assert mask[:10].sum() == 5
        assert mask[10:17].sum() in (3, 4)
    assert {mask[10:17].sum() for mask in masks} == {3, 4}
    assert {bool(mask[17]) for mask in masks} == {True, False}
    assert (half(labels, 0) == masks[0]).all()
    assert any((mask != masks[0]).any() for mask in masks)


def test_draw_like_gives_the_counts_or_what_there_is():
    pool = np.array(["a"] * 10 + ["b"] * 3 + ["z"] * 5, dtype=object)
    wanted = np.array(["a"] * 4 + ["b"] * 6 + ["c"] * 2, dtype=object)
    drawn = draw_like(pool, wanted, 0)
    assert counts(pool[drawn]) == {"a": 4, "b": 3}
    assert len(set(drawn)) == len(drawn)
    assert (draw_like(pool, wanted, 0) == drawn).all()
    assert any((draw_like(pool, wanted, seed) != drawn).any() for seed in range(1, 10))


def test_resample_like_repeats_cells_of_the_same_label():
    pool = np.array(["b", "a", "b", "a", "a"], dtype=object)
    wanted = np.array(["a"] * 300 + ["c"] * 5 + ["b"] * 100, dtype=object)
    drawn = resample_like(pool, wanted, 0)
    assert pool[drawn].tolist() == ["a"] * 300 + ["b"] * 100
    assert set(drawn) == set(range(5))
    assert len(resample_like(pool, np.array(["c"], dtype=object), 0)) == 0
    assert len(resample_like(pool[:0], wanted, 0)) == 0


def test_proportional_keeps_the_same_share_of_each_label_and_loses_none():
    labels = np.array(["a"] * 800 + ["b"] * 199 + ["c"], dtype=object)
    rows = proportional(labels, 100, seed=0)
    assert {label: int((labels[rows] == label).sum()) for label in "abc"} == {"a": 80, "b": 20, "c": 1}
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, proportional(labels, 100, seed=0))
    assert (rows != proportional(labels, 100, seed=1)).any()


def test_subsample_is_seeded_and_without_replacement():
    assert (subsample(5, 10, 0) == np.arange(5)).all()
    chosen = subsample(100, 30, 0)
    assert len(set(chosen)) == 30
    assert (chosen == subsample(100, 30, 0)).all()
    assert (chosen != subsample(100, 30, 1)).any()


def test_ranks_are_a_random_order_within_each_code():
    codes = np.array([2, 0, 2, 2, 0, 3])
    rank = rank_within(codes, np.random.default_rng(0))
    assert [sorted(rank[codes == code]) for code in (0, 2, 3)] == [[0, 1], [0, 1, 2], [0]]
    draws = {tuple(rank_within(codes, np.random.default_rng(seed))) for seed in range(50)}
    assert len(draws) == 12
