"""Every path against its closed form (Tong et al. 2024, table 1), and OT pairs inside equal conditions."""

import math

import ot
import pytest
import torch

from scsave.flow.diffusion import DDPM
from scsave.flow.paths import CFM, OTCFM, SBCFM, VPCFM
from scsave.flow.solver import Solver

N, D = 32, 5


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0):
    g = rng(seed)
    return torch.randn(N, D, generator=g), torch.randn(N, D, generator=g) + 2, torch.rand(N, generator=g)


GROUPS = torch.zeros(N, dtype=torch.long)


def test_cfm_is_a_straight_line():
    x_0, x_1, t = draw()
    point = CFM().path(x_1, GROUPS, t, x_0, rng())
    torch.testing.assert_close(point.x_t, (1 - t)[:, None] * x_0 + t[:, None] * x_1)
    torch.testing.assert_close(point.target, x_1 - x_0)


@pytest.mark.parametrize("objective", [CFM(), OTCFM(), SBCFM(), VPCFM(), DDPM()])
def test_the_loss_is_the_square_distance_from_the_target_along_the_path(objective):
    x_0, x_1, t = draw()
    point = objective.path(x_1, GROUPS, t, x_0, rng(3))
    asked = []

    def field(x, t):
        asked.append((x, t))
        return torch.sin(x) + t[:, None]

    loss = objective.loss(field, x_1, GROUPS, t, x_0, rng(3))
    assert loss.item() == pytest.approx((torch.sin(point.x_t) + point.t[:, None] - point.target).square().mean().item())
    assert torch.equal(asked[0][0], point.x_t)
    assert objective.loss(lambda x, t: point.target, x_1, GROUPS, t, x_0, rng(3)) == 0


def test_torchcfm_s_matcher_is_built_once():
    objective = CFM(sigma=0.1)
    assert objective.matcher is objective.matcher
    assert objective.matcher.sigma == 0.1


def test_cfm_with_sigma_has_that_spread():
    x_0, x_1, t = (v.repeat(500, *[1] * (v.dim() - 1)) for v in draw())
    point = CFM(sigma=0.3).path(x_1, torch.zeros(len(t)), t, x_0, rng())
    residual = point.x_t - ((1 - t)[:, None] * x_0 + t[:, None] * x_1)
    assert residual.std().item() == pytest.approx(0.3, rel=0.02)


def test_vp_is_a_quarter_turn():
    x_0, x_1, t = draw()
    point = VPCFM().path(x_1, GROUPS, t, x_0, rng())
    a = (math.pi / 2 * t)[:, None]
    torch.testing.assert_close(point.x_t, a.cos() * x_0 + a.sin() * x_1)
    torch.testing.assert_close(point.target, math.pi / 2 * (a.cos() * x_1 - a.sin() * x_0))


def test_ot_pairs_are_the_optimal_assignment():
    x_0, x_1, _ = draw()
    point = OTCFM().path(x_1, GROUPS, torch.zeros(N), x_0, rng())  # at t = 0 the point is the noise itself
    cost = torch.cdist(x_0, x_1).double() ** 2
    best = (ot.emd(torch.full((N,), 1 / N).double(), torch.full((N,), 1 / N).double(), cost) * cost).sum() * N
    assert ((point.x_t - x_1) ** 2).sum().item() == pytest.approx(best.item(), rel=1e-4)


@pytest.mark.parametrize("objective", [OTCFM(), SBCFM()])
def test_ot_pairs_never_cross_conditions(objective):
    x_0, x_1, _ = draw()
    groups = torch.arange(N) % 3
    x_0 = x_0 + 100 * groups[:, None]  # noise tells its group: swapped pairs would be visible
    point = objective.path(x_1, groups, torch.full((N,), 1e-3), x_0, rng())
    assert torch.equal((point.x_t.mean(1) / 100).round().long(), groups)


def test_sb_bridge_velocity():
    x_0, x_1, _ = draw()
    t = torch.full((N,), 0.3)
    objective = SBCFM(sigma=0.2)
    one_each = torch.arange(N)  # groups of one: no pairing
    point = objective.path(x_1, one_each, t, x_0, rng())
    mean = 0.7 * x_0 + 0.3 * x_1
    expected = (1 - 0.6) / (2 * 0.3 * 0.7) * (point.x_t - mean) + x_1 - x_0
    torch.testing.assert_close(point.target, expected, rtol=1e-4, atol=1e-4)


def test_ddpm_mixes_signal_and_noise_to_unit_variance():
    x_0, x_1, t = draw()
    objective = DDPM()
    point = objective.path(x_1, GROUPS, t, x_0, rng())
    a = objective.alpha_bar(t)[:, None]
    torch.testing.assert_close(point.x_t, a.sqrt() * x_1 + (1 - a).sqrt() * x_0)
    torch.testing.assert_close(point.target, x_0)
    assert objective.alpha_bar(torch.tensor(0.0)) < 1e-3
    assert objective.alpha_bar(torch.tensor(1.0)) > 0.999


def test_ddim_with_the_true_noise_of_a_gaussian_gives_that_gaussian():
    objective, mean, std = DDPM(), 3.0, 0.5

    def noise(x, t):  # E[noise | x_t] for data ~ N(mean, std^2)
        a = objective.alpha_bar(t)[:, None]
        return (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * std**2 + 1 - a)

    x, evaluations = objective.sample(noise, torch.randn(20_000, 1, generator=rng()), Solver(steps=200))
    assert evaluations == 200
    assert x.mean().item() == pytest.approx(mean, abs=0.02)
    assert x.std().item() == pytest.approx(std, abs=0.02)
    back, _ = objective.invert(noise, x, Solver(steps=200))
    assert back.std().item() == pytest.approx(1.0, abs=0.05)


def test_exact_velocity_of_a_gaussian_carries_noise_to_it_and_back():
    mean, std = 3.0, 0.5

    def velocity(x, t):  # marginal field of straight paths from N(0, 1) to N(mean, std^2), independent pairs
        s = t[:, None]
        variance = (1 - s) ** 2 + (s * std) ** 2
        return mean + (s * std**2 - (1 - s)) / variance * (x - s * mean)

    x_0 = torch.randn(20_000, 1, generator=rng())
    x_1, _ = CFM().sample(velocity, x_0, Solver(method="rk4", steps=50))
    assert x_1.mean().item() == pytest.approx(mean, abs=0.02)
    assert x_1.std().item() == pytest.approx(std, abs=0.02)
    back, _ = CFM().invert(velocity, x_1, Solver(method="rk4", steps=50))
    torch.testing.assert_close(back, x_0, rtol=1e-3, atol=1e-3)
