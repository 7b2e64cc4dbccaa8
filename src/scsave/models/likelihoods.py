"""Options of the config group `likelihood`, and the heads p(x | z) and distributions that they make (method.md section 2)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scsave.keys import TARGET_SUM
from scsave.models.closed_forms import LibraryLogSoftmax, NegativeBinomialLogProb
from scsave.models.draws import negative_binomial
from scsave.stats.moments import GeneMoments

Space, Draw = Literal["counts", "scaled"], Literal["mean", "sample"]


class Distribution(Protocol):
    """p(x | z) of N cells and G genes. Values are in `space`, but for `expected_log1p`, which is log1p of counts per 10k."""

    space: ClassVar[Space]

    def log_prob(self, target: Tensor) -> Tensor:
        """log p of `target` (N, G), summed over the genes: (N,)."""

    def log_prob_at(self, target: Tensor, seen: Tensor) -> Tensor:
        """The same for who knows rows and genes (2, M) outside of which `target` is zero: some distributions need them."""
        return self.log_prob(target)

    def mean(self) -> Tensor:
        """(N, G)."""

    def sample(self, rng: torch.Generator) -> Tensor:
        """One draw of each cell, (N, G)."""

    def drawn(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw of each cell, sparse: places in the flattened (N, G), ascending, and the values there, (M,) each."""
        flat = self.sample(rng).flatten()
        place = flat.nonzero()[:, 0]
        return place, flat.index_select(0, place)

    def expected_log1p(self) -> Tensor:
        """Mean over draws of log1p expression, (N, G): not log1p of the mean, which is larger."""


@dataclass(frozen=True)
class Scaled(Distribution):
    """What the two distributions of scaled values share: scaled is log1p expression divided by `scale` (G,)."""

    location: Tensor  # (N, G)
    scale: Tensor  # (G,)
    draw: Draw
    space: ClassVar[Space] = "scaled"

    def expected_log1p(self) -> Tensor:
        return self.mean() * self.scale  # the value is log1p expression already


@dataclass(frozen=True)
class ScaledNormal(Scaled):
    """Normal with one spread a gene; expression below 0 does not exist, so that what is returned is clamped there."""

    log_sd: Tensor  # (G,)

    def log_prob(self, target: Tensor) -> Tensor:
        z = (target - self.location) * torch.exp(-self.log_sd)
        return (-0.5 * z**2 - self.log_sd - 0.9189385332046727).sum(-1)  # (N,)

    def mean(self) -> Tensor:
        return self.location.clamp(min=0)

    def sample(self, rng: torch.Generator) -> Tensor:
        if self.draw == "mean":
            return self.mean()
        noise = torch.randn(self.location.shape, generator=rng, device=self.location.device)
        return (self.location + noise * self.log_sd.exp()).clamp(min=0)


@dataclass(frozen=True)
class ScaledBernoulli(Scaled):
    """Values in [0, 1] read as probabilities (soft Bernoulli); `location` is their logit."""

    def log_prob(self, target: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.location, target.clamp(0, 1), reduction="none").sum(-1)  # (N,)

    def mean(self) -> Tensor:
        return torch.sigmoid(self.location)

    def sample(self, rng: torch.Generator) -> Tensor:
        return self.mean() if self.draw == "mean" else torch.bernoulli(self.mean(), generator=rng)


