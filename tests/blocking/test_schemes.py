import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from scsave.blocking.schemes import (
    BlockingContext,
    Coexpression,
    Gene,
    Random,
    Single,
    assign_with_gaps,
    choose_n_blocks,
    correlation_loadings,
)
from scsave.errors import UserError


def module_context(n_cells: int = 300, n_modules: int = 6, per_module: int = 20, seed: int = 0) -> BlockingContext:
    """Genes of one module share a program of the cell."""
    rng = np.random.default_rng(seed)
    program = rng.normal(size=(n_cells, n_modules))
    module = np.arange(n_modules * per_module) % n_modules
    x = np.maximum(program[:, module] + 0.5 * rng.normal(size=(n_cells, len(module))), 0)
    genes = [f"G{gene}" for gene in range(len(module))]
    return BlockingContext(genes=genes, train=AnnData(sparse.csr_matrix(x.astype(np.float32))), seed=seed)


@pytest.mark.parametrize(
    ("n_genes", "expected"), [(19112, 6), (20000, 7), (16001, 6), (15000, 6), (765, 6), (6, 6), (5, 5), (1, 1)]
)
def test_auto_is_3200_or_six_blocks(n_genes, expected):
    assert choose_n_blocks(n_genes) == expected


def test_block_size_or_n_blocks():
    assert choose_n_blocks(765, block_size=100) == 8
    assert choose_n_blocks(765, n_blocks=10) == 10
    assert choose_n_blocks(765, block_size=765) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_size": 3200}, ("3200", "765")),
        ({"n_blocks": 800}, ("800", "765")),
        ({"block_size": 100, "n_blocks": 3}, ("both",)),
    ],
)
def test_impossible_sizes_name_the_numbers(options, words):
    with pytest.raises(UserError) as error:
        choose_n_blocks(765, **options)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("scheme", [Coexpression(n_blocks=7), Random(n_blocks=7)])
def test_equal_sizes_and_same_seed_same_blocks(scheme):
    context = module_context()
    first, again = scheme(context), scheme(context)
    assert first.sizes.max() - first.sizes.min() <= 1
    assert first.n_blocks == 7
    assert first.assignment.tolist() == again.assignment.tolist()
    assert first.scheme == type(scheme).__name__.lower()


def test_own_seed_wins_over_the_seed_of_the_run():
    blocks = [Random(seed=seed)(module_context(seed=run)) for seed, run in [(0, 5), (0, 6), (None, 6)]]
    assert blocks[0].assignment.tolist() == blocks[1].assignment.tolist()
    assert blocks[1].assignment.tolist() != blocks[2].assignment.tolist()


def test_coexpression_finds_planted_modules_and_random_does_not():
    context = module_context()
    truth = np.arange(120) % 6
    assert adjusted_rand_score(truth, Coexpression()(context).assignment) > 0.95
    assert abs(adjusted_rand_score(truth, Random()(context).assignment)) < 0.1


def test_loadings_reproduce_the_correlation_matrix():
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), 0)
    x[:, 3] = 1.0  # does not vary
    loadings, found = correlation_loadings(sparse.csr_matrix(x), 100, rng)
    assert found.tolist() == [True] * 3 + [False] + [True] * 4
    assert (loadings[3] == 0).all()
    # of seven genes, six components: all but the smallest eigenvalue (variances are over N, PCA's over N - 1)
    correlation = np.corrcoef(x[:, found].T) * 60 / 59
    values, axes = np.linalg.eigh(correlation)
    np.testing.assert_allclose(
        loadings[found] @ loadings[found].T, (axes[:, 1:] * values[1:]) @ axes[:, 1:].T, atol=1e-8
    )


def test_constant_genes_are_counted_and_placed():
    context = module_context()
    x = context.train.X.toarray()
    x[:, :30] = 0
    context = BlockingContext(genes=context.genes, train=AnnData(sparse.csr_matrix(x)))
    blocks = Coexpression(n_blocks=7)(context)
    assert blocks.info["without_vector"] == 30
    assert blocks.info["coverage"] == pytest.approx(0.75)
    assert blocks.sizes.max() - blocks.sizes.min() <= 1
    filled = np.bincount(blocks.assignment[:30], minlength=7)
    assert filled.max() - filled.min() <= 2  # spread over the blocks, not heaped in one


@pytest.mark.parametrize("n_found", [0, 1, 3, 10, 49, 50])
def test_genes_without_vectors_fill_the_blocks(n_found):
    found = np.arange(50) < n_found
    vectors = np.random.default_rng(0).normal(size=(50, 4))
    assignment, _ = assign_with_gaps(vectors, found, 6, seed=0)
    sizes = np.bincount(assignment, minlength=6)
    assert sizes.sum() == 50
    assert sizes.max() - sizes.min() <= 1
    known = np.bincount(assignment[found], minlength=6)
    assert known.max() - known.min() <= 1


def test_gene_and_single():
    context = module_context()
    assert (Gene()(context).n_blocks, Gene()(context).block_size) == (120, 1)
    assert (Single()(context).n_blocks, Single()(context).block_size) == (1, 120)
