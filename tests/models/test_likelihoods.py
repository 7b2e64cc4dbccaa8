"""Log-probabilities against torch and scipy; samples against their moments."""

import numpy as np
import pytest
import scipy.stats
import torch

from scsave.errors import UserError
from scsave.models.likelihoods import (
    Bernoulli,
    Gaussian,
    NegativeBinomial,
    ZeroInflatedNegativeBinomial,
    check_space,
)

N, G = 4, 7


def made(likelihood, seed=0):
    likelihood.setup(G)
    rng = torch.Generator().manual_seed(seed)
    for p in likelihood.parameters():
        p.data = torch.randn(p.shape, generator=rng) * 0.5
    out = torch.randn(N, G, likelihood.n_outputs, generator=rng)
    library = torch.tensor([500.0, 800.0, 2000.0, 100.0])
    counts = torch.poisson(torch.rand(N, G, generator=rng) * 8, generator=rng)
    return likelihood, out, library, counts


def nb(likelihood, out, library):
    mean, theta = likelihood.log_mean(out, library).exp().detach(), likelihood.log_theta.exp().detach()
    return mean, theta.expand_as(mean)


def test_gaussian_matches_torch():
    likelihood, out, library, _ = made(Gaussian())
    target = torch.rand(N, G)
    expected = torch.distributions.Normal(out[..., 0], likelihood.log_sd.exp()).log_prob(target).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(out, target, library), expected)


def test_bernoulli_matches_torch_on_binary_targets():
    likelihood, out, library, _ = made(Bernoulli())
    target = (torch.rand(N, G) > 0.5).float()
    expected = torch.distributions.Bernoulli(logits=out[..., 0]).log_prob(target).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(out, target, library), expected)


def test_negative_binomial_matches_scipy():
    likelihood, out, library, counts = made(NegativeBinomial())
    mean, theta = nb(likelihood, out, library)
    expected = scipy.stats.nbinom.logpmf(counts.numpy(), theta.numpy(), (theta / (theta + mean)).numpy()).sum(-1)
    torch.testing.assert_close(
        likelihood.log_prob(out, counts, library).detach().double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-3
    )


def test_zero_inflated_matches_its_mixture():
    likelihood, out, library, counts = made(ZeroInflatedNegativeBinomial())
    mean, theta = nb(likelihood, out, library)
    pmf = scipy.stats.nbinom.pmf(counts.numpy(), theta.numpy(), (theta / (theta + mean)).numpy())
    drop = torch.sigmoid(out[..., 1]).numpy()
    expected = np.log(np.where(counts.numpy() == 0, drop, 0) + (1 - drop) * pmf).sum(-1)
    torch.testing.assert_close(
        likelihood.log_prob(out, counts, library).detach().double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-3
    )


def test_gradient_of_the_sparse_gamma_terms_is_that_of_the_dense_formula():
    likelihood, out, library, counts = made(NegativeBinomial())
    likelihood.log_prob(out, counts, library).sum().backward()
    sparse = likelihood.log_theta.grad.clone()
    theta = likelihood.log_theta.detach().clone().requires_grad_()
    log_mean = likelihood.log_mean(out, library).detach()
    dense = torch.distributions.NegativeBinomial(theta.exp().expand(N, G), logits=log_mean - theta)
    dense.log_prob(counts).sum().backward()
    torch.testing.assert_close(sparse, theta.grad, rtol=1e-3, atol=1e-3)


def test_the_softmax_leaves_room_for_genes_that_were_not_selected():
    likelihood, out, library, _ = made(NegativeBinomial())
    total = likelihood.mean(out, library).sum(-1)
    assert (total < library).all()
    torch.testing.assert_close(
        likelihood.mean(out + 30, library).sum(-1), library
    )  # nothing outside: the whole library


@pytest.mark.parametrize("cls", [NegativeBinomial, ZeroInflatedNegativeBinomial])
def test_count_samples_have_the_distribution_s_moments(cls):
    likelihood, out, _, _ = made(cls())
    n = 40_000
    out, library = out[:1].expand(n, -1, -1), torch.full((n,), 300.0)
    drawn = likelihood.sample(out, library, torch.Generator().manual_seed(1))
    mean, theta = likelihood.log_mean(out[:1], library[:1]).exp()[0], likelihood.log_theta.exp()
    keep = torch.sigmoid(-out[0, :, 1]) if likelihood.n_outputs == 2 else torch.ones(G)
    variance = keep * (mean + mean**2 / theta + mean**2) - (keep * mean) ** 2
    torch.testing.assert_close(drawn.mean(0), (keep * mean).detach(), rtol=0.05, atol=0.05)
    torch.testing.assert_close(drawn.var(0), variance.detach(), rtol=0.1, atol=0.2)
    torch.testing.assert_close(likelihood.mean(out[:1], library[:1])[0], keep * mean)


def test_gaussian_draws_its_mean_or_adds_its_noise():
    likelihood, out, library, _ = made(Gaussian())
    rng = torch.Generator().manual_seed(0)
    torch.testing.assert_close(likelihood.sample(out, library, rng), out[..., 0].clamp(min=0))
    noisy, wide = Gaussian(draw="sample"), torch.full((20_000, G, 1), 5.0)
    noisy.setup(G)
    drawn = noisy.sample(wide, torch.ones(20_000), rng)
    torch.testing.assert_close(drawn.std(0), noisy.log_sd.exp().detach(), rtol=0.05, atol=0.0)


def test_bernoulli_draws_zeros_and_ones_with_its_probabilities():
    likelihood = Bernoulli(draw="sample")
    out = torch.tensor([[-1.0], [0.5]]).expand(20_000, 2, 1)
    drawn = likelihood.sample(out, torch.ones(20_000), torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), torch.sigmoid(torch.tensor([-1.0, 0.5])), rtol=0.05, atol=0.0)


def test_count_heads_refuse_data_without_counts():
    with pytest.raises(UserError, match="likelihood=gaussian"):
        check_space(NegativeBinomial(), integer_counts=False)
    check_space(Gaussian(), integer_counts=False)
