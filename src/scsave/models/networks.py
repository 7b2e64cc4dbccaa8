"""SAVE's networks, to be read from top to bottom: gene block attention in encoder, decoder and velocity network.

Shapes: N cells, L gene blocks (one token each), K gene slots a block, e width of a token, d width of the latent a block.

    encoder    expression (N, L, K)                          -> q(z | x), mean and log variance (N, L, d)
    decoder    latent (N, L, d), conditions                  -> the likelihood's numbers (N, L, K, n_outputs)
    velocity   noised latent (N, L * d + 1), time, conditions -> velocity (N, L * d + 1)

`method.md` sections 2 to 4 say what is from the paper and what is ours.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scsave.data.conditions import Categorical, Conditions, Values
from scsave.models.closed_forms import FewTokens
from scsave.models.conditions import ConditionEncoder, FourierEmbedding, Vectors, set_shift

FEW_TOKENS = 16  # up to here plain products are faster than the fused kernel, on a CPU by half


class Backbone(Protocol):
    """How large the networks are, and what lets tokens exchange information (the options are in `models/backbone.py`)."""

    width: int  # e of encoder and decoder
    depth: int
    latent_width: int  # d
    velocity_width: int
    velocity_depth: int
    velocity: Literal["attention", "mlp"]
    condition_width: int
    projection: Literal["per_block", "shared"]
    additive_prior: bool
    level_shift: bool
    head_width: int
    head_size: int
    head_components: int

    def mixing(self, n_tokens: int, width: int) -> nn.Module:
        """A module over tokens, (N, L, e) -> (N, L, e)."""


# --- Transformer blocks over the gene block tokens ---


class Attention(nn.Module):
    """Multi-head self-attention over gene blocks."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def _heads(self, h: Tensor) -> Tensor:
        return self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, N, heads, L, e / heads)

    def forward(self, h: Tensor) -> Tensor:
        if h.shape[1] <= FEW_TOKENS and h.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return self.out(FewTokens.apply(self.qkv(h), self.heads))  # (N, L, e)
        h = F.scaled_dot_product_attention(*self._heads(h).unbind(0))  # (N, heads, L, e / heads)
        return self.out(h.transpose(1, 2).flatten(2))  # (N, L, e)

    def weights(self, h: Tensor) -> Tensor:
        """Attention probabilities, for analysis only: (N, heads, L, L)."""
        q, k, _ = self._heads(h).unbind(0)
        return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)


