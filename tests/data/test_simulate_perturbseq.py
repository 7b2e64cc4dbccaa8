import numpy as np
import pytest

from scsave import keys
from scsave.errors import UserError

from .sources import make


def ridge(train, target, test, penalty=1.0):
    return test @ np.linalg.solve(train.T @ train + penalty * np.eye(train.shape[1]), train.T @ target)


def test_labels_and_sizes(tmp_path):
    source = make("data", "simulated_perturbseq", n_cells=1200, n_genes=100, n_targets=12, n_doubles=10)
    cells = source.load(tmp_path)
    sizes = cells.obs["condition"].value_counts()
    assert len(sizes) == 23
    assert sizes["control"] == 96
    assert sizes.min() >= 10
    assert sum("+" in level for level in sizes.index) == 10
    singles = {level for level in sizes.index if "+" not in level} - {"control"}
    assert all(set(level.split("+")) <= singles for level in sizes.index if "+" in level)
    assert singles <= set(cells.var_names)


def test_changes_in_the_cells_are_the_planted_ones(tmp_path):
    shape = {
        "n_cells": 6000,
        "n_genes": 120,
        "n_targets": 6,
        "n_doubles": 4,
        "control_share": 0.3,
        "interaction_sd": 1.0,
    }
    source = make("data", "simulated_perturbseq", **shape)
    cells = source.load(tmp_path)
    truth = cells.uns[keys.SIMULATED]
    labels, shifts = source.labels(truth), source.shifts(truth)
    expression, condition = cells.X.toarray(), cells.obs["condition"].to_numpy()
    base = expression[condition == "control"].mean(0)
    for label, shift in zip(labels[1:], shifts[1:], strict=True):
        change = expression[condition == label].mean(0) - base
        assert np.corrcoef(change, shift)[0, 1] > 0.8, label


def test_vectors_carry_effects_and_interactions_only_when_informative():
    shape = {"n_cells": 40_000, "n_genes": 300, "n_targets": 100, "n_doubles": 120}
    found = {}
    for informative in (True, False):
        source = make("data", "simulated_perturbseq", informative=informative, self_effect=0.0, **shape)
        truth = source.truth()
        vectors = truth["gene_vectors"][truth["targets"]].astype(float)
        guess = ridge(vectors[:75], truth["effects"][:75], vectors[75:])
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(guess, truth["effects"][75:], strict=True)]
        a, b = vectors[truth["doubles"]].transpose(1, 0, 2)
        pairs = np.einsum("ni,nj->nij", a, b)
        pairs = (pairs + pairs.transpose(0, 2, 1)).reshape(len(a), -1)
        guess = ridge(pairs[:60], truth["interactions"][:60], pairs[60:])
        found[informative] = np.median(r), np.corrcoef(guess.ravel(), truth["interactions"][60:].ravel())[0, 1]
    assert found[True][0] > 0.95
    assert found[True][1] > 0.7
    assert found[False][0] < 0.4
    assert found[False][1] < 0.4


def test_norman_shape_is_the_one_of_the_file():
    source = make("data", "simulated_norman")
    truth = source.truth()
    assert source.shifts(truth).shape == (1 + 105 + 131, 5045)
    assert truth["effects"].shape == (105, 5045)


def test_shapes_that_cannot_be():
    with pytest.raises(UserError, match="n_doubles=100"):
        make("data", "simulated_perturbseq", n_targets=5, n_doubles=100)
    with pytest.raises(UserError, match="under 10 cells"):
        make("data", "simulated_perturbseq", n_cells=100)
