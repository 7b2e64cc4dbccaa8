"""Log-probabilities against torch and scipy; samples against their moments; the mean of log1p against its sum."""

import numpy as np
import pytest
import scipy.stats
import torch

from scsave.models.closed_forms import LibraryLogSoftmax
from scsave.models.likelihoods import (
    Bernoulli,
    Gaussian,
    Head,
    NegativeBinomial,
    NegativeBinomialCounts,
    ZeroInflatedNegativeBinomial,
)

N, G = 4, 7
ALL = [Gaussian, Bernoulli, NegativeBinomial, ZeroInflatedNegativeBinomial]


def made(likelihood, seed=0):
    head = Head(likelihood, G)
    rng = torch.Generator().manual_seed(seed)
    for name in likelihood.per_gene:
        getattr(head, name).data = torch.randn(G, generator=rng) * 0.5
    head.scale.uniform_(0.5, 3, generator=rng)
    out = torch.randn(N, G, likelihood.n_outputs, generator=rng)
    library = torch.tensor([500.0, 800.0, 2000.0, 100.0])
    counts = torch.poisson(torch.rand(N, G, generator=rng) * 8, generator=rng)
    return head, out, library, counts


def nb(head, out, library):
    mean, theta = head(out, library).log_mean.exp().detach(), head.log_theta.exp().detach()
    return mean, theta.expand_as(mean)


def test_gaussian_matches_torch():
    head, out, library, _ = made(Gaussian())
    target = torch.rand(N, G)
    expected = torch.distributions.Normal(out[..., 0], head.log_sd.exp()).log_prob(target).sum(-1)
    torch.testing.assert_close(head(out, library).log_prob(target), expected)


def test_bernoulli_matches_torch_on_binary_targets():
    head, out, library, _ = made(Bernoulli())
    target = (torch.rand(N, G) > 0.5).float()
    expected = torch.distributions.Bernoulli(logits=out[..., 0]).log_prob(target).sum(-1)
    torch.testing.assert_close(head(out, library).log_prob(target), expected)


def test_negative_binomial_matches_scipy():
    head, out, library, counts = made(NegativeBinomial())
    mean, theta = nb(head, out, library)
    expected = scipy.stats.nbinom.logpmf(counts.numpy(), theta.numpy(), (theta / (theta + mean)).numpy()).sum(-1)
    torch.testing.assert_close(
        head(out, library).log_prob(counts).detach().double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-3
    )


def test_zero_inflated_matches_its_mixture():
    head, out, library, counts = made(ZeroInflatedNegativeBinomial())
    mean, theta = nb(head, out, library)
    pmf = scipy.stats.nbinom.pmf(counts.numpy(), theta.numpy(), (theta / (theta + mean)).numpy())
    drop = torch.sigmoid(out[..., 1]).numpy()
    expected = np.log(np.where(counts.numpy() == 0, drop, 0) + (1 - drop) * pmf).sum(-1)
    torch.testing.assert_close(
        head(out, library).log_prob(counts).detach().double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-3
    )


def test_gradient_of_the_sparse_gamma_terms_is_that_of_the_dense_formula():
    head, out, library, counts = made(NegativeBinomial())
    head(out, library).log_prob(counts).sum().backward()
    sparse = head.log_theta.grad.clone()
    theta = head.log_theta.detach().clone().requires_grad_()
    logits = head(out, library).log_mean.detach() - theta
    dense = torch.distributions.NegativeBinomial(theta.exp().expand(N, G), logits=logits)
    dense.log_prob(counts).sum().backward()
    torch.testing.assert_close(sparse, theta.grad, rtol=1e-3, atol=1e-3)


