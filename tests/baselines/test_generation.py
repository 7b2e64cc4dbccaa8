import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scsave import keys
from scsave.baselines.combinations import CombinationMeans
from scsave.baselines.generation import Mean, PcaGaussian, TrainResample
from scsave.errors import UserError
from scsave.keys import Columns
from tests.baselines.cells import mean, prepared, response_cells, split_of

METHODS = [Mean, TrainResample, lambda: PcaGaussian(n_components=5)]


@pytest.mark.parametrize("make", METHODS)
def test_generated_cells_have_the_layout_of_prepared_ones_and_follow_the_seed(make):
    data, source, split = response_cells()
    method = make()
    method.fit(data, split, source, 0)
    wanted = data.obs.loc[data.obs_names[[*range(30), *range(450, 470)]], source.conditions]
    first, second, other = method.generate(wanted, 0), method.generate(wanted, 0), method.generate(wanted, 1)
    assert first.shape == (50, data.n_vars)
    assert list(first.var_names) == list(data.var_names)
    pd.testing.assert_frame_equal(first.obs[source.conditions], wanted, check_names=False)
    assert (first.X != second.X).nnz == 0
    assert (first.obs[keys.LIBRARY] > 0).all()
    assert first.X.min() >= 0
    assert first.layers[keys.COUNTS].shape == first.shape
    if not isinstance(method, Mean):
        assert (first.X != other.X).nnz > 0
    rate = np.expm1(first.X.toarray()) * first.obs[keys.LIBRARY].to_numpy()[:, None] / keys.TARGET_SUM
    np.testing.assert_allclose(first.layers[keys.COUNTS].toarray(), rate, rtol=1e-3, atol=1e-3)


def test_mean_is_the_mean_of_the_training_cells_of_the_condition():
    data, source, split = response_cells()
    method = Mean()
    method.fit(data, split, source, 0)
    made = method.generate(pd.DataFrame({"cell_type": ["type1"], "condition": ["treated"]}), 0)
    here = ((data.obs["cell_type"] == "type1") & (data.obs["condition"] == "treated")).to_numpy()
    np.testing.assert_allclose(made.X.toarray()[0], mean(data[here]), rtol=1e-5)
    assert made.obs[keys.LIBRARY].iloc[0] == pytest.approx(data.obs.loc[here, keys.LIBRARY].mean())


def test_held_out_cells_do_not_matter():
    data, source, split = response_cells()
    wanted = data.obs[source.conditions].iloc[split.test]
    x = data.X.toarray()
    x[split.test] = np.nan
    poisoned = AnnData(X=sp.csr_matrix(x), obs=data.obs, var=data.var, layers=dict(data.layers))
    for make in METHODS:
        clean, dirty = make(), make()
        clean.fit(data, split, source, 0)
        dirty.fit(poisoned, split, source, 0)
        np.testing.assert_array_equal(clean.generate(wanted, 0).X.toarray(), dirty.generate(wanted, 0).X.toarray())


def test_main_effects_are_exact_where_there_is_no_interaction():
    obs = pd.DataFrame({"a": ["x", "x", "y", "z", "z"], "b": ["u", "v", "u", "u", "v"]})
    effect = {"x": 1.0, "y": 5.0, "z": -2.0, "u": 0.0, "v": 10.0}
    values = (obs["a"].map(effect) + obs["b"].map(effect)).to_numpy()[:, None]
    model = CombinationMeans.fit(values, obs, ["a", "b"])
    means, place = model.predict(pd.DataFrame({"a": ["y", "x"], "b": ["v", "v"]}))
    np.testing.assert_allclose(means[:, 0], [15.0, 11.0])
    assert place[0] == -1
    assert place[1] >= 0


def test_main_effects_of_gene_sets_add_up_and_numbers_are_lines():
    obs = pd.DataFrame({"p": ["control", "A", "B", "A+C"], "age": [0.0, 1.0, 2.0, 3.0]})
    effect = {"control": 0.0, "A": 2.0, "B": 3.0, "A+C": 2.0 + 4.0}
    values = (obs["p"].map(effect) + 10 * obs["age"]).to_numpy()[:, None]
    extra = pd.DataFrame({"p": ["A", "B"], "age": [5.0, 7.0]})
    obs, values = pd.concat([obs, extra]), np.vstack([values, [[52.0], [73.0]]])
    model = CombinationMeans.fit(values, obs, ["p", "age"], gene_column="p", control="control")
    means, _ = model.predict(pd.DataFrame({"p": ["B+C"], "age": [4.0]}))
    np.testing.assert_allclose(means[0, 0], 3 + 4 + 40)


def test_an_unknown_level_is_refused_by_name():
    data, source, split = response_cells()
    method = Mean()
    method.fit(data, split, source, 0)
    with pytest.raises(UserError, match="no level 'type9'"):
        method.generate(pd.DataFrame({"cell_type": ["type9"], "condition": ["treated"]}), 0)
    with pytest.raises(UserError, match="no column condition"):
        method.generate(pd.DataFrame({"cell_type": ["type1"]}), 0)


def test_train_resample_draws_real_cells_of_the_nearest_combination():
    data, source, split = response_cells()
    method = TrainResample()
    method.fit(data, split, source, 0)
    wanted = pd.DataFrame({"cell_type": ["type1"] * 40 + ["type3"] * 40, "condition": ["treated"] * 80})
    made = method.generate(wanted, 3)
    rows = {tuple(row): i for i, row in enumerate(data.X.toarray())}
    found = data.obs.iloc[[rows[tuple(row)] for row in made.X.toarray()]]
    assert set(found["cell_type"][:40]) == {"type1"}
    assert set(found["condition"][:40]) == {"treated"}
    shared = (found["cell_type"] == "type3").astype(int) + (found["condition"] == "treated").astype(int)
    assert (shared[40:] == 1).all()  # the combination itself is held out


def test_pca_gaussian_has_the_moments_of_its_condition():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"kind": pd.Categorical(["a"] * 400 + ["b"] * 400 + ["c"] * 2)})
    rates = np.exp(rng.normal(3.0, 0.5, size=(2, 8)))[(obs["kind"] == "b").to_numpy().astype(int)]
    rates = rates * np.exp(rng.normal(0, 0.3, size=rates.shape))
    data = prepared(rates, obs)
    source = Columns(name="tiny", conditions=["kind"])
    split = split_of(data, np.arange(len(obs)) == 5)
    method = PcaGaussian(n_components=7, shrinkage=0.0)
    method.fit(data, split, source, 0)
    made = method.generate(pd.DataFrame({"kind": ["a"] * 20000}), 0)
    real = method.pca.transform(data[split.train].X)
    kind = data.obs["kind"].iloc[split.train].to_numpy()
    drawn = method.pca.transform(made.X)
    np.testing.assert_allclose(drawn.mean(axis=0), real[kind == "a"].mean(axis=0), atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(real[kind == "a"].T), atol=0.03)
    few = PcaGaussian(n_components=7, shrinkage=1e9)
    few.fit(data, split, source, 0)
    np.testing.assert_allclose(few.covariances, np.broadcast_to(few.within, few.covariances.shape), atol=1e-7)


def test_a_baseline_refuses_the_tasks_it_has_not():
    data, source, split = response_cells()
    method = Mean()
    method.fit(data, split, source, 0)
    with pytest.raises(UserError, match="serves task=generation"):
        method.respond(data, "treated", 0)
    with pytest.raises(UserError, match="has no batch_correction"):
        method.integrate(data, 0)
