"""The integration head of batch correction: a small VAE on the finished latent.

A latent that keeps everything keeps the batch. The head reads the embedding of batch correction off it, without a price
for the other tasks (method.md section 9).
"""

import torch
from torch import Tensor, nn

from scsave.data.conditions import Categorical, Conditions, Values
from scsave.models.networks import Posterior


class OneHot(nn.Module):
    """Technical columns as numbers: a one-hot vector a category, the value of a number; [MASK] is zero."""

    def __init__(self, conditions: Conditions):
        super().__init__()
        self.conditions = conditions
        self.size = sum(len(c.levels) if isinstance(c, Categorical) else 1 for c in conditions.columns)

    def forward(self, values: Values) -> Tensor:
        parts = []
        for column in self.conditions.columns:
            value = values[column.name]
            if isinstance(column, Categorical):
                parts.append(nn.functional.one_hot(value, len(column.levels) + 1)[:, :-1].float())  # (N, levels)
            else:
                parts.append(value.nan_to_num(0.0)[:, None].float())  # (N, 1)
        return torch.cat(parts, dim=1)  # (N, size)


def mlp(n_in: int, width: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, width), nn.LayerNorm(width), nn.SiLU(),
        nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU(),
        nn.Linear(width, n_out),
    )  # fmt: skip


class IntegrationHead(nn.Module):
    """A VAE on standardised latents (N, D) whose decoder is given the technical columns, so that its code need not hold them.

    Normal likelihood of unit variance on the standardised latent; the encoder sees the latent alone. Also keeps the axes
    of the embedding's second part, principal components of corrected expression.
    """

    def __init__(self, n_latent: int, n_genes: int, conditions: Conditions, width: int, size: int, components: int):
        super().__init__()
        self.given = OneHot(conditions)
        self.encoder = mlp(n_latent, width, 2 * size)
        self.decoder = mlp(size + self.given.size, width, n_latent)
        self.linear = nn.Linear(self.given.size, n_latent, bias=False)
        self.register_buffer("mean", torch.zeros(n_latent))
        self.register_buffer("std", torch.ones(n_latent))
        kept = min(components, n_genes - 1)
        self.register_buffer("axes", torch.zeros(n_genes, kept))
        self.register_buffer("centre", torch.zeros(kept))  # of the components
        self.register_buffer("code_centre", torch.zeros(size))
        self.register_buffer("code_scale", torch.ones(()))

    def standardised(self, latent: Tensor) -> Tensor:
        return (latent - self.mean) / self.std  # (N, D)

    def encode(self, latent: Tensor) -> Posterior:
        """The code of latents (N, D): mean and log variance (N, k)."""
        mu, logvar = self.encoder(self.standardised(latent)).chunk(2, dim=-1)
        return Posterior(mu, logvar.clamp(-8, 4))

    def embedding(self, code: Tensor, expression: Tensor) -> Tensor:
        """Code (N, k) and components of corrected log1p expression (N, G), the variance of each part 1: (N, k + c)."""
        return torch.cat([(code - self.code_centre) / self.code_scale, expression @ self.axes - self.centre], dim=1)

    def decode(self, code: Tensor, values: Values) -> Tensor:
        """The standardised latent (N, D) of a code (N, k) under technical columns."""
        given = self.given(values)  # (N, size)
        return self.decoder(torch.cat([code, given], dim=1)) + self.linear(given)  # (N, D)

    def corrected(self, latent: Tensor, values: Values) -> Tensor:
        """Latents (N, D) as they would be under other technical columns; what the code leaves out is left out."""
        return self.decode(self.encode(latent).mu, values) * self.std + self.mean  # (N, D)