def test_the_closed_form_of_the_negative_binomial_is_autograd_s():
    rng = torch.Generator().manual_seed(3)
    log_means = torch.randn(6, G, generator=rng, dtype=torch.float64) * 2
    log_theta = torch.linspace(-5, 7, G, dtype=torch.float64)
    counts = torch.poisson(log_means.exp(), generator=rng)
    weight = torch.rand(6, generator=rng, dtype=torch.float64)  # cells need not count alike
    found = []
    for closed in (True, False):
        mean, theta = log_means.clone().requires_grad_(), log_theta.clone().requires_grad_()
        cells = NegativeBinomialCounts(mean, theta, torch.ones(6))
        log_prob = cells.log_prob(counts) if closed else cells._log_pmf(counts).sum(-1)
        (log_prob * weight).sum().backward()
        found.append((log_prob.detach(), mean.grad, theta.grad))
    for ours, autograd in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograd, rtol=1e-6, atol=1e-6)
    frozen = log_means.clone().requires_grad_()
    NegativeBinomialCounts(frozen, log_theta, torch.ones(6)).log_prob(counts).sum().backward()
    unweighted = NegativeBinomialCounts(mean := log_means.clone().requires_grad_(), log_theta, torch.ones(6))
    unweighted._log_pmf(counts).sum().backward()
    torch.testing.assert_close(frozen.grad, mean.grad, rtol=1e-6, atol=1e-6)


def test_the_closed_form_passes_through_the_softmax():
    head, out, library, counts = made(NegativeBinomial())
    grads = []
    for closed in (True, False):
        leaf = out.double().requires_grad_()
        head.double().zero_grad()
        cells = head(leaf, library.double())
        (cells.log_prob(counts.double()) if closed else cells._log_pmf(counts.double()).sum(-1)).mean().backward()
        grads.append((leaf.grad, head.log_theta.grad.clone()))
    for ours, autograd in zip(*grads, strict=True):
        torch.testing.assert_close(ours, autograd, rtol=1e-6, atol=1e-9)


def test_the_closed_form_of_the_softmax_is_autograd_s():
    rng = torch.Generator().manual_seed(2)
    out = torch.randn(N, G, generator=rng, dtype=torch.float64) * 5
    library, weight = (
        torch.rand(N, dtype=torch.float64) * 900 + 1,
        torch.randn(N, G, generator=rng, dtype=torch.float64),
    )
    found = []
    for closed in (True, False):
        leaf = out.clone().requires_grad_()
        if closed:
            value = LibraryLogSoftmax.apply(leaf, library)
        else:
            rest = torch.nn.functional.pad(leaf, (0, 1))
            value = torch.log_softmax(rest, dim=-1)[:, :-1] + library.log()[:, None]
        (value * weight).sum().backward()
        found.append((value.detach(), leaf.grad))
    for ours, autograd in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograd, rtol=1e-6, atol=1e-9)


def test_places_may_name_zeros_too():
    head, out, library, counts = made(NegativeBinomial())
    everywhere = torch.ones_like(counts).nonzero().T
    cells = head(out, library)
    torch.testing.assert_close(cells.log_prob_at(counts, everywhere), cells.log_prob(counts))


def test_the_softmax_leaves_room_for_genes_that_were_not_selected():
    head, out, library, _ = made(NegativeBinomial())
    total = head(out, library).mean().sum(-1)
    assert (total < library).all()
    # nothing outside: the whole library
    torch.testing.assert_close(head(out + 30, library).mean().sum(-1), library)


@pytest.mark.parametrize("cls", [NegativeBinomial, ZeroInflatedNegativeBinomial])
def test_count_samples_have_the_distribution_s_moments(cls):
    head, out, _, _ = made(cls())
    n = 40_000
    out, library = out[:1].expand(n, -1, -1), torch.full((n,), 300.0)
    drawn = head(out, library).sample(torch.Generator().manual_seed(1))
    mean, theta = head(out[:1], library[:1]).log_mean.exp()[0], head.log_theta.exp()
    keep = torch.sigmoid(-out[0, :, 1]) if cls.n_outputs == 2 else torch.ones(G)
    variance = keep * (mean + mean**2 / theta + mean**2) - (keep * mean) ** 2
    torch.testing.assert_close(drawn.mean(0), (keep * mean).detach(), rtol=0.05, atol=0.05)
    torch.testing.assert_close(drawn.var(0), variance.detach(), rtol=0.1, atol=0.2)
    torch.testing.assert_close(head(out[:1], library[:1]).mean()[0], keep * mean)


