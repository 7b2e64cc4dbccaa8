import numpy as np
import pytest

from scsave.baselines.linear import Bilinear, NearestText, left_out_residuals, ridge_fit
from scsave.baselines.simple import Additive, MatchingMean, PerturbedMean
from scsave.errors import UserError
from scsave.genes.space import GeneLookup
from tests.baselines.cells import genetic_cells, mean, response_cells

NAMES = ["A", "B", "C", "D", "E", "A+B", "A+C", "X", "A+X", "X+Y"]
HELD = ["A+B", "X", "A+X", "X+Y"]


class Table:
    """Vectors from a dict; a gene that is not in it has none."""

    def __init__(self, rows):
        self.rows = rows
        self.width = len(next(iter(rows.values())))

    def bind(self, data):
        return self

    def lookup(self, genes, organism, gene_ids):
        found = np.array([gene in self.rows for gene in genes])
        return np.array([self.rows.get(gene, np.zeros(self.width)) for gene in genes], dtype=np.float32), found


def vectors(seed=0, names="ABCDEXY", width=6):
    rng = np.random.default_rng(seed)
    return Table({name: rng.normal(size=width) for name in names})


def fitted(method):
    data, source, split = genetic_cells(NAMES, HELD)
    method.fit(data, split, source, 0)
    control = data[(data.obs["perturbation"] == "control").to_numpy()]
    at = {name: mean(data[(data.obs["perturbation"] == name).to_numpy()]) for name in ["control", *NAMES]}
    return method, control, at


def predicted(method, control, target):
    return mean(method.respond(control, target, 0))


def test_perturbed_mean_is_the_mean_of_the_training_centroids():
    method, control, at = fitted(PerturbedMean())
    expected = np.mean([at[name] for name in NAMES if name not in HELD], axis=0)
    for target in ("X", "A+B"):
        np.testing.assert_allclose(predicted(method, control, target), expected, atol=1e-5)


def test_additive_adds_the_changes_of_the_singles_in_any_spelling():
    method, control, at = fitted(Additive())
    expected = at["A"] + at["B"] - at["control"]
    for target in ("A+B", "B+A", "A_B"):
        np.testing.assert_allclose(predicted(method, control, target), expected, atol=1e-5)
    np.testing.assert_allclose(predicted(method, control, "A+ctrl"), at["A"], atol=1e-5)
    np.testing.assert_allclose(predicted(method, control, "control"), at["control"], atol=1e-5)


def test_additive_with_an_unseen_gene():
    method, control, at = fitted(Additive())
    typical = np.mean([at[name] for name in "ABCDE"], axis=0) - at["control"]
    np.testing.assert_allclose(predicted(method, control, "A+X"), at["A"] + typical, atol=1e-5)
    none, control, at = fitted(Additive(unseen="zero"))
    np.testing.assert_allclose(predicted(none, control, "A+X"), at["A"], atol=1e-5)


def test_matching_mean_averages_the_genes_centroids():
    method, control, at = fitted(MatchingMean())
    np.testing.assert_allclose(predicted(method, control, "B+A"), (at["A"] + at["B"]) / 2, atol=1e-5)
    perturbed = np.mean([at[name] for name in NAMES if name not in HELD], axis=0)
    np.testing.assert_allclose(predicted(method, control, "A+X"), (at["A"] + perturbed) / 2, atol=1e-5)
    np.testing.assert_allclose(predicted(method, control, "X"), perturbed, atol=1e-5)


def test_nearest_text_answers_as_the_nearest_single():
    table = vectors()
    table.rows["X"] = 3.0 * table.rows["C"] + 0.01
    method, control, at = fitted(NearestText(vectors=table))
    assert method.nearest("X") == ["C"]
    np.testing.assert_allclose(predicted(method, control, "X"), at["C"], atol=1e-5)
    np.testing.assert_allclose(predicted(method, control, "A+X"), at["A"] + at["C"] - at["control"], atol=1e-5)
    wide, control, at = fitted(NearestText(vectors=table, neighbours=5))
    np.testing.assert_allclose(predicted(wide, control, "X"), np.mean([at[n] for n in "ABCDE"], axis=0), atol=1e-5)