def feed_forward(width: int) -> nn.Sequential:
    # SiLU, not GELU: the same quality here, and several times cheaper on a CPU
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """Pre-LayerNorm Transformer block of the encoder: `h' = h + Mixing(LN(h))`, `h = h' + FFN(LN(h'))`."""

    def __init__(self, backbone: Backbone, n_tokens: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixing = backbone.mixing(n_tokens, width)
        self.ffn = feed_forward(width)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.mixing(self.norm1(h))  # (N, L, e)
        return h + self.ffn(self.norm2(h))  # (N, L, e)


class ConditionedBlock(nn.Module):
    """The same block under a condition `s`, by adaptive layer normalisation (adaLN); in decoder and velocity network.

    The LayerNorms have no scale and shift of their own: one linear map of the condition gives them, and a gate on each
    residual branch, to every cell: `(gamma_1, beta_1, alpha_1, gamma_2, beta_2, alpha_2) = W SiLU(s)`, then
    `h' = h + alpha_1 Mixing((1 + gamma_1) LN(h) + beta_1)`, and the same for the FFN. All tokens of a cell share the six.
    """

    def __init__(self, backbone: Backbone, n_tokens: int, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mixing = backbone.mixing(n_tokens, width)
        self.ffn = feed_forward(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        # adaLN-Zero (Peebles & Xie 2023): W = 0 closes both gates, so that every block is the identity when training
        # begins, and conditions come in only as they prove useful.
        nn.init.zeros_(self.modulation[-1].weight)
        nn.init.zeros_(self.modulation[-1].bias)

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        gamma1, beta1, alpha1, gamma2, beta2, alpha2 = self.modulation(s)[:, None].chunk(6, dim=-1)  # (N, 1, e) each
        h = torch.addcmul(h, alpha1, self.mixing(torch.addcmul(beta1, self.norm1(h), 1 + gamma1)))  # (N, L, e)
        return torch.addcmul(h, alpha2, self.ffn(torch.addcmul(beta2, self.norm2(h), 1 + gamma2)))  # (N, L, e)


# --- The variational autoencoder over gene blocks ---


class BlockLinear(nn.Module):
    """`(N, L, a) -> (N, L, b)`: one matrix per block (slot k of two blocks is not the same gene), or one for all."""

    def __init__(self, n_blocks: int, n_in: int, n_out: int, shared: bool = False, scale: float = 1.0):
        super().__init__()
        rows, bound = 1 if shared else n_blocks, scale / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(rows, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(rows, n_out))

    def forward(self, h: Tensor) -> Tensor:
        if len(self.weight) == 1:
            return h @ self.weight[0] + self.bias[0]  # (N, L, b)
        h = torch.baddbmm(self.bias[:, None], h.transpose(0, 1), self.weight)  # (L, N, b)
        return h.transpose(0, 1).contiguous()  # (N, L, b)


@dataclass(frozen=True)
class Posterior:
    """q(z | x): mean and log variance, (N, L, d) each."""

    mu: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return self.mu + torch.exp(0.5 * self.logvar) * noise  # (N, L, d)

    def kl(self) -> Tensor:
        """KL(q(z | x) || N(0, 1)), summed over the latent: (N,)."""
        mu, logvar = self.mu.float(), self.logvar.float()
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).flatten(1).sum(-1)


class Encoder(nn.Module):
    """Scaled expression by blocks, pad slots zero, to the approximate posterior of the latent."""

    def __init__(self, backbone: Backbone, n_blocks: int, block_size: int):
        super().__init__()
        width = backbone.width
        self.project = BlockLinear(n_blocks, block_size, width, backbone.projection == "shared")
        self.block_embedding = nn.Parameter(torch.randn(n_blocks, width) * 0.02)
        self.blocks = nn.ModuleList([Block(backbone, n_blocks, width) for _ in range(backbone.depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2 * backbone.latent_width)

    def forward(self, x: Tensor) -> Posterior:
        h = self.project(x) + self.block_embedding  # (N, L, K) -> (N, L, e)
        for block in self.blocks:
            h = block(h)  # (N, L, e)
        mu, logvar = self.head(self.norm(h)).chunk(2, dim=-1)  # (N, L, d) each
        return Posterior(mu, logvar.clamp(-10, 10))


class Decoder(nn.Module):
    """Latent and condition vector to the likelihood's `n_outputs` numbers of each gene slot."""

    def __init__(self, backbone: Backbone, n_blocks: int, block_size: int, n_outputs: int):
        super().__init__()
        width, self.n_outputs = backbone.width, n_outputs
        self.project = nn.Linear(backbone.latent_width, width)
        self.block_embedding = nn.Parameter(torch.randn(n_blocks, width) * 0.02)
        self.blocks = nn.ModuleList([ConditionedBlock(backbone, n_blocks, width) for _ in range(backbone.depth)])
        self.norm = nn.LayerNorm(width)
        # small at the start: a cell begins as the average cell, which `SAVEModel.decode` adds
        self.head = BlockLinear(n_blocks, width, block_size * n_outputs, backbone.projection == "shared", scale=0.1)

    def forward(self, z: Tensor, s: Tensor) -> Tensor:
        h = self.project(z) + self.block_embedding  # (N, L, d) -> (N, L, e)
        for block in self.blocks:
            h = block(h, s)  # (N, L, e)
        return self.head(self.norm(h)).unflatten(-1, (-1, self.n_outputs))  # (N, L, K, n_outputs)


# --- The velocity network of the flow ---


class TokenField(nn.Module):
    """The field as a Transformer over the latent's block tokens and one token more, the log library size."""

    def __init__(self, backbone: Backbone, n_blocks: int):
        super().__init__()
        width, latent = backbone.velocity_width, backbone.latent_width
        self.shape = (n_blocks, latent)
        self.project, self.project_library = nn.Linear(latent, width), nn.Linear(1, width)
        self.token_embedding = nn.Parameter(torch.randn(n_blocks + 1, width) * 0.02)
        blocks = [ConditionedBlock(backbone, n_blocks + 1, width) for _ in range(backbone.velocity_depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head, self.head_library = nn.Linear(width, latent), nn.Linear(width, 1)
        for head in (self.head, self.head_library):  # the field starts at zero
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        z, library = x[:, :-1].unflatten(1, self.shape), x[:, -1:]  # (N, L, d), (N, 1)
        h = torch.cat([self.project(z), self.project_library(library)[:, None]], dim=1)  # (N, L + 1, e)
        h = h + self.token_embedding  # (N, L + 1, e)
        for block in self.blocks:
            h = block(h, s)  # (N, L + 1, e)
        h = self.norm(h)  # (N, L + 1, e)
        return torch.cat([self.head(h[:, :-1]).flatten(1), self.head_library(h[:, -1])], dim=-1)  # (N, L * d + 1)


class FlatField(nn.Module):
    """The field as a residual MLP over the whole latent, adaLN in each layer: more width for the same time on few tokens."""

    def __init__(self, backbone: Backbone, n_blocks: int):
        super().__init__()
        size, width, depth = n_blocks * backbone.latent_width + 1, backbone.velocity_width, backbone.velocity_depth
        self.project = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        layers = (nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) for _ in self.norms)
        self.layers = nn.ModuleList(layers)
        modulations = (nn.Sequential(nn.SiLU(), nn.Linear(backbone.condition_width, 3 * width)) for _ in self.norms)
        self.modulations = nn.ModuleList(modulations)
        self.norm, self.head = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, size)
        for last in (self.head, *(modulation[-1] for modulation in self.modulations)):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.project(x)  # (N, e)
        for norm, layer, modulation in zip(self.norms, self.layers, self.modulations, strict=True):
            gamma, beta, alpha = modulation(s).chunk(3, dim=-1)  # (N, e) each
            h = torch.addcmul(h, alpha, layer(torch.addcmul(beta, norm(h), 1 + gamma)))  # (N, e)
        return self.head(self.norm(h))  # (N, L * d + 1)


class Velocity(nn.Module):
    """`v(x, t, s)`: a field over the standardised latent and log library size, under time and conditions `s`.

    With a set of genes among the conditions, `v(x, t, s) = u(x - t D(s), t, s) + D(s)`, D the `SetShift` of the set: the
    field of the network u, moved by D. On the straight paths of `cfm` and its kin that is exact for every solver, so
    that a u that does not look at the set gives the additive prediction (ours).

    One network has two sources (ours): noise, and control cells, from which `cells` (N,) says that a path starts. On
    those, a level of the perturbation column moves the field by `shifts`, the mean shift of its training strata, and
    `leave` says how far the network u leaves the shift: v = D + leave * u. Where `further` columns (a dose) say with the
    perturbation what was done, `shifts` has a row for each of `n_targets` targets, and the caller gives each cell its own
    shift (`moved`).
    """

    def __init__(
        self,
        backbone: Backbone,
        n_blocks: int,
        conditions: Conditions,
        vectors: Vectors = None,
        perturbation: str | None = None,
        further: tuple[str, ...] = (),
        n_targets: int = 0,
    ):
        super().__init__()
        size, tokens = n_blocks * backbone.latent_width + 1, backbone.velocity == "attention"
        width = backbone.velocity_width if tokens else backbone.condition_width  # of s
        self.shift = set_shift(conditions, width, vectors, size) if backbone.additive_prior else None
        self.conditions = ConditionEncoder(conditions, width, vectors)
        self.time = FourierEmbedding(width)
        self.source = nn.Parameter(torch.zeros(width))  # added where the path starts at cells
        self.perturbation = perturbation
        self.told = (perturbation, *further)  # what a path from control cells is told
        levels = [c.levels for c in conditions.columns if isinstance(c, Categorical) and c.name == perturbation]
        rows = n_targets if further else sum(map(len, levels))
        self.register_buffer("shifts", torch.zeros(rows + 1, size))  # the last row is [MASK]
        self.field = TokenField(backbone, n_blocks) if tokens else FlatField(backbone, n_blocks)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        values: Values,
        cells: Tensor | None = None,
        leave: float = 1.0,
        moved: Tensor | None = None,
    ) -> Tensor:
        """`cells` (N,): 1 where the path starts at a control cell; `moved` (N, L * d + 1) in place of the level's shift."""
        shift = x.new_zeros(()) if self.shift is None else self.shift(values)  # (N, L * d + 1)
        x = x if self.shift is None else x - t[:, None] * shift  # (N, L * d + 1)
        s = self.conditions(values, len(x)) + self.time(t)  # (N, e)
        # from noise it adds 0, so that no parameter is left without a gradient, which DDP would wait for
        s = s + (x.new_zeros(len(x)) if cells is None else cells)[:, None] * self.source  # (N, e)
        if cells is not None and len(self.shifts) > 1:
            own = self.shifts[values[self.perturbation]] if moved is None else moved
            shift = shift + cells[:, None] * own  # (N, L * d + 1)
        return shift + leave * self.field(x, s)  # (N, L * d + 1)