@dataclass(frozen=True)
class NegativeBinomialCounts(Distribution):
    """Counts with mean mu and inverse dispersion theta: variance mu + mu^2 / theta."""

    log_mean: Tensor  # (N, G)
    log_theta: Tensor  # (G,)
    library: Tensor  # (N,) all counts of the cell, those of genes that were not selected among them
    space: ClassVar[Space] = "counts"

    def log_prob(self, target: Tensor) -> Tensor:
        return self.log_prob_at(target, (target != 0).nonzero().T)

    def log_prob_at(self, target: Tensor, seen: Tensor) -> Tensor:
        return NegativeBinomialLogProb.apply(self.log_mean, self.log_theta, target, seen)  # (N,)

    def _log_pmf(self, x: Tensor) -> Tensor:
        theta = self.log_theta.exp()
        log_total = torch.logaddexp(self.log_theta, self.log_mean)
        rows, genes = x.nonzero(as_tuple=True)
        seen, seen_theta = x[rows, genes], theta.expand_as(x)[rows, genes]
        gamma = torch.lgamma(seen + seen_theta) - torch.lgamma(seen_theta) - torch.lgamma(seen + 1)
        gamma = torch.zeros_like(x).index_put((rows, genes), gamma.to(x.dtype))
        return gamma + theta * (self.log_theta - log_total) + x * (self.log_mean - log_total)  # (N, G)

    def mean(self) -> Tensor:
        return self.log_mean.exp()

    def sample(self, rng: torch.Generator) -> Tensor:
        theta = self.log_theta.exp().expand(self.log_mean.shape).contiguous()
        # torch's gamma sampler takes a generator, the Gamma distribution object does not
        return torch.poisson(torch._standard_gamma(theta, generator=rng) / theta * self.log_mean.exp(), generator=rng)

    def drawn(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return negative_binomial(self.log_mean, self.log_theta, rng)

    def expected_log1p(self) -> Tensor:
        """E log1p(c X), c = 10^4 / library, by quadrature; the error is below 1e-4 (the tests compare with the sum).

        log(1 + y) = int_0^inf (1 - exp(-s y)) exp(-s) / s ds (Frullani). With s = exp(v) the expectation is
        int (1 - M(c exp(v))) exp(-exp(v)) dv, M(u) = E exp(-u X) = (1 + mu / theta (1 - exp(-u)))^-theta in closed form.
        The integrand is smooth and falls off fast at both ends, where the trapezoid rule converges exponentially.
        """
        theta, ratio = self.log_theta.exp(), (self.log_mean - self.log_theta).exp()  # (G,), (N, G)
        c = (TARGET_SUM / self.library)[:, None]  # (N, 1)
        v = torch.linspace(-21.0, 3.0, 33, dtype=torch.float64)
        weight = (v[1] - v[0]) * torch.exp(-v.exp())
        total = torch.zeros_like(self.log_mean)
        for s, w in zip(v.exp().tolist(), weight.tolist(), strict=True):
            total -= w * torch.expm1(-theta * torch.log1p(-ratio * torch.expm1(-c * s)))
        return total


@dataclass(frozen=True)
class ZeroInflatedCounts(NegativeBinomialCounts):
    """The same, each count lost with the probability whose logit is `dropout`."""

    dropout: Tensor  # (N, G)

    log_prob_at = Distribution.log_prob_at

    def log_prob(self, target: Tensor) -> Tensor:
        log_nb = self._log_pmf(target)
        at_zero = torch.logaddexp(F.logsigmoid(self.dropout), F.logsigmoid(-self.dropout) + log_nb)
        return torch.where(target == 0, at_zero, F.logsigmoid(-self.dropout) + log_nb).sum(-1)  # (N,)

    def mean(self) -> Tensor:
        return super().mean() * torch.sigmoid(-self.dropout)

    def sample(self, rng: torch.Generator) -> Tensor:
        return super().sample(rng) * torch.bernoulli(torch.sigmoid(-self.dropout), generator=rng)

    def drawn(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        place, count = super().drawn(rng)
        kept = torch.bernoulli(torch.sigmoid(-self.dropout.flatten().index_select(0, place)), generator=rng) > 0
        return place[kept], count[kept]

    def expected_log1p(self) -> Tensor:
        return super().expected_log1p() * torch.sigmoid(-self.dropout)  # a lost count adds log1p(0) = 0


@dataclass(kw_only=True)
class Likelihood(ABC):
    """How the decoder's `n_outputs` numbers of each gene make a distribution of `space`, and where training starts."""

    space: ClassVar[Space]
    n_outputs: ClassVar[int]
    per_gene: ClassVar[dict[str, float]] = {}  # learned numbers of each gene, the same for all cells, and their start

    @abstractmethod
    def start(self, moments: GeneMoments) -> dict[str, Tensor]:
        """From training cells: `average`, the decoder's numbers for the average cell (G, n_outputs), and of `per_gene`."""

    @abstractmethod
    def distribution(self, out: Tensor, library: Tensor, scale: Tensor, **per_gene: Tensor) -> Distribution:
        """Of numbers (N, G, n_outputs) and library sizes (N,); `scale` (G,) is what `scaled` values are divided by."""


class Head(nn.Module):
    """A likelihood with its learned numbers for G genes: `head(out, library)` is the distribution of the cells."""

    def __init__(self, likelihood: Likelihood, n_genes: int):
        super().__init__()
        self.likelihood, self.space = likelihood, likelihood.space
        self.average = nn.Parameter(torch.zeros(n_genes, likelihood.n_outputs))
        for name, value in likelihood.per_gene.items():
            self.register_parameter(name, nn.Parameter(torch.full((n_genes,), value)))
        self.register_buffer("scale", torch.ones(n_genes))  # (G,) largest log1p value in training

    def start_from(self, moments: GeneMoments) -> None:
        """Fix the scale of the input and start the decoder at the average training cell."""
        self.scale.copy_(torch.from_numpy(moments.scale))
        for name, value in self.likelihood.start(moments).items():
            getattr(self, name).data.copy_(value)

    def forward(self, out: Tensor, library: Tensor) -> Distribution:
        per_gene = {name: getattr(self, name) for name in self.likelihood.per_gene}
        return self.likelihood.distribution(out, library, self.scale, **per_gene)

    def to_log1p(self, values: Tensor, library: Tensor) -> Tensor:
        """Values (N, G) of the head's space, drawn or means, as log1p expression."""
        if self.space == "counts":
            return torch.log1p(values * (TARGET_SUM / library)[:, None])
        return values * self.scale


@dataclass(kw_only=True)
class Gaussian(Likelihood):
    """Normal on scaled values with one learned spread a gene: the paper's head. `draw="mean"`, as in the paper, gives cells
    that are smoother than real ones; `draw="sample"` adds the learned noise."""

    draw: Draw = "mean"
    space, n_outputs = "scaled", 1
    per_gene = {"log_sd": -1.5}

    def start(self, moments: GeneMoments) -> dict[str, Tensor]:
        return {"average": torch.from_numpy(moments.scaled_mean)[:, None]}

    def distribution(self, out: Tensor, library: Tensor, scale: Tensor, log_sd: Tensor) -> ScaledNormal:
        # sd >= 0.01: genes seen once would otherwise take the whole likelihood
        return ScaledNormal(out[..., 0], scale, self.draw, log_sd.clamp(min=-4.6))


@dataclass(kw_only=True)
class Bernoulli(Likelihood):
    """Cross-entropy on scaled values in [0, 1], read as probabilities; `draw="sample"` draws zeros and ones."""

    draw: Draw = "mean"
    space, n_outputs = "scaled", 1

    def start(self, moments: GeneMoments) -> dict[str, Tensor]:
        return {"average": torch.logit(torch.from_numpy(moments.scaled_mean), eps=1e-4)[:, None]}

    def distribution(self, out: Tensor, library: Tensor, scale: Tensor) -> ScaledBernoulli:
        return ScaledBernoulli(out[..., 0], scale, self.draw)


@dataclass(kw_only=True)
class NegativeBinomial(Likelihood):
    """Counts with mean `library x softmax(out)`; one learned dispersion a gene.

    The softmax has one more class than there are genes: the counts of genes that were not selected.
    """

    space, n_outputs = "counts", 1
    per_gene = {"log_theta": 1.0}

    def start(self, moments: GeneMoments) -> dict[str, Tensor]:
        mean, variance, share = map(torch.from_numpy, (moments.count_mean, moments.count_variance, moments.share))
        theta = (mean**2 / (variance - mean).clamp(min=1e-8)).clamp(0.2, 50.0)  # method of moments
        rest = (1 - share.sum()).clamp(min=1e-4)
        return {"average": (share.clamp(min=1e-8) / rest).log()[:, None], "log_theta": theta.log()}

    def distribution(self, out: Tensor, library: Tensor, scale: Tensor, log_theta: Tensor) -> NegativeBinomialCounts:
        log_mean = LibraryLogSoftmax.apply(out[..., 0], library)  # (N, G)
        return NegativeBinomialCounts(log_mean, log_theta.clamp(-6, 8), library)


@dataclass(kw_only=True)
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """The same with a probability of dropout for each cell and gene (second output, a logit)."""

    n_outputs = 2

    def start(self, moments: GeneMoments) -> dict[str, Tensor]:
        start = super().start(moments)
        dropout = torch.full_like(start["average"], -3.0)  # 5%
        return start | {"average": torch.cat([start["average"], dropout], dim=-1)}

    def distribution(self, out: Tensor, library: Tensor, scale: Tensor, log_theta: Tensor) -> ZeroInflatedCounts:
        return ZeroInflatedCounts(*vars(super().distribution(out, library, scale, log_theta)).values(), out[..., 1])
