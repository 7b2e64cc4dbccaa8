"""Dispersions after calibration: drawn cells are as wide as real ones; the shifts of the flow from cells."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from scsave.blocking.blocks import GeneBlocks
from scsave.data.conditions import Conditions
from scsave.models.backbone import AttentionBackbone
from scsave.models.likelihoods import Gaussian, NegativeBinomial
from scsave.models.model import SAVEModel
from scsave.training.dispersion import calibrate
from scsave.training.loader import CellRows, LatentRows
from scsave.training.pairs import Pairs
from tests.models.test_model import SMALL, model_of

CPU = torch.device("cpu")


def test_calibrated_dispersions_bring_the_variance_of_drawn_cells_to_the_real_one():
    """Cells of one type, drawn from known means and dispersions, from a model that has the means right."""
    rng, n = np.random.default_rng(0), 1000
    theta, mean = np.array([0.5, 2.0, 20.0, 1.0, 5.0]), np.array([4.0, 8.0, 10.0, 2.0, 6.0])
    counts = rng.poisson(rng.gamma(theta, mean / theta, (n, 5))).astype(np.float32)
    library = np.full(n, 100.0, np.float32)
    blocks = GeneBlocks(tuple("abcde"), np.arange(5) % 2, "test", {})
    model = SAVEModel(AttentionBackbone(**SMALL), blocks, NegativeBinomial(), Conditions(), [])
    for parameter in model.decoder.parameters():
        parameter.data.zero_()
    head = model.likelihood
    head.average.data = torch.log(torch.tensor(mean / (100 - mean.sum()), dtype=torch.float32))[:, None]
    head.log_theta.data.fill_(2.0)
    calibrate(model, CellRows(sp.csr_matrix(counts), library), 0, CPU)
    drawn = head(model.decode(torch.zeros(n, 2, 3), {}), torch.from_numpy(library)).sample(torch.Generator())
    real, made = (model.to_log1p(x, torch.full((n,), 100.0)).var(0) for x in (torch.from_numpy(counts), drawn))
    torch.testing.assert_close(made, real, rtol=0.25, atol=0.0)
    assert (head.log_theta.detach()[[0, 2]] - torch.tensor([-0.69, 3.0])).abs().max() < 0.8


def test_a_likelihood_without_dispersions_is_left_alone():
    model, values = model_of(likelihood=Gaussian())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate(model, CellRows(sp.csr_matrix(np.ones((4, 11))), np.full(4, 20.0), values), 0, CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_shifts_are_mean_differences_of_strata_and_keep_the_library():
    obs = pd.DataFrame({"condition": ["ctrl"] * 6 + ["a"] * 6 + ["b"] * 4})
    blocks = GeneBlocks(tuple(f"g{i}" for i in range(11)), np.arange(11) % 3, "test", {})
    conditions = Conditions.fit(obs, ["condition"])
    torch.manual_seed(0)
    backbone = AttentionBackbone(**SMALL)
    model = SAVEModel(backbone, blocks, NegativeBinomial(), conditions, [], perturbation="condition")
    counts = np.random.default_rng(0).poisson(2.0, (16, 11)).astype(np.float32)
    places = [torch.arange(start, stop) for start, stop in ((0, 2), (2, 6), (0, 6), (6, 8), (8, 12), (12, 16))]
    pairs = Pairs(places[:3], places[3:], ["x", "y", "x"], [0, 0, 1], ["a", "b"])
    latents = LatentRows(
        model, CellRows(sp.csr_matrix(counts), counts.sum(1) + 5, conditions.encode(obs), pairs=pairs), CPU
    )
    latents.standardise(model, 1.0)
    latents.set_shifts(model, 0)
    x = latents.flow(model, torch.arange(16))[:, :-1]
    shifts = model.velocity.shifts
    level = {name: place for place, name in enumerate(conditions.columns[0].levels)}
    expected = ((x[6:8].mean(0) - x[:2].mean(0)) + (x[8:12].mean(0) - x[2:6].mean(0))) / 2
    torch.testing.assert_close(shifts[level["a"], :-1], expected)
    torch.testing.assert_close(shifts[level["b"], :-1], x[12:].mean(0) - x[:6].mean(0))
    assert (shifts[:, -1] == 0).all()
    assert (shifts[[level["ctrl"], -1]] == 0).all()