def test_bilinear_is_the_closed_form_of_the_paper():
    """K = (P^T P + ridge)^-1 P^T (Y - b) projected on the singular vectors of Y - b, for singles."""
    names = list("ABCDEFGH")
    data, source, split = genetic_cells([*names, "X"], ["X"])
    table = vectors(names="ABCDEFGHX", width=3)
    method = Bilinear(vectors=table, n_genes=2, n_text=3, ridge=0.7)
    method.fit(data, split, source, 0)
    at = {n: mean(data[(data.obs["perturbation"] == n).to_numpy()]) for n in ["control", *names]}
    y = np.array([at[n] - at["control"] for n in names]).T  # (G, P)
    v = np.array([table.rows[n] for n in names], dtype=np.float32).astype(float)
    centre = v.mean(axis=0)
    _, scale, axes = np.linalg.svd(v - centre, full_matrices=False)
    unit = np.sqrt((scale**2).sum() / len(names))
    p = (v - centre) @ axes.T / unit
    b = y.mean(axis=1)
    g = np.linalg.svd(y - b[:, None], full_matrices=False)[0][:, :2]
    k = g.T @ (y - b[:, None]) @ p @ np.linalg.inv(p.T @ p + 0.7 * np.eye(3))
    px = (table.rows["X"].astype(np.float32) - centre) @ axes.T / unit
    np.testing.assert_allclose(method.of_set(("X",)), g @ k @ px + b, atol=1e-6)


def test_bilinear_recovers_effects_that_the_vectors_carry_and_adds_over_a_set():
    rng = np.random.default_rng(0)
    genes = [f"P{i}" for i in range(30)]
    table = vectors(names=[*genes, "X", "Y"], width=4)
    effect = rng.normal(size=(4, 25))
    method = Bilinear(vectors=table, n_genes=4, n_text=4)
    method.lookup = GeneLookup(vectors=method.vectors)
    method.sets = [(gene,) for gene in genes]
    method.seen = sorted(genes)
    method.changes = np.array([table.rows[gene].astype(np.float32) @ effect + 1.0 for gene in genes])
    method.learn_vectors()
    assert method.chosen == min(Bilinear.grid)
    truth = {gene: table.rows[gene] @ effect + 1.0 for gene in ("X", "Y")}
    np.testing.assert_allclose(method.of_set(("X",)), truth["X"], atol=0.05)
    np.testing.assert_allclose(method.of_set(("X", "Y")), truth["X"] + truth["Y"], atol=0.1)


def test_bilinear_gives_vectors_that_say_nothing_no_weight():
    method, _, _ = fitted(Bilinear(vectors=vectors(seed=3)))
    rng = np.random.default_rng(0)
    genes = [f"P{i}" for i in range(40)]
    method = Bilinear(vectors=vectors(names=[*genes, "X"], width=4))
    method.lookup = GeneLookup(vectors=method.vectors)
    method.sets, method.seen = [(gene,) for gene in genes], sorted(genes)
    method.changes = rng.normal(size=(40, 25)) + 2.0
    method.learn_vectors()
    assert method.chosen > 1.0
    assert np.abs(method.of_set(("X",)) - method.changes.mean(axis=0)).max() < 0.5


def test_left_out_residuals_are_those_of_refitting():
    rng = np.random.default_rng(0)
    features, values = np.column_stack([np.ones(9), rng.normal(size=(9, 3))]), rng.normal(size=(9, 2))
    fast = left_out_residuals(features, values, 0.4)
    for i in range(9):
        keep = np.arange(9) != i
        slow = values[i] - features[i] @ ridge_fit(features[keep], values[keep], 0.4)
        np.testing.assert_allclose(fast[i], slow)


def test_a_gene_without_a_vector_is_refused_or_counted_as_average():
    table = vectors(names="ABCDEY")
    method, control, at = fitted(NearestText(vectors=table))
    with pytest.raises(UserError, match="no gene vector for X"):
        method.respond(control, "X", 0)
    lenient, control, at = fitted(NearestText(vectors=table, missing="mean"))
    np.testing.assert_allclose(predicted(lenient, control, "X"), np.mean([at[n] for n in "ABCDE"], axis=0), atol=1e-5)
    linear, control, at = fitted(Bilinear(vectors=table, missing="mean"))
    assert np.isfinite(predicted(linear, control, "X")).all()


def test_held_out_perturbations_do_not_matter():
    data, source, split = genetic_cells(NAMES, HELD)
    poisoned = data.copy()
    x = poisoned.X.toarray()
    x[split.test] = np.nan
    poisoned.X = x
    control = data[(data.obs["perturbation"] == "control").to_numpy()]
    table = vectors()
    for make in (
        PerturbedMean,
        Additive,
        MatchingMean,
        lambda: Bilinear(vectors=table),
        lambda: NearestText(vectors=table),
    ):
        clean, dirty = make(), make()
        clean.fit(data, split, source, 0)
        dirty.fit(poisoned, split, source, 0)
        a, b = clean.respond(control, "A+X", 0), dirty.respond(control, "A+X", 0)
        np.testing.assert_allclose(a.X.toarray(), b.X.toarray(), atol=1e-5)


def test_mistakes_are_one_clear_line():
    data, source, split = response_cells()
    with pytest.raises(UserError, match="is for perturbed genes"):
        Additive().fit(data, split, source, 0)
    data, source, split = genetic_cells(["A", "B"], ["A", "B"])
    with pytest.raises(UserError, match="control cells only"):
        PerturbedMean().fit(data, split, source, 0)
