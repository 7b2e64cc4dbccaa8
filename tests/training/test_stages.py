"""What a stage shows its networks: hidden genes, masked conditions; and which stages a plan runs."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from scsave.components import build
from scsave.errors import UserError
from scsave.flow.paths import CFM
from scsave.training.length import Length
from scsave.training.loader import StepNoise
from scsave.training.plan import Joint, TwoStage
from scsave.training.stages import (
    PARTS,
    AutoencoderStage,
    FlowStage,
    JointStage,
    Step,
    autoencoder_losses,
    dense,
    masked,
    thin,
)
from tests.conftest import ROOT
from tests.models.test_model import model_of

COUNTS = torch.arange(44.0).view(4, 11) % 7 + 1  # no zero among them


def step_of(model, training=True, **weights):
    noise = StepNoise((0, 1, 2), 0, 1, torch.device("cpu"))
    return Step(
        model,
        CFM(),
        TwoStage(**weights),
        noise,
        number=0,
        steps=1,
        training=training,
        parts=frozenset(PARTS),
        rows=None,
        mean=lambda x: x,
    )


def seen(rate, training):
    """One step of the autoencoder: what the encoder was shown, what it is shown elsewhere, and the likelihood's target."""
    model, values = model_of()
    shown, targets, encode, head = [], [], model.encode, model.likelihood.forward

    def likelihood(out, library):
        cells = head(out, library)
        log_prob = lambda target: targets.append(target) or cells.log_prob(target)  # noqa: E731
        return SimpleNamespace(space=cells.space, log_prob=log_prob)

    model.encode = lambda scaled: shown.append(scaled) or encode(scaled)
    model.likelihood.forward = likelihood
    batch = {"counts": COUNTS, "library": torch.full((4,), 50.0), "values": values}
    AutoencoderStage(steps=1).losses(step_of(model, training, input_dropout=rate, thinning=1.0), batch)
    return shown[0], model.scaled(COUNTS, batch["library"]), targets[0]


def test_a_share_of_the_genes_is_hidden_and_the_rest_scaled_up():
    shown, scaled, target = seen(0.5, training=True)
    hidden = shown == 0
    assert 0.2 < hidden.float().mean() < 0.8
    assert torch.allclose(shown[~hidden], 2 * scaled[~hidden])
    assert torch.equal(target, COUNTS)  # all genes are to be reconstructed


def test_nothing_is_hidden_in_validation_nor_without_it():
    for rate, training in ((0.5, False), (0.0, True)):
        shown, scaled, _ = seen(rate, training)
        assert torch.equal(shown, scaled)


def test_columns_are_masked_each_for_itself_and_all_together():
    model, _ = model_of()
    n = 20_000
    alone = masked(step_of(model, mask_rate=0.2, joint_mask_rate=0.0), n)
    assert alone.shape == (n, 2)
    assert alone.float().mean(0).tolist() == pytest.approx([0.2, 0.2], abs=0.01)
    assert alone.all(1).float().mean().item() == pytest.approx(0.2**2, abs=0.01)
    both = masked(step_of(model, mask_rate=0.2, joint_mask_rate=0.1), n)
    assert both.all(1).float().mean().item() == pytest.approx(1 - 0.9 * (1 - 0.2**2), abs=0.01)
    assert both.float().mean(0).tolist() == pytest.approx([1 - 0.9 * 0.8] * 2, abs=0.01)
    assert torch.equal(both | alone, both)  # the draws of each column are those without it
    together = masked(step_of(model, mask_rate=0.0, joint_mask_rate=0.3), n)
    assert torch.equal(together[:, 0], together[:, 1])


def test_a_single_column_is_masked_by_the_joint_rate_alone():
    """It has no combinations, and whatever more is masked is training that its levels go without."""
    model, _ = model_of()
    model.conditions = model.conditions.subset(model.conditions.names[:1])
    n = 20_000
    assert masked(step_of(model, mask_rate=0.6, joint_mask_rate=0.1), n).float().mean().item() == pytest.approx(
        0.1, abs=0.01
    )
    assert masked(step_of(model, mask_rate=0.6, joint_mask_rate=0.0), n).float().mean().item() == pytest.approx(
        0.6, abs=0.01
    )


