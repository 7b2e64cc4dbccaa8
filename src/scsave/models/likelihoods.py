"""p(X | z): four heads of the decoder (method.md section 2).

Each turns `n_outputs` numbers a gene, (N, G, n_outputs), into a distribution. `space` says what it is a distribution
of: `scaled` (log1p divided by each gene's largest training value) or `counts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scsave.errors import UserError


@dataclass(frozen=True)
class GeneMoments:
    """Statistics of the training cells that a head starts from, (G,) each."""

    scaled_mean: Tensor
    share: Tensor  # of all counts of the cells, genes that were not selected counted in
    count_mean: Tensor
    count_variance: Tensor  # within combinations of conditions: what is left to the head


class Gaussian(nn.Module):
    """Normal on scaled values with one learned spread a gene: the paper's head.

    `draw="mean"` returns the mean, as the paper does, and its cells are smoother than real ones;
    `draw="sample"` adds the learned noise.
    """

    space, n_outputs = "scaled", 1

    def __init__(self, draw: Literal["mean", "sample"] = "mean"):
        super().__init__()
        self.draw = draw

    def setup(self, n_genes: int) -> None:
        self.log_sd = nn.Parameter(torch.full((n_genes,), -1.5))

    def average(self, moments: GeneMoments) -> Tensor:
        return moments.scaled_mean[:, None]  # (G, 1)

    def log_prob(self, out: Tensor, target: Tensor, library: Tensor) -> Tensor:
        log_sd = self.log_sd.clamp(min=-4.6)  # sd >= 0.01: genes seen once would else take the whole likelihood
        z = (target - out[..., 0]) * torch.exp(-log_sd)
        return (-0.5 * z**2 - log_sd - 0.9189385332046727).sum(-1)  # (N,)

    def mean(self, out: Tensor, library: Tensor) -> Tensor:
        return out[..., 0].clamp(min=0)  # (N, G) scaled

    def sample(self, out: Tensor, library: Tensor, rng: torch.Generator) -> Tensor:
        if self.draw == "mean":
            return self.mean(out, library)
        noise = torch.randn(out.shape[:-1], generator=rng, device=out.device)
        return (out[..., 0] + noise * self.log_sd.exp()).clamp(min=0)  # (N, G) scaled


class Bernoulli(nn.Module):
    """Cross-entropy on scaled values in [0, 1], read as probabilities (soft Bernoulli); its mean is the value."""

    space, n_outputs = "scaled", 1

    def __init__(self, draw: Literal["mean", "sample"] = "mean"):
        super().__init__()
        self.draw = draw

    def setup(self, n_genes: int) -> None:
        pass

    def average(self, moments: GeneMoments) -> Tensor:
        return torch.logit(moments.scaled_mean, eps=1e-4)[:, None]  # (G, 1)

    def log_prob(self, out: Tensor, target: Tensor, library: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(out[..., 0], target.clamp(0, 1), reduction="none").sum(-1)  # (N,)

    def mean(self, out: Tensor, library: Tensor) -> Tensor:
        return torch.sigmoid(out[..., 0])  # (N, G) scaled

    def sample(self, out: Tensor, library: Tensor, rng: torch.Generator) -> Tensor:
        p = self.mean(out, library)
        return p if self.draw == "mean" else torch.bernoulli(p, generator=rng)  # (N, G) scaled


def _nb_log_prob(x: Tensor, log_mu: Tensor, log_theta: Tensor) -> Tensor:
    """Negative binomial with mean mu and inverse dispersion theta (variance mu + mu^2 / theta), elementwise."""
    theta = log_theta.exp()
    log_total = torch.logaddexp(log_theta, log_mu)
    # The gamma terms vanish at x = 0, which is most of a cell: computing them only elsewhere halves the cost.
    rows, genes = x.nonzero(as_tuple=True)
    seen, seen_theta = x[rows, genes], theta.expand_as(x)[rows, genes]
    gamma = torch.lgamma(seen + seen_theta) - torch.lgamma(seen_theta) - torch.lgamma(seen + 1)
    gamma = torch.zeros_like(x).index_put((rows, genes), gamma.to(x.dtype))
    return gamma + theta * (log_theta - log_total) + x * (log_mu - log_total)


class NegativeBinomial(nn.Module):
    """Counts with mean `library x softmax(out)`; one learned dispersion a gene.

    The softmax has one more class than there are genes: the counts of genes that were not selected.
    """

    space, n_outputs = "counts", 1

    def setup(self, n_genes: int) -> None:
        self.log_theta = nn.Parameter(torch.full((n_genes,), 1.0))

    def average(self, moments: GeneMoments) -> Tensor:
        """Logits of the average cell, (G, 1); the dispersions start from the method of moments."""
        excess = (moments.count_variance - moments.count_mean).clamp(min=1e-8)
        self.log_theta.data.copy_((moments.count_mean**2 / excess).clamp(0.2, 50.0).log())
        rest = (1 - moments.share.sum()).clamp(min=1e-4)
        return (moments.share.clamp(min=1e-8) / rest).log()[:, None]

    def log_mean(self, out: Tensor, library: Tensor) -> Tensor:
        log_rate = torch.log_softmax(F.pad(out[..., 0], (0, 1)), dim=-1)[:, :-1]
        return log_rate + library.log()[:, None]  # (N, G)

    def log_prob(self, out: Tensor, target: Tensor, library: Tensor) -> Tensor:
        return _nb_log_prob(target, self.log_mean(out, library), self.log_theta.clamp(-6, 8)).sum(-1)  # (N,)

    def mean(self, out: Tensor, library: Tensor) -> Tensor:
        return self.log_mean(out, library).exp()  # (N, G) counts

    def sample(self, out: Tensor, library: Tensor, rng: torch.Generator) -> Tensor:
        theta = self.log_theta.clamp(-6, 8).exp().expand(out.shape[:-1])
        # Poisson-Gamma: torch's gamma sampler takes a generator, the Gamma distribution object does not.
        rate = torch._standard_gamma(theta.contiguous(), generator=rng) / theta * self.mean(out, library)
        return torch.poisson(rate, generator=rng)  # (N, G) counts


class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """The same with a probability of dropout for each cell and gene (second output, a logit)."""

    space, n_outputs = "counts", 2

    def average(self, moments: GeneMoments) -> Tensor:
        """(G, 2): dropout starts at 5%."""
        logits = super().average(moments)
        return torch.cat([logits, torch.full_like(logits, -3.0)], dim=-1)

    def log_prob(self, out: Tensor, target: Tensor, library: Tensor) -> Tensor:
        dropout = out[..., 1]
        log_nb = _nb_log_prob(target, self.log_mean(out, library), self.log_theta.clamp(-6, 8))
        at_zero = torch.logaddexp(F.logsigmoid(dropout), F.logsigmoid(-dropout) + log_nb)
        return torch.where(target == 0, at_zero, F.logsigmoid(-dropout) + log_nb).sum(-1)  # (N,)

    def mean(self, out: Tensor, library: Tensor) -> Tensor:
        return super().mean(out, library) * torch.sigmoid(-out[..., 1])  # (N, G) counts

    def sample(self, out: Tensor, library: Tensor, rng: torch.Generator) -> Tensor:
        theta = self.log_theta.clamp(-6, 8).exp().expand(out.shape[:-1])
        mean = self.log_mean(out, library).exp()
        counts = torch.poisson(torch._standard_gamma(theta.contiguous(), generator=rng) / theta * mean, generator=rng)
        kept = torch.bernoulli(torch.sigmoid(-out[..., 1]), generator=rng)
        return counts * kept  # (N, G) counts


Likelihood = Gaussian | Bernoulli | NegativeBinomial | ZeroInflatedNegativeBinomial


def check_space(likelihood: Likelihood, integer_counts: bool) -> None:
    """UserError when a count head is asked of data that holds no counts."""
    if likelihood.space == "counts" and not integer_counts:
        raise UserError(
            f"likelihood {type(likelihood).__name__} needs raw counts, which this data set does not hold; "
            "use likelihood=gaussian, or name the layer with counts (data.layer=...)"
        )