def test_gaussian_draws_its_mean_or_adds_its_noise():
    head, out, library, _ = made(Gaussian())
    rng = torch.Generator().manual_seed(0)
    torch.testing.assert_close(head(out, library).sample(rng), out[..., 0].clamp(min=0))
    noisy, wide = Head(Gaussian(draw="sample"), G), torch.full((20_000, G, 1), 5.0)
    noisy.log_sd.data[0] = -9.0  # below the smallest spread that the likelihood has
    drawn = noisy(wide, torch.ones(20_000)).sample(rng)
    expected = noisy.log_sd.exp().detach().clamp(min=np.exp(-4.6))
    torch.testing.assert_close(drawn.std(0), expected, rtol=0.05, atol=0.0)


def test_bernoulli_draws_zeros_and_ones_with_its_probabilities():
    head = Head(Bernoulli(draw="sample"), 2)
    out = torch.tensor([[-1.0], [0.5]]).expand(20_000, 2, 1)
    drawn = head(out, torch.ones(20_000)).sample(torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), torch.sigmoid(torch.tensor([-1.0, 0.5])), rtol=0.05, atol=0.0)


@pytest.mark.parametrize("cls", ALL)
def test_expected_log1p_is_the_mean_of_log1p_of_draws(cls):
    head, out, _, _ = made(cls())
    n = 40_000
    library = torch.full((n,), 300.0)
    cells = head(out[:1].expand(n, -1, -1), library)
    drawn = head.to_log1p(cells.sample(torch.Generator().manual_seed(2)), library)
    found = head(out[:1], library[:1]).expected_log1p()[0]
    torch.testing.assert_close(found, drawn.mean(0), rtol=0.0, atol=0.04)
    if cls.space == "counts":  # it is no log1p of the mean
        assert (found < head.to_log1p(cells.mean()[:1], library[:1])[0] - 0.04).any()


@pytest.mark.parametrize("library", [10.0, 900.0, 5_000.0])
def test_expected_log1p_of_counts_is_the_sum_over_them(library):
    mean = torch.tensor([[1e-4, 0.02, 0.3, 2.0, 9.0, 0.2 * library, 0.9 * library]])
    for log_theta in (-1.0, 0.7, 4.0, 8.0):
        head = Head(ZeroInflatedNegativeBinomial(), G)
        head.log_theta.data.fill_(log_theta)
        share = (mean / library).clamp(max=0.9)
        share = share / share.sum().clamp(min=1.0) * 0.999
        logits = (share / (1 - share.sum())).log()
        out = torch.stack([logits, torch.full_like(logits, -1.0)], dim=-1)
        cells = head(out, torch.tensor([library]))
        mu, theta, kept = cells.log_mean.exp()[0].double().numpy(), np.exp(log_theta), 1 / (1 + np.exp(-1.0))
        x = np.arange(scipy.stats.nbinom.isf(1e-9, theta, theta / (theta + mu)).max() + 1)[:, None]
        pmf = scipy.stats.nbinom.pmf(x, theta, theta / (theta + mu))
        expected = kept * (pmf * np.log1p(x * 1e4 / library)).sum(0)
        np.testing.assert_allclose(cells.expected_log1p()[0].detach().numpy(), expected, atol=1e-4)


def test_a_distribution_says_its_space_and_scaled_values_come_back_as_log1p():
    for cls in ALL:
        head, out, library, _ = made(cls())
        assert head(out, library).space == head.space == cls.space
    head, out, library, _ = made(Gaussian())
    cells = head(out, library)
    torch.testing.assert_close(cells.expected_log1p(), head.to_log1p(cells.mean(), library))
