import sys

import numpy as np
import pytest

from scsave.baselines.scgen import Scgen, seeded
from scsave.errors import UserError
from tests.baselines.cells import mean, response_cells


def test_without_its_package_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pertpy", None)
    data, source, split = response_cells()
    with pytest.raises(UserError, match=r"needs the package pertpy .*'statsmodels<0.15'.*use baseline=latent_shift"):
        Scgen().fit(data, split, source, 0)
    source.cell_type_key = None
    with pytest.raises(UserError, match="needs levels of a perturbation and a column of cell types"):
        Scgen().fit(data, split, source, 0)


def test_unseeded_generators_follow_the_seed_and_seeded_ones_stay():
    with seeded(3):
        assert np.random.default_rng().random() == np.random.default_rng(3).random()
        assert np.random.default_rng(1).random() != np.random.default_rng().random()
    assert np.random.default_rng().random() != np.random.default_rng(3).random()


@pytest.mark.slow
def test_the_effect_is_carried_to_the_held_out_type():
    pytest.importorskip("pertpy", exc_type=ImportError)
    data, source, split = response_cells()
    method = Scgen(n_hidden=64, n_latent=10, max_epochs=60)
    method.fit(data, split, source, 0)
    here = (data.obs["cell_type"] == "type3").to_numpy()
    treated = (data.obs["condition"] == "treated").to_numpy()
    control, real = data[here & ~treated], data[here & treated]
    made = method.respond(control, "treated", 0)
    assert np.corrcoef(mean(made) - mean(control), mean(real) - mean(control))[0, 1] > 0.5
    assert (made.X != method.respond(control, "treated", 0).X).nnz == 0
    assert method.cost["epochs"] > 0
    with pytest.raises(UserError, match="levels seen in training: treated"):
        method.respond(control, "drug", 0)
