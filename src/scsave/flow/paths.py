"""Objectives of the flow: a path from noise x_0 to latent x_1 and the velocity along it (method.md section 3).

torchcfm gives mean, spread and velocity of each path; here they are drawn with an explicit generator, and optimal
transport pairs noise with latents only inside groups of equal conditions, else labels and cells come apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scsave.flow.solver import Solver, VectorField

Sigma = Annotated[float, Field(ge=0)]


class PathSample(NamedTuple):
    """A point of the path, its time, and what the network should say there."""

    t: Tensor  # (N,)
    x_t: Tensor  # (N, D)
    target: Tensor  # (N, D)


@dataclass(kw_only=True)
class CFM:
    """Straight paths from independent noise: `x_t = (1 - t) x_0 + t x_1`, `u_t = x_1 - x_0`. The paper's objective."""

    sigma: Sigma = 0.0
    invertible = True  # a velocity field: can be run backwards, for `translate`

    def _matcher(self):
        from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

        return ConditionalFlowMatcher(sigma=self.sigma)

    def _pair(self, matcher, x_0: Tensor, x_1: Tensor, groups: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which noise goes with which latent; `x_1` keeps its place, so that its conditions stay with it."""
        return x_0, x_1

    def path(self, x_1: Tensor, groups: Tensor, t: Tensor, x_0: Tensor, rng: torch.Generator) -> PathSample:
        """The training point at time `t` (N,) between noise `x_0` and latents `x_1` (N, D) with condition ids `groups`."""
        matcher = self._matcher()
        x_0, x_1 = self._pair(matcher, x_0, x_1, groups, rng)
        epsilon = torch.zeros_like(x_1)
        if self.sigma > 0:
            epsilon = torch.randn(x_1.shape, generator=rng, device=x_1.device)
        x_t = matcher.sample_xt(x_0, x_1, t, epsilon)
        return PathSample(t, x_t, matcher.compute_conditional_flow(x_0, x_1, t, x_t))

    def sample(self, field: VectorField, x_0: Tensor, solver: Solver) -> tuple[Tensor, int]:
        """Noise (N, D) to latents, and the number of evaluations of the field."""
        return solver.integrate(field, x_0, 0.0, 1.0)

    def invert(self, field: VectorField, x_1: Tensor, solver: Solver) -> tuple[Tensor, int]:
        """Latents back to the noise that they come from, under the field's condition."""
        return solver.integrate(field, x_1, 1.0, 0.0)


@dataclass(kw_only=True)
class OTCFM(CFM):
    """Straight paths between minibatch optimal-transport pairs of equal condition (Tong et al. 2024, OT-CFM)."""

    def _plan(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        import ot

        uniform = torch.full((len(x_0),), 1 / len(x_0), dtype=torch.float64)
        return ot.emd(uniform, uniform, torch.cdist(x_0, x_1).double().cpu() ** 2)

    def _pair(self, matcher, x_0: Tensor, x_1: Tensor, groups: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        paired = x_0.clone()
        for group in groups.unique():
            rows = (groups == group).nonzero()[:, 0]
            if len(rows) > 1:
                plan = self._plan(x_0[rows], x_1[rows]).to(x_0.device, torch.float32)
                # one noise for each latent (column of the plan), drawn in proportion to the plan
                drawn = torch.multinomial(plan.T.clamp_min(1e-30), 1, generator=rng)[:, 0]
                paired[rows] = x_0[rows][drawn]
        return paired, x_1


@dataclass(kw_only=True)
class SBCFM(OTCFM):
    """Schroedinger-bridge paths: entropic pairs and Brownian-bridge spread (Tong et al. 2024, SB-CFM)."""

    sigma: Annotated[float, Field(gt=0)] = 0.5

    def _matcher(self):
        from torchcfm.conditional_flow_matching import SchrodingerBridgeConditionalFlowMatcher

        return SchrodingerBridgeConditionalFlowMatcher(sigma=self.sigma)

    def _plan(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        import ot

        uniform = np.full(len(x_0), 1 / len(x_0))
        cost = (torch.cdist(x_0, x_1).double().cpu() ** 2).numpy()
        options = {"reg": 2 * self.sigma**2, "warn": False}
        # 200 sweeps meet the marginals to 1%, and pairs are only drawn from the plan
        plan = ot.sinkhorn(uniform, uniform, cost, method="sinkhorn_stabilized", numItermax=200, **options)
        if not (np.isfinite(plan).all() and (plan >= 0).all()):  # distances too large for exp: ten times slower
            plan = ot.sinkhorn(uniform, uniform, cost, method="sinkhorn_log", **options)
        return torch.from_numpy(plan)

    def path(self, x_1: Tensor, groups: Tensor, t: Tensor, x_0: Tensor, rng: torch.Generator) -> PathSample:
        # the bridge's velocity has sqrt(t (1 - t)) below the line
        return super().path(x_1, groups, t.clamp(1e-3, 1 - 1e-3), x_0, rng)


@dataclass(kw_only=True)
class VPCFM(CFM):
    """Variance-preserving paths `cos(pi t / 2) x_0 + sin(pi t / 2) x_1` (Albergo & Vanden-Eijnden 2023)."""

    def _matcher(self):
        from torchcfm.conditional_flow_matching import VariancePreservingConditionalFlowMatcher

        return VariancePreservingConditionalFlowMatcher(sigma=self.sigma)