def test_guidance_needs_a_field_that_is_trained():
    TwoStage(mask_rate=0.0).check_guidance(1.0)
    TwoStage(mask_rate=0.0, joint_mask_rate=0.1).check_guidance(2.0)
    for plan, weight in (
        (TwoStage(mask_rate=0.0, joint_mask_rate=0.0), 2.0),
        (
            TwoStage(mask_rate=0.0, joint_mask_rate=0.1),
            {"batch": 2.0},
        ),  # one column told, the others masked: never seen
    ):
        with pytest.raises(UserError, match=r"training\.mask_rate=0"):
            plan.check_guidance(weight)


def test_a_task_runs_the_stages_that_it_needs():
    def run(plan, *parts):
        return [stage.name for stage in plan.stages() if stage.needed(frozenset(parts))]

    assert run(TwoStage(), "autoencoder", "noise") == run(TwoStage(), "cells") == ["autoencoder", "flow"]
    assert run(TwoStage(), "autoencoder") == ["autoencoder"]
    assert run(TwoStage(), "autoencoder", "head") == ["autoencoder", "head"]
    assert run(Joint(), "autoencoder") == run(Joint(), "noise") == ["joint"]
    assert run(Joint(), "head") == ["joint", "head"]
    assert run(TwoStage()) == run(Joint()) == []


def test_a_part_that_no_stage_trains_is_refused():
    TwoStage().check_parts(frozenset(PARTS))
    Joint().check_parts(frozenset({"autoencoder", "noise", "head"}))
    with pytest.raises(UserError, match="no stage of Joint trains the part cells"):
        Joint().check_parts(frozenset({"autoencoder", "cells"}))


def test_a_config_may_add_stages_behind_those_of_its_plan():
    class Last(AutoencoderStage):
        name, number = "last", 6

    stages = TwoStage(then=JointStage(steps=7, then=Last(steps=9))).stages()
    assert [stage.name for stage in stages] == ["autoencoder", "flow", "head", "joint", "last"]
    for further, words in (
        (CFM(), r"training\.then: CFM is no stage"),
        (FlowStage(steps=7, cells_steps=7), "has a stage flow already"),
    ):
        with pytest.raises(UserError, match=words):
            TwoStage(then=further)
    with pytest.raises(UserError, match=r"training\.cool_from: no stage flw; the stages are autoencoder, flow, head"):
        TwoStage(cool_from={"flw": 3})


def test_a_length_is_passes_within_bounds_or_the_steps_themselves():
    length = Length(None, passes=10, least=50, most=400)
    assert length.of(1280, 128) == 100
    assert length.of(130, 128) == 50  # at least
    assert length.of(10**6, 128) == 400  # at most
    assert length.of(60, 128) == 50  # fewer cells than a batch: a pass is one step
    assert Length(None, 70, 50, 400).of(60, 128) == 70
    assert Length(7, 10, 50, 400).of(10**6, 128) == 7
    few = Length(None, 10, 50, 4000, small_passes=100, small_most=500)
    assert [few.of(n, 100) for n in (10, 100, 300, 500, 1000, 5000, 10000)] == [100, 100, 300, 500, 500, 500, 1000]
    stage = AutoencoderStage(steps=length, batch_size=64)
    assert stage.length(640, frozenset()) == 100
    assert AutoencoderStage(steps=3).length(640, frozenset()) == 3


def thinned(training, p=0.3, n=4000, each=40):
    model, _ = model_of()
    counts = torch.zeros(n, 11)
    counts[:, :6] = each
    at = counts.nonzero().T
    kept, share = thin(step_of(model, training, thinning=p), counts, at)
    return counts, dense(counts, at, kept), share


