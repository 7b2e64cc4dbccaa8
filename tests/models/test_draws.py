"""Counts drawn without visiting the zeros have the distribution that they are drawn from."""

import numpy as np
import pytest
import torch
from scipy import stats

from scsave.models.draws import WIDE, negative_binomial
from scsave.models.likelihoods import Gaussian, Head, ZeroInflatedNegativeBinomial

N = 40_000


@pytest.mark.parametrize("theta", [0.003, 0.4, 3.0, 900.0])
@pytest.mark.parametrize("mean", [1e-6, 0.02, 0.7, 2.5, 12.0, 300.0])
def test_counts_are_those_of_the_negative_binomial(mean, theta):
    log_mean, log_theta = torch.full((N, 1), np.log(mean)), torch.tensor([np.log(theta)], dtype=torch.float32)
    place, count = negative_binomial(log_mean, log_theta, torch.Generator().manual_seed(1))
    assert (count >= 1).all()
    assert (count == count.round()).all()
    assert (place.diff() > 0).all()
    known = stats.nbinom(theta, theta / (theta + mean))
    drawn = np.zeros(N)
    drawn[place.numpy()] = count.numpy()
    edges = np.unique(known.ppf(np.linspace(0, 1, 12)[1:-1])) + 0.5
    found = np.histogram(drawn, [-1, *edges, np.inf])[0]
    expected = N * np.diff([0, *known.cdf(edges), 1])
    usual = expected >= 5
    apart = ((found - expected)[usual] ** 2 / expected[usual]).sum()
    assert apart <= stats.chi2.isf(1e-4, usual.sum())
    assert found[~usual].sum() <= expected[~usual].sum() + 12


def test_both_ways_of_drawing_stand_in_one_matrix_in_order():
    """Genes on either side of `WIDE`, and the same seed twice."""
    log_theta = torch.zeros(4)
    log_mean = torch.tensor([0.05, 1.0, WIDE, 40.0]).log().expand(5000, 4)
    (place, count), again = (
        negative_binomial(log_mean, log_theta, torch.Generator().manual_seed(seed)) for seed in (3, 3)
    )
    assert (place.diff() > 0).all()
    assert torch.equal(place, again[0])
    assert torch.equal(count, again[1])
    dense = torch.zeros(5000 * 4).index_put_((place,), count).view(5000, 4)
    torch.testing.assert_close(dense.mean(0), log_mean[0].exp(), rtol=0.08, atol=0.01)
    assert torch.corrcoef(dense.T).fill_diagonal_(0).abs().max() < 0.06  # genes are drawn each by itself


def test_a_zero_inflated_draw_loses_counts_with_its_probability():
    head = Head(ZeroInflatedNegativeBinomial(), 2)
    out = torch.tensor([[0.0, 0.0], [0.0, 3.0]]).expand(N, 2, 2)
    cells = head(out, torch.full((N,), 30.0))
    place, count = cells.drawn(torch.Generator().manual_seed(0))
    dense = torch.zeros(N * 2).index_put_((place,), count).view(N, 2)
    torch.testing.assert_close(dense.mean(0), cells.mean().detach()[0], rtol=0.05, atol=0.0)


def test_a_distribution_of_values_draws_the_same_sparse_as_dense():
    head = Head(Gaussian(), 3)
    out = torch.tensor([[0.5], [-1.0], [2.0]]).expand(4, 3, 1)
    place, value = head(out, torch.ones(4)).drawn(torch.Generator().manual_seed(0))
    assert place.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert value.tolist() == [0.5, 2.0] * 4
