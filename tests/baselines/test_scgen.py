import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scsave.baselines import scgen
from scsave.baselines.scgen import Scgen
from scsave.errors import UserError
from scsave.training.options import FitOptions
from tests.baselines.cells import mean, response_cells


def test_without_its_package_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pertpy", None)
    data, source, split = response_cells()
    with pytest.raises(UserError, match=r"needs the package pertpy .*'statsmodels<0.15'.*use method=latent_shift"):
        Scgen().fit(data, split, source, 0)
    with pytest.raises(UserError, match="needs levels of a perturbation and a column of cell types"):
        Scgen().fit(data, split, dataclasses.replace(source, cell_type=None), 0)


class Linear:
    """Stands for the package's model, trained: its latent is the expression itself, and so is what it decodes."""

    trainer = SimpleNamespace(current_epoch=2, global_step=10)
    module = SimpleNamespace(as_bound=lambda: SimpleNamespace(generative=lambda latent: {"px": latent}))

    def __init__(self, cells, **sizes):
        pass

    def get_latent_representation(self, cells):
        return cells.X.toarray()

    @staticmethod
    def setup_anndata(cells, batch_key, labels_key):
        assert {batch_key, labels_key} <= set(cells.obs)

    def train(self, datasplitter_kwargs, early_stopping, **options):
        assert not early_stopping
        assert options["accelerator"] == "cpu"


def test_the_latent_change_counts_every_type_once_and_draws_nothing(monkeypatch):
    """The expected value of scGen's arithmetic: all control types, held-out one included, against all treated types."""
    pytest.importorskip("scvi")
    monkeypatch.setattr(scgen, "load_pertpy", lambda: SimpleNamespace(tl=SimpleNamespace(Scgen=Linear)))
    data, source, split = response_cells()
    method = Scgen()
    method.fit(data, split, source, 0, options=FitOptions())
    assert (method.cost["epochs"], method.cost["steps"]) == (2, 10)
    train, obs = data[split.train], data.obs.iloc[split.train]
    at = {
        key: mean(train[rows]) for key, rows in obs.groupby(["cell_type", "condition"], observed=True).indices.items()
    }
    treated, control = (np.mean([at[k] for k in at if k[1] == level], axis=0) for level in ("treated", "control"))
    here = ((data.obs["cell_type"] == "type3") & (data.obs["condition"] == "control")).to_numpy()
    made = method.respond(data[here], "treated", 0)
    np.testing.assert_allclose(mean(made) - mean(data[here]), treated - control, atol=1e-5)
    assert (made.X != method.respond(data[here], "treated", 1).X).nnz == 0
    assert list(made.obs["control_cell"]) == list(data.obs_names[here])
    strange = data[here].copy()
    strange.obs["cell_type"] = "type9"
    with pytest.raises(UserError, match="no training cell has cell_type=type9"):
        method.respond(strange, "treated", 0)


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
