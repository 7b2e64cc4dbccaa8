from itertools import permutations

import numpy as np
import pytest

from scsave.blocking import transport


def clusters(n_genes: int, n_clusters: int, seed: int, width: int = 5, spread: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, width)) * 3
    return centres[np.arange(n_genes) % n_clusters] + spread * rng.normal(size=(n_genes, width))


def brute_force_assignment_cost(cost: np.ndarray, sizes: np.ndarray) -> float:
    places = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(cost))
    return min(cost[rows, list(order)].sum() for order in set(permutations(places.tolist())))


@pytest.mark.parametrize(("n", "n_blocks"), [(10, 3), (12, 4), (7, 7), (765, 6)])
def test_sizes_add_up_and_differ_by_at_most_one(n, n_blocks):
    sizes = transport.balanced_sizes(n, n_blocks)
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == n_blocks


@pytest.mark.parametrize("seed", range(5))
def test_exact_assignment_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    cost, sizes = rng.random((7, 3)), transport.balanced_sizes(7, 3)
    assignment = transport.exact_assignment(cost, sizes)
    assert (np.bincount(assignment, minlength=3) == sizes).all()
    assert cost[np.arange(7), assignment].sum() == pytest.approx(brute_force_assignment_cost(cost, sizes))


@pytest.mark.parametrize("seed", range(5))
def test_sinkhorn_with_rounding_is_close_to_exact(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(300, 4))
    centres = vectors[rng.choice(300, 8, replace=False)]
    cost = ((vectors[:, None] - centres) ** 2).sum(2)
    sizes = transport.balanced_sizes(300, 8)
    rows = np.arange(300)
    exact = cost[rows, transport.exact_assignment(cost, sizes)].sum()
    assignment, _ = transport.sinkhorn_assignment(cost, sizes, np.zeros(8))
    assert (np.bincount(assignment, minlength=8) == sizes).all()
    assert exact - 1e-9 <= cost[rows, assignment].sum() <= 1.01 * exact


@pytest.mark.parametrize("seed", range(3))
def test_rounding_gives_exact_sizes_even_when_all_want_one_block(seed):
    rng = np.random.default_rng(seed)
    cost = rng.random((50, 6)) + 10 * (np.arange(6) > 0)
    sizes = transport.balanced_sizes(50, 6)
    assert (np.bincount(transport.round_to_sizes(cost, sizes), minlength=6) == sizes).all()


@pytest.mark.parametrize("seed", range(3))
def test_swaps_keep_sizes_and_never_raise_the_cost(seed):
    rng = np.random.default_rng(seed)
    cost = rng.random((60, 5))
    before = rng.permutation(np.arange(60) % 5)
    after = transport.swap_improve(cost, before)
    rows = np.arange(60)
    assert (np.bincount(after) == np.bincount(before)).all()
    assert cost[rows, after].sum() < cost[rows, before].sum()
    assert (
        transport.swap_improve(cost, transport.swap_improve(cost, after, 50)) == transport.swap_improve(cost, after, 50)
    ).all()


def test_two_blocks_swapped_to_the_end_are_optimal():
    rng = np.random.default_rng(0)
    cost = rng.random((9, 2))
    after = transport.swap_improve(cost, np.arange(9) % 2, sweeps=20)
    assert cost[np.arange(9), after].sum() == pytest.approx(
        brute_force_assignment_cost(cost, np.bincount(np.arange(9) % 2))
    )


@pytest.mark.parametrize("exact_limit", [0, 10**9])
@pytest.mark.parametrize(("n_genes", "n_blocks"), [(120, 4), (121, 6), (50, 25)])
def test_partition_has_equal_sizes_and_a_falling_objective(monkeypatch, exact_limit, n_genes, n_blocks):
    monkeypatch.setattr(transport, "EXACT_LIMIT", exact_limit)
    vectors = np.random.default_rng(1).normal(size=(n_genes, 8))
    result = transport.partition(vectors, n_blocks, seed=0)
    sizes = np.bincount(result.assignment, minlength=n_blocks)
    assert (np.sort(sizes) == np.sort(transport.balanced_sizes(n_genes, n_blocks))).all()
    assert result.converged
    assert (np.diff(result.objective) < 0).all()
    assert result.objective[-1] == pytest.approx(
        transport.within_block_scatter(vectors, result.assignment, n_blocks), rel=1e-9
    )
    at_random = np.random.default_rng(2).permutation(result.assignment)
    assert result.objective[-1] < transport.within_block_scatter(vectors, at_random, n_blocks)


@pytest.mark.parametrize("exact_limit", [0, 10**9])
def test_planted_clusters_are_found(monkeypatch, exact_limit):
    from sklearn.metrics import adjusted_rand_score

    monkeypatch.setattr(transport, "EXACT_LIMIT", exact_limit)
    result = transport.partition(clusters(200, 5, seed=3), 5, seed=0)
    assert adjusted_rand_score(np.arange(200) % 5, result.assignment) == 1.0


def test_partition_ends_in_the_best_of_all_on_a_case_small_enough_to_enumerate():
    vectors = clusters(8, 2, seed=0, width=2)
    best = min(
        transport.within_block_scatter(vectors, np.array(order), 2) for order in set(permutations([0] * 4 + [1] * 4))
    )
    assert transport.partition(vectors, 2, seed=0).objective[-1] == pytest.approx(best)


@pytest.mark.parametrize("exact_limit", [0, 10**9])
def test_same_seed_same_blocks_other_seed_other_start(monkeypatch, exact_limit):
    monkeypatch.setattr(transport, "EXACT_LIMIT", exact_limit)
    vectors = np.random.default_rng(0).normal(size=(90, 100))
    first, again, other = (transport.partition(vectors, 6, seed=seed).assignment for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_one_block_and_one_gene_a_block():
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    assert (transport.partition(vectors, 1, seed=0).assignment == 0).all()
    assert sorted(transport.partition(vectors, 6, seed=0).assignment) == list(range(6))
    with pytest.raises(ValueError, match="6 vectors into 7"):
        transport.partition(vectors, 7, seed=0)


def test_equal_vectors_still_give_equal_sizes():
    result = transport.partition(np.ones((11, 3)), 4, seed=0)
    assert sorted(np.bincount(result.assignment)) == [2, 3, 3, 3]
