"""training.input_dropout: what the encoder is shown in training, and in no other place."""

import torch

from scsave.flow.paths import CFM
from scsave.training.loader import StepNoise
from scsave.training.plan import TwoStage
from scsave.training.stages import AutoencoderStage
from tests.models.test_model import model_of

COUNTS = torch.arange(44.0).view(4, 11) % 7 + 1  # no zero among them


def step(rate, training):
    """One step of the autoencoder: what the encoder was shown, what it is shown elsewhere, and the likelihood's target."""
    model, values = model_of()
    stage = AutoencoderStage(model, TwoStage(input_dropout=rate), CFM(), seed=0, steps=1).train(training)
    shown, targets, encode, log_prob = [], [], model.encode, model.likelihood.log_prob
    model.encode = lambda scaled: shown.append(scaled) or encode(scaled)
    model.likelihood.log_prob = lambda out, target, library: targets.append(target) or log_prob(out, target, library)
    batch = {"counts": COUNTS, "library": torch.full((4,), 50.0), "values": values}
    stage.autoencoder_losses(batch, StepNoise((0, 1, 2), 0, 1, torch.device("cpu")))
    return shown[0], model.scaled(COUNTS, batch["library"]), targets[0]


def test_a_share_of_the_genes_is_hidden_and_the_rest_scaled_up():
    shown, scaled, target = step(0.5, training=True)
    hidden = shown == 0
    assert 0.2 < hidden.float().mean() < 0.8
    assert torch.allclose(shown[~hidden], 2 * scaled[~hidden])
    assert torch.equal(target, COUNTS)  # all genes are to be reconstructed


def test_nothing_is_hidden_in_validation_nor_without_it():
    for rate, training in ((0.5, False), (0.0, True)):
        shown, scaled, _ = step(rate, training)
        assert torch.equal(shown, scaled)
