import dataclasses

import numpy as np
import pytest

from scsave import keys
from scsave.baselines.levels import Pairs
from scsave.baselines.linear import GeneSlope
from scsave.baselines.simple import MatchingMean, MeanShift, NoChange, SimilarShift
from scsave.errors import UserError
from tests.baselines.cells import mean, response_cells

METHODS = [NoChange, MeanShift, SimilarShift, GeneSlope, MatchingMean]


def group(data, cell_type, condition):
    return data[((data.obs["cell_type"] == cell_type) & (data.obs["condition"] == condition)).to_numpy()]


def responded(method, seed=0):
    data, source, split = response_cells(seed)
    method.fit(data, split, source, 0)
    control = group(data, "type3", "control")
    return data, control, method.respond(control, "treated", 0)


@pytest.mark.parametrize("make", METHODS)
def test_predicted_cells_are_the_control_cells_under_the_target(make):
    _, control, made = responded(make())
    assert made.shape == control.shape
    assert list(made.obs_names) == list(control.obs_names)
    assert set(made.obs["condition"]) == {"treated"}
    assert set(made.obs["cell_type"]) == {"type3"}
    np.testing.assert_allclose(np.ptp(made.X.toarray() - control.X.toarray(), axis=0), 0, atol=1e-5)


def test_no_change_is_control():
    _, control, made = responded(NoChange())
    assert (made.X != control.X).nnz == 0


def test_mean_shift_by_its_formula():
    data, control, made = responded(MeanShift())
    kinds = ["type0", "type1", "type2"]
    shift = np.mean([mean(group(data, t, "treated")) - mean(group(data, t, "control")) for t in kinds], axis=0)
    np.testing.assert_allclose(mean(made), mean(control) + shift, atol=1e-5)


def test_mean_shift_weighted_by_cells():
    pairs_of = {"a": (1.0, 3.0, 10.0), "b": (2.0, 8.0, 30.0)}
    method = MeanShift(weight="cells")
    method.pairs = lambda target: Pairs(
        list(pairs_of),
        *(np.array([[v[i]] for v in pairs_of.values()]) for i in (0, 1)),
        np.array([4.0, 9]),
        np.array([6.0, 21]),
    )
    assert method.type_change(np.zeros(1), "c", "t")[0] == pytest.approx((10 * 2 + 30 * 6) / 40)


def test_similarity_weights_by_their_formula():
    rng = np.random.default_rng(0)
    control, profile, cells = rng.normal(size=(4, 50)), rng.normal(size=50), np.array([4.0, 9.0, 100.0, 1.0])
    r = np.array([np.corrcoef(row, profile)[0, 1] for row in control])
    expected = np.exp((r - r.max()) / 0.05) * np.sqrt(cells)
    weights = Pairs(list("abcd"), control, control, cells / 2, cells / 2).weights(profile, 0.05, cells)
    np.testing.assert_allclose(weights, expected / expected.sum())


def test_similar_shift_by_its_formula():
    data, control, made = responded(SimilarShift())
    kinds = ["type0", "type1", "type2"]
    controls = np.array([mean(group(data, t, "control")) for t in kinds])
    treated = np.array([mean(group(data, t, "treated")) for t in kinds])
    cells = np.full(3, 60.0)
    weights = Pairs(kinds, controls, treated, cells, cells).weights(mean(control), 0.05, 2 * cells)
    np.testing.assert_allclose(mean(made), mean(control) + weights @ (treated - controls), atol=1e-5)


def slopes(shrinkage, true_slope, n_types=12, genes=30, noise=0.0):
    rng = np.random.default_rng(1)
    control = rng.uniform(1, 2, size=(n_types, genes))
    treated = 0.5 + true_slope * control + noise * rng.normal(size=control.shape)
    pairs = Pairs([str(i) for i in range(n_types)], control, treated, *[np.full(n_types, 50.0)] * 2)
    method = GeneSlope(shrinkage=shrinkage, temperature=1e6)
    method.pairs = lambda target: pairs
    return method, pairs, rng.uniform(1, 2, size=genes)


def test_gene_slope_without_shrinkage_is_the_regression_line():
    method, pairs, profile = slopes(0.0, 0.3, noise=0.1)
    lines = [np.polyfit(pairs.control[:, g], pairs.treated[:, g], 1) for g in range(pairs.control.shape[1])]
    expected = np.array([np.polyval(line, x) for line, x in zip(lines, profile, strict=True)])
    np.testing.assert_allclose(profile + method.type_change(profile, "new", "t"), expected)


