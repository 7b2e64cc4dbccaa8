"""Attention over few tokens, a pick, softmax to counts and the negative binomial, each with its gradient in closed form.

Autograd's graphs of the same formulas take more passes over (N, G) than a step has products; the tests compare both.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOG2_E = 1.4426950408889634  # exp(x) = 2^(x log2 e), which on a CPU takes a third of torch's exp


class FewTokens(torch.autograd.Function):
    """Attention of queries, keys and values (N, L, 3 * e) over few tokens, (N, L, e), its gradient in closed form.

    On a CPU torch's softmax over six numbers and the copies of every product's operands take longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:
        n, tokens, width = len(qkv), qkv.shape[1], qkv.shape[2] // 3
        parts = qkv.view(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2)  # (3, N * heads, L, e / heads)
        scores = torch.bmm(parts[0], parts[1].transpose(1, 2))  # (N * heads, L, L)
        scores = scores.sub_(scores.amax(-1, keepdim=True)).mul_(parts.shape[-1] ** -0.5).exp_()
        weights = scores.div_(scores.sum(-1, keepdim=True))
        ctx.save_for_backward(parts, weights)
        return torch.bmm(weights, parts[2]).view(n, heads, tokens, -1).transpose(1, 2).reshape(n, tokens, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (parts, weights), (n, tokens, width) = ctx.saved_tensors, grad.shape
        heads, into = len(weights) // n, torch.empty_like(parts)
        grad = grad.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)  # (N * heads, L, e / heads)
        torch.bmm(weights.transpose(1, 2), grad, out=into[2])
        scores = torch.bmm(grad, parts[2].transpose(1, 2)).mul_(weights)  # (N * heads, L, L)
        scores = scores.sub_(weights * scores.sum(-1, keepdim=True)).mul_(parts.shape[-1] ** -0.5)
        torch.bmm(scores, parts[1], out=into[0])
        torch.bmm(scores.transpose(1, 2), parts[0], out=into[1])
        return into.view(3, n, heads, tokens, -1).permute(1, 3, 0, 2, 4).reshape(n, tokens, 3 * width), None


class Pick(torch.autograd.Function):
    """Columns `places` (G,) of (N, S), each named once: (N, G). `back` (S,) is where each column went, `held` 0 if nowhere.

    The gradient is a pick as well; autograd adds it up in a new (N, S), which on a CPU takes three times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, back: Tensor, held: Tensor) -> Tensor:
        ctx.save_for_backward(back, held)
        return x.index_select(1, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        back, held = ctx.saved_tensors
        return grad.index_select(1, back).mul_(held.to(grad.dtype)), None, None, None


class LibraryLogSoftmax(torch.autograd.Function):
    """log of `library x softmax` of (N, G), with a further class of output 0 left out; its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, library: Tensor) -> Tensor:
        top = out.amax(-1, keepdim=True).clamp_(min=0)  # (N, 1)
        share = out.sub(top).mul_(LOG2_E).exp2_()  # (N, G)
        total = share.sum(-1, keepdim=True) + (-top).exp()  # (N, 1)
        ctx.save_for_backward(share.div_(total))
        return out + (library.log()[:, None] - top - total.log())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.addcmul(grad, *ctx.saved_tensors, grad.sum(-1, keepdim=True), value=-1), None


class NegativeBinomialLogProb(torch.autograd.Function):
    """log p of counts (N, G) summed over the genes, (N,), with both gradients in closed form: one pass, no graph.

    With s = mu + theta: d log p / d log mu = theta (x - mu) / s, and d log p / d theta =
    psi(x + theta) - psi(theta) - log(s / theta) + (mu - x) / s. The gamma terms vanish at x = 0, which is most of a cell.
    `seen` (2, M) are rows and genes outside of which x is zero; each is named once.
    """

    @staticmethod
    def forward(ctx: Any, log_mean: Tensor, log_theta: Tensor, x: Tensor, seen: Tensor) -> Tensor:
        theta, mean = log_theta.exp(), (log_mean * LOG2_E).exp2_()  # (G,), (N, G)
        total = mean + theta  # (N, G): s
        log_ratio = (mean / theta).log1p_()  # (N, G): log(s / theta)
        (rows, genes), place = seen, seen[0] * len(theta) + seen[1]  # (M,) each
        # index_select: on a CPU advanced indexing takes three times as long
        of_gene, of_place = (lambda v: v.index_select(0, genes)), (lambda v: v.flatten().index_select(0, place))
        count, own = of_place(x), of_gene(theta)  # (M,) each
        gamma = torch.lgamma(count + own).sub_(of_gene(torch.lgamma(theta))).sub_(torch.lgamma(count + 1))
        gamma += count * (of_place(log_mean) - of_gene(log_theta) - of_place(log_ratio))
        log_prob = (log_ratio @ -theta).index_add_(0, rows, gamma)  # (N,)
        over = mean.sub_(x).div_(total)  # (N, G): (mu - x) / s
        by_theta = None
        if ctx.needs_input_grad[1]:
            gamma = torch.digamma(count + own).sub_(of_gene(torch.digamma(theta)))
            by_theta = torch.sub(over, log_ratio, out=total)  # (N, G)
            by_theta.view(-1).index_add_(0, place, gamma)
        ctx.save_for_backward(over, theta, by_theta)
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        over, theta, by_theta = ctx.saved_tensors
        by_theta = None if by_theta is None else (weight @ by_theta) * theta  # (G,)
        return (over * -theta).mul_(weight[:, None]), by_theta, None, None