def test_thinning_keeps_each_molecule_with_the_probability_of_its_cell():
    counts, kept, share = thinned(training=True)
    assert (kept <= counts).all()
    assert torch.equal(kept, kept.round())
    assert (kept[:, 6:] == 0).all()
    assert 0.3 <= share.min() < 0.31
    assert 0.99 < share.max() <= 1.0
    rate = kept.sum(1) / counts.sum(1)  # of 240 molecules
    assert (rate - share).mean().abs() < 0.002
    z = (rate - share) / (share * (1 - share) / 240).clamp(min=1e-6).sqrt()
    assert z.std().item() == pytest.approx(1.0, abs=0.05)  # binomial spread


def test_validation_keeps_half():
    counts, kept, share = thinned(training=False)
    assert (share == 0.5).all()
    assert (kept.sum() / counts.sum()).item() == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("training", [True, False])
def test_the_decoder_is_asked_for_all_counts_and_in_validation_for_the_other_half(training):
    model, values = model_of()
    asked, head = [], model.likelihood.forward

    def likelihood(out, library):
        cells = head(out, library)
        log_prob = lambda target: asked.append((target, library)) or cells.log_prob(target)  # noqa: E731
        return SimpleNamespace(space=cells.space, log_prob=log_prob)

    model.likelihood.forward = likelihood
    batch = {"counts": COUNTS, "library": torch.full((4,), 50.0), "values": values}
    weights = {"thinning": 0.3, "kl_weight": 1.0}
    losses, _ = autoencoder_losses(step_of(model, training, **weights), batch)
    (target, library), at = asked[0], COUNTS.nonzero().T
    kept = dense(COUNTS, at, thin(after_noise(model, training, **weights), COUNTS, at)[0])
    if training:
        assert torch.equal(target, COUNTS)
        assert torch.equal(library, batch["library"])
    else:
        assert torch.equal(target, COUNTS - kept)
        assert torch.equal(library, batch["library"] / 2)
        torch.testing.assert_close(losses["loss"], losses["reconstruction"] / 11)  # no KL in the score


def after_noise(model, training, **weights):
    """A step whose draws of thinning are those of the loss: thinning is the first thing that is drawn."""
    return step_of(model, training, **weights)


@pytest.mark.parametrize("training", [True, False])
def test_cells_whose_counts_are_known_by_place_have_the_loss_of_those_that_are_searched(training):
    model, values = model_of()
    rng = torch.Generator().manual_seed(1)
    counts = torch.poisson(torch.full((4, 11), 0.8), generator=rng)
    batch = {"counts": counts, "library": counts.sum(1) + 3, "values": values}
    found = []
    for known in ({}, {"seen": counts.nonzero().T}):
        model.zero_grad()
        losses, posterior = autoencoder_losses(step_of(model, training, thinning=0.3), batch | known)
        losses["loss"].backward()
        found.append((losses["loss"].detach(), posterior.mu.detach(), model.likelihood.log_theta.grad.clone()))
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)
    step = step_of(model, training, thinning=0.3)
    kept, share = thin(step, counts, batch_at := counts.nonzero().T)
    encoded = model.encode(model.scaled(dense(counts, batch_at, kept), batch["library"] * share))
    torch.testing.assert_close(found[0][1], encoded.mu.detach())


OPTIONS = ("training/*.yaml", "objective/*.yaml", "likelihood/*.yaml", "backbone/save.yaml", "trainer/cpu.yaml")


@pytest.mark.parametrize("path", [path for option in OPTIONS for path in (ROOT / "configs").glob(option)], ids=str)
def test_a_class_s_defaults_are_those_of_its_yaml(path):
    node = OmegaConf.to_container(OmegaConf.load(path))
    option = build(node, path.parent.name)
    assert option == type(option)()
    assert set(node) - {"_target_"} == {
        f.name for f in dataclasses.fields(option) if f.init
    }  # every key is there to see