def test_gene_slope_shrunk_all_the_way_is_the_similar_shift():
    method, pairs, profile = slopes(float("inf"), 0.3, noise=0.1)
    shift = (pairs.treated - pairs.control).mean(axis=0)
    np.testing.assert_allclose(method.type_change(profile, "new", "t"), shift)
    near, _, _ = slopes(1e9, 0.3, noise=0.1)
    np.testing.assert_allclose(near.type_change(profile, "new", "t"), shift, atol=1e-6)


def test_shrinkage_is_chosen_on_the_training_types():
    steep, pairs, _ = slopes("auto", 0.3)
    assert steep.chosen_shrinkage(pairs) == min(GeneSlope.grid)
    parallel, pairs, _ = slopes("auto", 1.0, noise=0.5)
    assert parallel.chosen_shrinkage(pairs) >= 0.3


def test_a_gene_slope_prediction_is_never_below_zero():
    method, pairs, _ = slopes(0.0, 3.0)
    pairs.treated[:] = pairs.treated - 3.0
    assert (method.treated_mean(np.zeros(30), pairs, 0.0) == 0).all()


def test_matching_mean_ignores_the_control_profile():
    data, control, made = responded(MatchingMean())
    kinds = ["type0", "type1", "type2"]
    np.testing.assert_allclose(
        mean(made), np.mean([mean(group(data, t, "treated")) for t in kinds], axis=0), rtol=1e-4, atol=1e-5
    )
    method = MatchingMean()
    method.fit(*_with_all_cells())
    np.testing.assert_allclose(
        mean(method.respond(control, "treated", 0)), mean(group(data, "type3", "treated")), rtol=1e-4, atol=1e-5
    )


def _with_all_cells():
    from tests.baselines.cells import split_of

    data, source, _ = response_cells()
    return data, split_of(data, np.arange(data.n_obs) == 0), source, 0


def test_two_types_at_once_get_each_its_own_prediction():
    data, source, split = response_cells()
    method = GeneSlope()
    method.fit(data, split, source, 0)
    both = data[(data.obs["condition"] == "control").to_numpy()]
    together = method.respond(both, "treated", 0)
    alone = method.respond(group(data, "type3", "control"), "treated", 0)
    here = (together.obs["cell_type"] == "type3").to_numpy()
    np.testing.assert_array_equal(together.X.toarray()[here], alone.X.toarray())


def test_held_out_cells_do_not_matter():
    data, source, split = response_cells()
    poisoned = data.copy()
    x = poisoned.X.toarray()
    x[split.test] = np.nan
    poisoned.X = x
    for make in METHODS:
        clean, dirty = make(), make()
        clean.fit(data, split, source, 0)
        dirty.fit(poisoned, split, source, 0)
        control = group(data, "type3", "control")
        a, b = clean.respond(control, "treated", 0), dirty.respond(control, "treated", 0)
        np.testing.assert_allclose(a.X.toarray(), b.X.toarray(), atol=1e-6)


@pytest.mark.parametrize("make", [MeanShift, SimilarShift, GeneSlope])
def test_carried_cells_are_counts_with_the_predicted_mean(make):
    _, control, shifted = responded(make())
    _, _, made = responded(make(carry=True))
    counts = made.layers[keys.COUNTS].data
    assert (counts == counts.round()).all()
    assert list(made.obs_names) == list(control.obs_names)
    floor = np.maximum(mean(shifted), 0)  # a mean of counts can't be below zero
    assert np.abs(mean(made) - floor).max() < 0.1
    assert np.corrcoef(mean(made), floor)[0, 1] > 0.999


def test_mistakes_are_one_clear_line():
    data, source, split = response_cells()
    method = MeanShift()
    method.fit(data, split, source, 0)
    with pytest.raises(UserError, match="no route 'fly'; it has: shift"):
        method.respond(data, "treated", 0, "fly")
    with pytest.raises(UserError, match=r"condition=drug; levels seen in training: treated"):
        method.respond(data, "drug", 0)
    with pytest.raises(UserError, match="names no perturbation_key"):
        MeanShift().fit(data, split, dataclasses.replace(source, perturbation=None), 0)
