"""Options of the config group `likelihood`, and the head p(x | z) that each puts on the decoder (method.md section 2)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scsave.keys import TARGET_SUM
from scsave.models.distributions import (
    Distribution,
    Draw,
    NegativeBinomialCounts,
    ScaledBernoulli,
    ScaledNormal,
    Space,
    ZeroInflatedCounts,
)
from scsave.stats.columns import GeneMoments


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
    """Normal on scaled values with one learned spread a gene: the paper's head.

    `draw="mean"` returns the mean, as the paper does, and its cells are smoother than real ones;
    `draw="sample"` adds the learned noise.
    """

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
        """Logits of the average cell; dispersions by the method of moments."""
        mean, variance, share = map(torch.from_numpy, (moments.count_mean, moments.count_variance, moments.share))
        theta = (mean**2 / (variance - mean).clamp(min=1e-8)).clamp(0.2, 50.0)
        rest = (1 - share.sum()).clamp(min=1e-4)
        return {"average": (share.clamp(min=1e-8) / rest).log()[:, None], "log_theta": theta.log()}

    def distribution(self, out: Tensor, library: Tensor, scale: Tensor, log_theta: Tensor) -> NegativeBinomialCounts:
        return NegativeBinomialCounts(log_mean(out, library), log_theta.clamp(-6, 8), library)


@dataclass(kw_only=True)
class ZeroInflatedNegativeBinomial(NegativeBinomial):
    """The same with a probability of dropout for each cell and gene (second output, a logit)."""

    n_outputs = 2

    def start(self, moments: GeneMoments) -> dict[str, Tensor]:
        """Dropout starts at 5%."""
        start = super().start(moments)
        return start | {"average": torch.cat([start["average"], torch.full_like(start["average"], -3.0)], dim=-1)}

    def distribution(self, out: Tensor, library: Tensor, scale: Tensor, log_theta: Tensor) -> ZeroInflatedCounts:
        return ZeroInflatedCounts(log_mean(out, library), log_theta.clamp(-6, 8), library, out[..., 1])


def log_mean(out: Tensor, library: Tensor) -> Tensor:
    """log of `library x softmax` of the first of the numbers (N, G, n_outputs), the class of other genes left out."""
    log_rate = torch.log_softmax(F.pad(out[..., 0], (0, 1)), dim=-1)[:, :-1]
    return log_rate + library.log()[:, None]  # (N, G)
