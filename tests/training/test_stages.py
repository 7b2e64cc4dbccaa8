"""What a stage shows its networks: hidden genes, masked conditions; and which stages a plan runs."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from scsave.components import build
from scsave.errors import UserError
from scsave.flow.paths import CFM
from scsave.training.loader import StepNoise
from scsave.training.plan import Joint, TwoStage
from scsave.training.stages import AutoencoderStage, FlowStage, JointStage, Step, masked
from tests.conftest import ROOT
from tests.models.test_model import model_of

COUNTS = torch.arange(44.0).view(4, 11) % 7 + 1  # no zero among them


def step_of(model, training=True, **weights):
    noise = StepNoise((0, 1, 2), 0, 1, torch.device("cpu"))
    return Step(model, CFM(), TwoStage(**weights), noise, number=0, steps=1, training=training, mean=lambda x: x)


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
    AutoencoderStage(steps=1).losses(step_of(model, training, input_dropout=rate), batch)
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
    alone = masked(step_of(model, mask_rate=0.2), n)
    assert alone.shape == (n, 2)
    assert alone.float().mean(0).tolist() == pytest.approx([0.2, 0.2], abs=0.01)
    assert alone.all(1).float().mean().item() == pytest.approx(0.2**2, abs=0.01)
    both = masked(step_of(model, mask_rate=0.2, joint_mask_rate=0.1), n)
    assert both.all(1).float().mean().item() == pytest.approx(1 - 0.9 * (1 - 0.2**2), abs=0.01)
    assert both.float().mean(0).tolist() == pytest.approx([1 - 0.9 * 0.8] * 2, abs=0.01)
    assert torch.equal(both | alone, both)  # the draws of each column are those without it
    together = masked(step_of(model, mask_rate=0.0, joint_mask_rate=0.3), n)
    assert torch.equal(together[:, 0], together[:, 1])


def test_guidance_needs_a_field_that_is_trained():
    TwoStage(mask_rate=0.0).check_guidance(1.0)
    TwoStage(mask_rate=0.0, joint_mask_rate=0.1).check_guidance(2.0)
    for plan, weight in (
        (TwoStage(mask_rate=0.0), 2.0),
        (
            TwoStage(mask_rate=0.0, joint_mask_rate=0.1),
            {"batch": 2.0},
        ),  # one column told, the others masked: never seen
    ):
        with pytest.raises(UserError, match=r"training\.mask_rate=0"):
            plan.check_guidance(weight)


def test_a_task_runs_the_stages_that_it_needs():
    def run(plan, networks):
        return [stage.name for stage in plan.stages() if stage.needed(networks)]

    assert run(TwoStage(), "flow") == ["autoencoder", "flow"]
    assert run(TwoStage(), "autoencoder") == ["autoencoder"]
    assert run(Joint(), "autoencoder") == run(Joint(), "flow") == ["joint"]
    assert run(TwoStage(), "none") == run(Joint(), "none") == []


def test_a_plan_may_have_stages_behind_its_own(monkeypatch):
    class Last(AutoencoderStage):
        name, number = "last", 4

    assert [s.name for s in TwoStage(then=JointStage(steps=7, then=Last(steps=9))).stages()][2:] == ["joint", "last"]
    for further, words in (
        (CFM(), r"training\.then: CFM is no stage"),
        (FlowStage(steps=7), "has a stage flow already; its stages: autoencoder, flow, flow"),
    ):
        with pytest.raises(UserError, match=words):
            TwoStage(then=further)
    plan, joint = "scsave.training.plan.TwoStage", "scsave.training.stages.JointStage"
    monkeypatch.setattr("scsave.components.registry", lambda slot: {plan, joint})  # as if a YAML named both
    assert build({"_target_": plan, "then": {"_target_": joint, "steps": 7}}, "training").stages()[2].steps == 7
    with pytest.raises(UserError, match=r"training\.then\.steps"):
        build({"_target_": plan, "then": {"_target_": joint, "steps": 0}}, "training")


OPTIONS = ("training/*.yaml", "objective/*.yaml", "likelihood/*.yaml", "backbone/save.yaml", "trainer/cpu.yaml")


@pytest.mark.parametrize("path", [path for option in OPTIONS for path in (ROOT / "configs").glob(option)], ids=str)
def test_a_class_s_defaults_are_those_of_its_yaml(path):
    node = OmegaConf.to_container(OmegaConf.load(path))
    option = build(node, path.parent.name)
    assert option == type(option)()
    assert set(node) - {"_target_"} == {
        f.name for f in dataclasses.fields(option) if f.init
    }  # every key is there to see
