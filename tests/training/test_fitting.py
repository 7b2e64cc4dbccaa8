"""A stage's checkpoint holds weights and averages of one step; resumed training is training that never stopped."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback

from scsave.errors import UserError
from scsave.flow.paths import CFM
from scsave.training.fitting import fit_stages
from scsave.training.loader import CellRows
from scsave.training.options import FitOptions
from scsave.training.plan import Joint, TwoStage
from scsave.training.trainer import TrainerOptions
from tests.models.test_model import OBS, model_of

STEPS = 11
PLANS = {
    "flow": TwoStage(autoencoder_steps=2, flow_steps=STEPS, batch_size=8, flow_batch_size=8, val_every=4),
    "joint": Joint(steps=STEPS, batch_size=8, val_every=4),
}


def rows(conditions, n=40):
    obs = OBS.iloc[np.arange(n) % len(OBS)]
    counts = np.random.default_rng(0).poisson(2.0, (n, 11)).astype(np.float32)
    return CellRows(sp.csr_matrix(counts), counts.sum(1) + 5, conditions.encode(obs), np.arange(n) % len(OBS))


class Watch(Callback):
    """The velocity's weights after every step, and the end of the process, as a kill would, after step `until`."""

    def __init__(self, stage, until=None):
        self.stage, self.until, self.weights = stage, until, []

    def on_train_batch_start(self, trainer, module, *args):
        if module.name == self.stage and self.until == trainer.global_step:
            raise RuntimeError("killed")

    def on_before_zero_grad(self, trainer, module, optimizer):
        if module.name == self.stage and trainer.global_step:  # weights as the step before left them
            self.weights.append([p.detach().clone() for p in module.model.velocity.parameters()])


def fitted(name, folder, watch=None):
    """The model after all stages."""
    model, _ = model_of()
    data = rows(model.conditions)
    options = FitOptions(folder=folder, callbacks=[watch] if watch else [], checkpoint_every=3)
    fit_stages(model, PLANS[name], CFM(), data, data, options, seed=5)
    return model


def velocity_of(checkpoint, key):
    """Its weights: shifts are a buffer, and fixed."""
    found = {name: v for name, v in checkpoint[key].items() if name.startswith("model.velocity.")}
    return [v for name, v in found.items() if not name.endswith(".shifts")]


def averages(weights, decay=0.999):
    """The moving average of a list of weights, written anew."""
    mean = [w.clone() for w in weights[0]]
    for n, step in enumerate(weights[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        mean = [d * m + (1 - d) * w for m, w in zip(mean, step, strict=True)]
    return mean


@pytest.mark.parametrize("name", PLANS)
def test_a_checkpoint_holds_weights_and_averages_of_one_step(name, tmp_path):
    watch = Watch(name)
    model = fitted(name, tmp_path, watch)
    end = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
    assert end["global_step"] == STEPS
    weights = [*watch.weights[-(STEPS - 1) :], velocity_of(end, "current_model_state")]
    assert len(weights) == STEPS
    expected = averages(weights)
    for kept, used, wanted in zip(velocity_of(end, "state_dict"), model.velocity.parameters(), expected, strict=True):
        torch.testing.assert_close(kept, wanted)
        assert torch.equal(kept, used)  # what samples is the average
    # in the middle, where the process was killed: the last checkpoint is of step 9, and so is its average
    watch = Watch(name, until=10)
    with pytest.raises(RuntimeError, match="killed"):
        fitted(name, tmp_path / "killed", watch)
    middle = torch.load(tmp_path / "killed" / f"{name}.ckpt", weights_only=True)
    assert middle["global_step"] == 9
    current = velocity_of(middle, "current_model_state")
    assert all(torch.equal(a, b) for a, b in zip(current, weights[8], strict=True))
    for kept, wanted in zip(velocity_of(middle, "state_dict"), averages(weights[:9]), strict=True):
        torch.testing.assert_close(kept, wanted)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("until", [4, 9, 10])
def test_a_killed_stage_ends_as_one_that_was_not(name, until, tmp_path):
    whole = fitted(name, tmp_path / "whole").state_dict()
    with pytest.raises(RuntimeError, match="killed"):
        fitted(name, tmp_path / "parts", Watch(name, until))
    resumed = fitted(name, tmp_path / "parts").state_dict()
    again = fitted(name, tmp_path / "parts").state_dict()  # every stage is finished: only read
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_only_the_network_that_a_stage_names_is_averaged(tmp_path):
    fitted("joint", tmp_path)
    end = torch.load(tmp_path / "joint.ckpt", weights_only=True)
    differ = {k for k, v in end["state_dict"].items() if not torch.equal(v, end["current_model_state"][k])}
    assert differ
    assert all(key.startswith("model.velocity.") for key in differ)
    fitted("flow", tmp_path)
    assert "averaging_state" not in torch.load(tmp_path / "autoencoder.ckpt", weights_only=True)


@pytest.mark.parametrize(("name", "key"), [("flow", r"training\.flow_lr"), ("joint", r"training\.lr")])
def test_a_loss_that_is_not_finite_ends_training_in_one_line(name, key, tmp_path):
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, module, *args):
            if trainer.global_step == 6:
                module.model.velocity.field.head.bias.data[0] = float("nan")

    model, _ = model_of()
    data = rows(model.conditions)
    options = FitOptions(folder=tmp_path, callbacks=[Spoil()], checkpoint_every=3)
    with pytest.raises(UserError, match=rf"stage {name}: the loss is nan at step 7 of {STEPS}; lower {key} ") as said:
        fit_stages(model, PLANS[name], CFM(), data, None, options, seed=5)
    assert "\n" not in str(said.value)
    assert torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["global_step"] == 6  # from before


def test_a_stage_checkpoint_of_an_older_version_is_refused_in_one_line(tmp_path):
    fitted("joint", tmp_path)
    old = torch.load(tmp_path / "joint.ckpt", weights_only=True)
    torch.save({k: v for k, v in old.items() if k != "scsave_format"}, tmp_path / "joint.ckpt")
    (tmp_path / "joint.sha256").unlink()  # versions that old left none
    with pytest.raises(UserError, match="the checkpoint of stage joint is of an older version"):
        fitted("joint", tmp_path)


def test_everything_is_computed_on_the_trainer_s_device(monkeypatch):
    """On a machine without a GPU: latents, average and model are asked for on the device that the options name."""
    asked = []
    to = torch.nn.Module.to
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *a, **k: asked.append(a[0]) or to(self, "cpu"))
    from scsave.training import fitting

    meant = torch.device("meta")
    monkeypatch.setattr(TrainerOptions, "device", meta := property(lambda self: meant))
    assert meta.fget(None) is meant
    seen = []
    latents = fitting.LatentRows
    monkeypatch.setattr(
        fitting, "LatentRows", lambda m, c, device: seen.append(device) or latents(m, c, torch.device("cpu"))
    )
    averaging = fitting.Averaging
    monkeypatch.setattr(fitting, "Averaging", lambda decay, device: seen.append(device) or averaging(decay, "cpu"))
    model, _ = model_of()
    data = rows(model.conditions)
    plan = dataclasses.replace(PLANS["flow"], calibrate_dispersion=False)
    fit_stages(model, plan, CFM(), data, data, FitOptions(), seed=5)
    assert seen == [meant] * 3  # latents of training and validation cells, the average
    assert asked.count(meant) == 2  # the model before it encodes, and at the end
