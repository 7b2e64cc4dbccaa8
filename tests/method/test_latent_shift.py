import numpy as np
import pytest

from scsave import keys
from scsave.components import build
from scsave.compose import compose, plain
from scsave.errors import UserError
from tests.baselines.cells import mean, response_cells

SMALL = ["backbone.width=16", "backbone.depth=1", "blocking=random", "blocking.n_blocks=2"]


@pytest.fixture(scope="module")
def fitted():
    data, source, split = response_cells()
    method = build(plain(compose(["method=latent_shift", *SMALL]))["method"], "method")
    method.fit(data, split, source, 0)
    here = (data.obs["cell_type"] == "type3").to_numpy()
    treated = (data.obs["condition"] == "treated").to_numpy()
    return method, data[here & ~treated], data[here & treated]


def test_the_effect_is_carried_to_the_held_out_type(fitted):
    method, control, real = fitted
    made = method.respond(control, "treated", 0)
    assert np.corrcoef(mean(made) - mean(control), mean(real) - mean(control))[0, 1] > 0.8
    assert set(made.obs["condition"]) == {"treated"}


def test_decoded_cells_are_nearer_to_the_real_ones_than_control_is(fitted):
    method, control, real = fitted
    made = method.respond(control, "treated", 0, "decode")
    assert np.corrcoef(mean(made), mean(real))[0, 1] > np.corrcoef(mean(control), mean(real))[0, 1]


def test_no_shift_is_no_change_when_carried(fitted):
    method, control, _ = fitted
    np.testing.assert_allclose(method.respond(control, "control", 0).X.toarray(), control.X.toarray(), atol=1e-5)


def test_the_shift_is_the_mean_of_the_types_latent_changes(fitted):
    method, _, _ = fitted
    data, _, split = response_cells()
    train = data[split.train]
    z, obs = method.model.encode(train), train.obs
    at = {
        key: z[rows].mean(axis=0)
        for key, rows in obs.groupby(["cell_type", "condition"], observed=True).indices.items()
    }
    expected = np.mean([at[f"type{i}", "treated"] - at[f"type{i}", "control"] for i in range(3)], axis=0)
    pairs = method.pairs("treated")
    np.testing.assert_allclose((pairs.treated - pairs.control).mean(axis=0), expected, atol=1e-5)


def test_drawn_cells_are_counts_and_follow_the_seed(fitted):
    method, control, _ = fitted
    first = method.respond(control, "treated", 0, "decode")
    counts = first.layers[keys.COUNTS].toarray()
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-2)
    assert (first.X != method.respond(control, "treated", 0, "decode").X).nnz == 0
    assert (first.X != method.respond(control, "treated", 1, "decode").X).nnz > 0


def test_budget_and_mistakes(fitted):
    method, control, _ = fitted
    assert set(method.model.info["parts"]) == {"autoencoder"}
    assert method.cost["steps"] > 0
    networks = method.model.network.parameters()
    assert 0 < method.cost["parameters"] < sum(p.numel() for p in networks)
    with pytest.raises(UserError, match="it has: shift, decode"):
        method.respond(control, "treated", 0, "fly")
    with pytest.raises(UserError, match="levels seen in training: treated"):
        method.respond(control, "drug", 0)
