"""All of SAVE's networks and statistics as one module: what a checkpoint holds and what generation needs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from scsave.blocking.blocks import GeneBlocks
from scsave.data.conditions import Conditions, Values
from scsave.keys import TARGET_SUM
from scsave.models.closed_forms import Pick
from scsave.models.conditions import ConditionEncoder, Vectors, level_shift, set_shift
from scsave.models.integration import IntegrationHead
from scsave.models.likelihoods import Head, Likelihood
from scsave.models.networks import Backbone, Decoder, Encoder, Posterior, Velocity


class SAVEModel(nn.Module):
    """Encoder, decoder, velocity network, and the training statistics that tie them to counts.

    Spaces: `counts` (N, G) raw; `scaled` (N, G) = log1p(10^4 counts / library) / scale; `latent` (N, L, d);
    `flow` (N, L * d + 1) = standardised latent with standardised log library size as its last number.
    """

    def __init__(
        self,
        backbone: Backbone,
        blocks: GeneBlocks,
        likelihood: Likelihood,
        conditions: Conditions,
        decoder_conditions: list[str],
        vectors: Vectors = None,
        perturbation: str | None = None,
        further: tuple[str, ...] = (),
        n_targets: int = 0,
    ):
        super().__init__()
        self.blocks, self.conditions, self.backbone = blocks, conditions, backbone
        n_genes, n_blocks, size = len(blocks.genes), blocks.n_blocks, blocks.block_size
        given, none = conditions.subset(decoder_conditions), Conditions()
        self.encoder = Encoder(backbone, n_blocks, size)
        self.decoder = Decoder(backbone, n_blocks, size, likelihood.n_outputs)
        self.decoder_conditions = ConditionEncoder(given, backbone.width, vectors)
        self.shift = set_shift(given if backbone.additive_prior else none, backbone.width, vectors, n_genes)
        self.levels = level_shift(given if backbone.level_shift else none, n_genes)
        self.likelihood = Head(likelihood, n_genes)
        self.velocity = Velocity(backbone, n_blocks, conditions, vectors, perturbation, further, n_targets)
        self.register_buffer("gather", torch.from_numpy(blocks.gather), persistent=False)  # (L * K,) gene of each slot
        self.register_buffer("position", torch.from_numpy(blocks.position), persistent=False)  # (G,) slot of each gene
        n_latent = n_blocks * backbone.latent_width
        head = (n_latent, n_genes, given, backbone.head_width, backbone.head_size, backbone.head_components)
        self.head = IntegrationHead(*head) if given.columns else None  # of correction: there has to be a batch
        self.register_buffer("flow_mean", torch.zeros(n_blocks * backbone.latent_width + 1))
        self.register_buffer("flow_std", torch.ones(n_blocks * backbone.latent_width + 1))

    @property
    def n_latent(self) -> int:
        return len(self.flow_mean) - 1

    def autoencoder(self) -> list[nn.Module]:
        """All that encoding and decoding use."""
        shifts = [shift for shift in (self.shift, self.levels) if shift is not None]
        return [self.encoder, self.decoder, self.decoder_conditions, self.likelihood, *shifts]

    def per_gene(self) -> list[nn.Parameter]:
        """The weights that are one number a gene: steps that suit a network hardly move a dispersion."""
        levels = [] if self.levels is None else self.levels.parameters()
        average, *numbers = self.likelihood.parameters()
        return [average, *levels, *numbers]

    def scaled(self, counts: Tensor, library: Tensor) -> Tensor:
        return torch.log1p(counts * (TARGET_SUM / library)[:, None]) / self.likelihood.scale  # (N, G)

    def pad(self, x: Tensor) -> Tensor:
        """Genes (N, G) to blocks (N, L, K); pad slots hold zero."""
        return nn.functional.pad(x, (0, 1)).index_select(1, self.gather).unflatten(1, (self.blocks.n_blocks, -1))

    def scaled_blocks(self, seen: Tensor, counts: Tensor, library: Tensor) -> Tensor:
        """`pad(scaled(...))` of cells (N, L, K) whose `counts` (M,) stand at rows and genes `seen` (2, M), zero elsewhere."""
        (rows, genes), slots = seen, len(self.gather)
        per_10k = counts * (TARGET_SUM / library).index_select(0, rows)
        values = torch.log1p(per_10k) / self.likelihood.scale.index_select(0, genes)  # (M,)
        place = rows * slots + self.position.index_select(0, genes)
        blocks = values.new_zeros(len(library) * slots).scatter_(0, place, values)
        return blocks.view(len(library), self.blocks.n_blocks, -1)  # (N, L, K)

    def unpad(self, out: Tensor) -> Tensor:
        """Blocks (N, L, K, n) to genes (N, G, n); what the pad slots hold never leaves the model."""
        flat, last = out.flatten(1, 2), len(self.position) - 1  # (N, L * K, n)
        if flat.shape[-1] > 1:
            return flat.index_select(1, self.position)
        back, held = self.gather.clamp(max=last), self.gather <= last  # (L * K,) each
        return Pick.apply(flat[..., 0], self.position, back, held)[..., None]

    def encode(self, scaled: Tensor) -> Posterior:
        return self.encoder(self.pad(scaled))  # (N, L, d) each

    def decode(self, z: Tensor, values: Values) -> Tensor:
        """The likelihood's numbers of latents under the decoder's conditions; `likelihood` makes cells of them."""
        s = self.decoder_conditions(values, len(z))  # (N, e)
        out = self.unpad(self.decoder(z, s)) + self.likelihood.average  # (N, L, K, n_outputs) -> (N, G, n_outputs)
        for shift in (self.shift, self.levels):
            if shift is not None:  # the first number of every likelihood is the gene's level
                by = shift(values)[..., None]  # (N, G, 1)
                out = out + (by if out.shape[-1] == 1 else nn.functional.pad(by, (0, out.shape[-1] - 1)))
        return out

    def to_flow(self, z: Tensor, library: Tensor) -> Tensor:
        x = torch.cat([z.flatten(1), library.log()[:, None]], dim=-1)
        return (x - self.flow_mean) / self.flow_std  # (N, L * d + 1)

    def follow(self, q: Posterior, library: Tensor, rate: float, over: Callable[[Tensor], Tensor]) -> None:
        """Move mean and spread of the flow's space towards those of a batch; `over` is the mean over processes."""
        x = torch.cat([q.mu.flatten(1), library.log()[:, None]], dim=-1)  # (N, D)
        square = torch.cat([q.logvar.exp().flatten(1), torch.zeros_like(library)[:, None]], dim=-1) + x**2
        mean, second = over(x.mean(0)), over(square.mean(0))  # (D,) each
        self.flow_mean.lerp_(mean, rate)
        self.flow_std.lerp_((second - mean**2).clamp(min=1e-8).sqrt(), rate)

    def from_flow(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent (N, L, d) and library size (N,)."""
        x = x * self.flow_std + self.flow_mean
        return x[:, :-1].unflatten(1, (self.blocks.n_blocks, -1)), x[:, -1].exp()

    def to_log1p(self, values: Tensor, library: Tensor) -> Tensor:
        """What the likelihood drew, or its mean, as log1p expression, (N, G)."""
        return self.likelihood.to_log1p(values, library)


def dense(like: Tensor, seen: Tensor, values: Tensor) -> Tensor:
    """(N, G) of `values` (M,) at rows and genes `seen` (2, M), zero elsewhere."""
    return torch.zeros_like(like).index_put_((*seen,), values.to(like))
