"""The velocity network's two sources, and the integration head: closed forms and a toy."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from scsave.data.conditions import Conditions
from scsave.flow.paths import CFM
from scsave.models.backbone import AttentionBackbone
from scsave.models.conditions import LevelShift
from scsave.models.integration import IntegrationHead
from scsave.models.networks import Velocity
from scsave.training.loader import StepNoise
from scsave.training.pairs import Pairs
from scsave.training.plan import TwoStage
from scsave.training.stages import Step, cells_loss, head_losses
from tests.models.test_model import SMALL

OBS = pd.DataFrame({"condition": ["ctrl", "a", "b", "a"], "batch": ["1", "2", "1", "2"]})
CONDITIONS = Conditions.fit(OBS, ["condition", "batch"])
VALUES = CONDITIONS.encode(OBS)


def velocity_of(kind="attention"):
    torch.manual_seed(0)
    backbone = AttentionBackbone(**SMALL, velocity=kind, condition_width=8)
    velocity = Velocity(backbone, 3, CONDITIONS, perturbation="condition")
    for parameter in velocity.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    velocity.shifts[:-1].normal_()
    return velocity.requires_grad_(False)


X, T = torch.randn(4, 10, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 0.4, 0.7, 0.9])


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_without_cells_it_is_the_field_of_noise(kind):
    velocity = velocity_of(kind)
    expected = velocity.field(X, velocity.conditions(VALUES, 4) + velocity.time(T))
    assert torch.equal(velocity(X, T, VALUES), expected)
    torch.testing.assert_close(velocity(X, T, VALUES, torch.zeros(4)), expected)  # no cell of these starts at cells


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_from_cells_it_is_the_shift_and_a_share_of_the_field(kind):
    velocity, cells = velocity_of(kind), torch.ones(4)
    shift = velocity.shifts[VALUES["condition"]]
    assert torch.equal(velocity(X, T, VALUES, cells, leave=0.0), shift)
    s = velocity.conditions(VALUES, 4) + velocity.time(T) + velocity.source
    for leave in (0.25, 1.0):
        torch.testing.assert_close(velocity(X, T, VALUES, cells, leave), shift + leave * velocity.field(X, s))


class Recorded(CFM):
    """What the loss of a flow from cells hands to its objective."""

    def loss(self, field, x_1, groups, t, x_0, rng):
        self.__dict__["seen"] = (x_0, x_1, groups, field(x_0, t))
        return super().loss(field, x_1, groups, t, x_0, rng)


def test_paths_from_cells_stay_in_their_stratum_keep_the_library_and_see_the_perturbation_alone():
    n, velocity, objective = 40, velocity_of(), Recorded()
    velocity.shifts[:, -1] = 0.0  # as training sets them
    latents = torch.arange(n).float()[:, None].expand(n, 10).clone()
    obs = pd.DataFrame({"condition": ["ctrl"] * 20 + ["a"] * 20, "batch": ["1", "2"] * 20})
    pairs = Pairs([torch.arange(10), torch.arange(10, 20)], [torch.arange(20, 30), torch.arange(30, 40)], ["x", "y"])
    rows = SimpleNamespace(pairs=pairs, values=CONDITIONS.encode(obs), flow=lambda model, place: latents[place].clone())
    asked = []
    model = SimpleNamespace(conditions=CONDITIONS, velocity=velocity)
    velocity.register_forward_pre_hook(lambda module, args: asked.append(args))

    def step(pairing):
        noise = StepNoise((0, 1), 0, 1, torch.device("cpu"))
        return Step(model, objective, TwoStage(pairing=pairing), noise, 0, 1, True, frozenset({"cells"}), rows, None)

    loss = cells_loss(step("objective"))
    x_0, x_1, groups, _ = objective.seen
    assert (x_0[:, -1] == 0).all()
    assert (x_1[:, -1] == 0).all()
    assert torch.equal(x_0[:, 0] // 10 + 2, x_1[:, 0] // 10)  # control and treated of one stratum
    for group in groups.unique():
        assert len((x_0[groups == group, 0] // 10).unique()) == 1
    _, _, values, cells = asked[0]
    assert (values["batch"] == len(CONDITIONS.columns[1].levels)).all()  # [MASK]
    assert (values["condition"] == CONDITIONS.encode(obs)["condition"][20]).all()
    assert (cells == 1).all()
    assert torch.isfinite(loss)
    assert torch.isfinite(cells_loss(step("ot")))


def test_a_level_shift_starts_at_zero_and_a_mask_has_none():
    shift = LevelShift([CONDITIONS.columns[1]], 5)
    assert (shift(VALUES) == 0).all()
    shift.tables[0].weight.data[:-1] = torch.arange(10.0).view(2, 5)
    assert torch.equal(shift(VALUES)[1], torch.arange(5.0, 10.0))
    shift(CONDITIONS.null(VALUES)).sum().backward()
    assert (shift(CONDITIONS.null(VALUES)) == 0).all()
    assert (shift.tables[0].weight.grad == 0).all()


def test_the_integration_head_leaves_the_batch_out_and_keeps_the_cell():
    torch.manual_seed(0)
    n, conditions = 400, CONDITIONS.subset(["batch"])
    batch, signal = torch.arange(n) % 2, torch.randn(n, 2)
    latent = 2 * signal @ torch.randn(2, 16) + 3.0 * batch[:, None]
    values, logvar = {"batch": batch}, torch.full((n, 16), -6.0)
    head = IntegrationHead(16, 40, conditions, 32, 3, 5)
    head.mean, head.std = latent.mean(0), latent.std(0)
    model = SimpleNamespace(head=head, decoder_conditions=SimpleNamespace(conditions=conditions))

    def losses(number, training, **weights):
        noise = StepNoise((0, number), 0, 1, torch.device("cpu"))
        plan = TwoStage(**weights)
        step = Step(model, CFM(), plan, noise, number, 400, training, frozenset({"head"}), None, None)
        return head_losses(step, {"mu": latent[:, None], "logvar": logvar, "values": values, "library": torch.ones(n)})

    code = head.encode(latent)
    normal = torch.distributions.Normal(code.mu, (0.5 * code.logvar).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(losses(0, False)["kl"], kl.detach())
    optimiser = torch.optim.Adam(head.parameters(), lr=3e-3)
    for number in range(400):
        optimiser.zero_grad()
        losses(number, True, head_kl_weight=1.0)["loss"].backward()
        optimiser.step()
    head.requires_grad_(False)

    def gap(x):
        """Distance of the means of the batches, in spreads."""
        return ((x[batch == 0].mean(0) - x[batch == 1].mean(0)) / x.std(0)).abs().max()

    assert gap(latent) > 1.0
    assert gap(head.encode(latent).mu) < 0.5 * gap(latent)
    own = head.corrected(latent, values)
    assert (own - latent).square().mean() < 0.25 * latent.var(0).mean()
    moved = head.corrected(latent, {"batch": torch.zeros_like(batch)})
    assert gap(moved) < 0.5 * gap(latent)
    torch.testing.assert_close(moved[batch == 0], own[batch == 0])
