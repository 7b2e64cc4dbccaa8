"""Gene block attention: pre-LayerNorm Transformer blocks over the L block tokens (method.md section 2).

Two kinds, alike but for the condition: `Block` (encoder) and `ConditionedBlock` (decoder, velocity; adaptive
LayerNorm). `mixing` is what lets tokens talk: attention, or for the ablation an MLP of equal size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mixing = Callable[[int, int], nn.Module]  # (n_tokens, width) -> module over (N, L, e)


class Attention(nn.Module):
    """Multi-head self-attention over gene blocks, by torch's fused kernel."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def _heads(self, h: Tensor) -> Tensor:
        return self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, N, heads, L, e / heads)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self._heads(h).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v)  # (N, heads, L, e / heads)
        return self.out(h.transpose(1, 2).flatten(2))  # (N, L, e)

    def weights(self, h: Tensor) -> Tensor:
        """Attention probabilities, for analysis only: (N, heads, L, L)."""
        q, k, _ = self._heads(h).unbind(0)
        return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)


class MLPMixing(nn.Module):
    """The ablation: tokens mixed by a dense bottleneck with as many parameters as attention (4 e^2 + 4 e)."""

    def __init__(self, n_tokens: int, width: int):
        super().__init__()
        flat = n_tokens * width
        hidden = max(1, round((4 * width**2 + 4 * width - flat) / (2 * flat + 1)))
        self.net = nn.Sequential(nn.Flatten(1), nn.Linear(flat, hidden), nn.SiLU(), nn.Linear(hidden, flat))

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h).view_as(h)  # (N, L, e)


def feed_forward(width: int) -> nn.Sequential:
    # SiLU, not GELU: the same quality here, and several times cheaper on a CPU
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """`h' = h + Mixing(LN(h))`, `h = h' + FFN(LN(h'))`."""

    def __init__(self, n_tokens: int, width: int, mixing: Mixing):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixing = mixing(n_tokens, width)
        self.ffn = feed_forward(width)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.mixing(self.norm1(h))  # (N, L, e)
        return h + self.ffn(self.norm2(h))  # (N, L, e)


class ConditionedBlock(nn.Module):
    """The same under a condition `s`: `(gamma_1, beta_1, alpha_1, gamma_2, beta_2, alpha_2) = s W_S`."""

    def __init__(self, n_tokens: int, width: int, mixing: Mixing):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mixing = mixing(n_tokens, width)
        self.ffn = feed_forward(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        # adaLN-zero (DiT): alpha = 0 makes every block the identity at the start, which trains more steadily.
        nn.init.zeros_(self.modulation[-1].weight)
        nn.init.zeros_(self.modulation[-1].bias)

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        gamma1, beta1, alpha1, gamma2, beta2, alpha2 = self.modulation(s)[:, None].chunk(6, dim=-1)  # (N, 1, e) each
        h = h + alpha1 * self.mixing(self.norm1(h) * (1 + gamma1) + beta1)  # (N, L, e)
        return h + alpha2 * self.ffn(self.norm2(h) * (1 + gamma2) + beta2)  # (N, L, e)
