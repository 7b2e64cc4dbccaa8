"""Flow matching objectives: a path from noise x_0 to latent x_1 and the velocity along it (method.md section 3).

torchcfm gives mean, spread and velocity of each path; here they are drawn with an explicit generator, and optimal
transport pairs noise with latents only inside groups of equal conditions, else labels and cells come apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from scsave.flow.objective import Objective, PathSample
from scsave.flow.solver import Solver, VectorField

if TYPE_CHECKING:
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher


@dataclass(kw_only=True)
class CFM(Objective):
    """Straight paths from independent noise: `x_t = (1 - t) x_0 + t x_1`, `u_t = x_1 - x_0`. The paper's objective."""

    sigma: NonNegativeFloat = 0.0
    torchcfm: ClassVar[str] = "ConditionalFlowMatcher"  # the class there that has mean, spread and velocity of the path

    @cached_property
    def matcher(self) -> ConditionalFlowMatcher:
        from torchcfm import conditional_flow_matching  # heavy: only training needs it

        return getattr(conditional_flow_matching, self.torchcfm)(sigma=self.sigma)

    def _paired(self, x_0: Tensor, x_1: Tensor, groups: Tensor, rng: torch.Generator) -> Tensor:
        """The noise that goes with each latent, (N, D); latents keep their place, so that conditions stay with them."""
        return x_0

    def path(self, x_1: Tensor, groups: Tensor, t: Tensor, x_0: Tensor, rng: torch.Generator) -> PathSample:
        x_0 = self._paired(x_0, x_1, groups, rng)
        epsilon = torch.zeros_like(x_1)
        if self.sigma > 0:
            epsilon = torch.randn(x_1.shape, generator=rng, device=x_1.device)
        x_t = self.matcher.sample_xt(x_0, x_1, t, epsilon)
        return PathSample(t, x_t, self.matcher.compute_conditional_flow(x_0, x_1, t, x_t))

    def sample(self, field: VectorField, x_0: Tensor, solver: Solver) -> tuple[Tensor, int]:
        return solver.integrate(field, x_0, 0.0, 1.0)

    def invert(self, field: VectorField, x_1: Tensor, solver: Solver) -> tuple[Tensor, int]:
        return solver.integrate(field, x_1, 1.0, 0.0)


@dataclass(kw_only=True)
class OTCFM(CFM):
    """Straight paths between minibatch optimal-transport pairs of equal condition (Tong et al. 2024, OT-CFM)."""

    def _plan(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        import ot

        uniform = torch.full((len(x_0),), 1 / len(x_0), dtype=torch.float64)
        return ot.emd(uniform, uniform, torch.cdist(x_0, x_1).cpu().double() ** 2)

    def _paired(self, x_0: Tensor, x_1: Tensor, groups: Tensor, rng: torch.Generator) -> Tensor:
        paired = x_0.clone()
        for group in groups.unique():
            rows = (groups == group).nonzero()[:, 0]
            if len(rows) > 1:
                plan = self._plan(x_0[rows], x_1[rows]).to(x_0.device, torch.float32)
                # one noise for each latent (column of the plan), drawn in proportion to the plan
                drawn = torch.multinomial(plan.T.clamp_min(1e-30), 1, generator=rng)[:, 0]
                paired[rows] = x_0[rows][drawn]
        return paired


@dataclass(kw_only=True)
class SBCFM(OTCFM):
    """Schroedinger-bridge paths: entropic pairs and Brownian-bridge spread (Tong et al. 2024, SB-CFM)."""

    sigma: PositiveFloat = 0.5
    torchcfm = "SchrodingerBridgeConditionalFlowMatcher"

    def _plan(self, x_0: Tensor, x_1: Tensor) -> Tensor:
        import ot

        uniform = np.full(len(x_0), 1 / len(x_0))
        cost = (torch.cdist(x_0, x_1).cpu().double() ** 2).numpy()
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

    torchcfm = "VariancePreservingConditionalFlowMatcher"
