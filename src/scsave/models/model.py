"""All of SAVE's networks and statistics as one module: what a checkpoint holds and what generation needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scsave.blocking.blocks import GeneBlocks
from scsave.data.conditions import Conditions, Values
from scsave.keys import TARGET_SUM
from scsave.models.autoencoder import Decoder, Encoder
from scsave.models.backbone import AttentionBackbone
from scsave.models.conditions import ConditionEncoder, level_shift, set_shift
from scsave.models.likelihoods import GeneMoments, Likelihood
from scsave.models.velocity import Velocity


@dataclass(frozen=True)
class Posterior:
    """q(z | x): mean and log variance, (N, L, d) each."""

    mu: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return self.mu + torch.exp(0.5 * self.logvar) * noise


class SAVEModel(nn.Module):
    """Encoder, decoder, velocity network, and the training statistics that tie them to counts.

    Spaces: `counts` (N, G) raw; `scaled` (N, G) = log1p(10^4 counts / library) / scale; `latent` (N, L, d);
    `flow` (N, L * d + 1) = standardised latent with standardised log library size as its last number.
    """

    def __init__(
        self,
        backbone: AttentionBackbone,
        blocks: GeneBlocks,
        likelihood: Likelihood,
        conditions: Conditions,
        decoder_conditions: list[str],
        vectors: dict[str, Tensor] | None = None,
    ):
        super().__init__()
        self.blocks, self.conditions, self.backbone = blocks, conditions, backbone
        n_blocks, size, d = blocks.n_blocks, blocks.block_size, backbone.latent_width
        shape = (n_blocks, size, backbone.width, backbone.depth, d, backbone.mixing, backbone.projection == "shared")
        self.encoder = Encoder(*shape)
        self.decoder = Decoder(*shape, n_outputs=likelihood.n_outputs)
        self.decoder_conditions = ConditionEncoder(conditions.subset(decoder_conditions), backbone.width, vectors)
        told = conditions.subset(decoder_conditions if backbone.additive_prior else [])
        self.shift = set_shift(told, backbone.width, vectors, len(blocks.genes))
        told = conditions.subset(decoder_conditions if backbone.level_shift else [])
        self.levels = level_shift(told, len(blocks.genes))
        self.likelihood = likelihood
        likelihood.setup(len(blocks.genes))
        width, depth = backbone.velocity_width, backbone.velocity_depth
        self.velocity = Velocity(
            n_blocks, d, width, depth, backbone.mixing, conditions, vectors, backbone.additive_prior
        )
        self.register_buffer("gather", torch.from_numpy(blocks.gather), persistent=False)
        self.register_buffer("position", torch.from_numpy(blocks.position), persistent=False)
        # the average cell, what the decoder starts from: (G, n_outputs)
        self.average = nn.Parameter(torch.zeros(len(blocks.genes), likelihood.n_outputs))
        self.register_buffer("scale", torch.ones(len(blocks.genes)))  # (G,) largest log1p value in training
        self.register_buffer("flow_mean", torch.zeros(n_blocks * d + 1))
        self.register_buffer("flow_std", torch.ones(n_blocks * d + 1))

    def start_from(self, moments: GeneMoments, scale: Tensor) -> None:
        """Fix the scale (G,) of the input and start the decoder at the average training cell."""
        self.scale.copy_(scale)
        self.average.data.copy_(self.likelihood.average(moments))

    @property
    def n_latent(self) -> int:
        return len(self.flow_mean) - 1

    def scaled(self, counts: Tensor, library: Tensor) -> Tensor:
        return torch.log1p(counts * (TARGET_SUM / library)[:, None]) / self.scale  # (N, G)

    def encode(self, scaled: Tensor) -> Posterior:
        x = nn.functional.pad(scaled, (0, 1))[:, self.gather]  # (N, L * K): pad slots hold zero
        return Posterior(*self.encoder(x.unflatten(1, (self.blocks.n_blocks, -1))))

    def decode(self, z: Tensor, values: Values) -> Tensor:
        s = self.decoder_conditions(values, len(z))  # (N, e)
        out = self.decoder(z, s)  # (N, L, K, n_outputs)
        out = out.flatten(1, 2)[:, self.position] + self.average  # (N, G, n_outputs): pads never leave the model
        for shift in (self.shift, self.levels):
            if shift is not None:  # the first number of every likelihood is the gene's level
                out = torch.cat([out[..., :1] + shift(values)[..., None], out[..., 1:]], dim=-1)
        return out

    def to_flow(self, z: Tensor, library: Tensor) -> Tensor:
        x = torch.cat([z.flatten(1), library.log()[:, None]], dim=-1)
        return (x - self.flow_mean) / self.flow_std  # (N, L * d + 1)

    def from_flow(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent (N, L, d) and library size (N,)."""
        x = x * self.flow_std + self.flow_mean
        return x[:, :-1].unflatten(1, (self.blocks.n_blocks, -1)), x[:, -1].exp()

    def to_log1p(self, drawn: Tensor, library: Tensor) -> Tensor:
        """What the likelihood drew (counts or scaled values) as log1p expression, (N, G)."""
        if self.likelihood.space == "counts":
            return torch.log1p(drawn * (TARGET_SUM / library)[:, None])
        return drawn * self.scale
