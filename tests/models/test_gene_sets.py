"""Sets of genes in the networks: order and spelling are free, unseen genes known, the additive prediction inside."""

import numpy as np
import pandas as pd
import pytest
import torch

from scsave.blocking.blocks import GeneBlocks
from scsave.data.conditions import Categorical, Conditions, GeneSet
from scsave.flow.guidance import guided
from scsave.flow.paths import CFM
from scsave.flow.solver import Solver
from scsave.models.backbone import AttentionBackbone
from scsave.models.conditions import GeneSetEmbedding, SetShift
from scsave.models.likelihoods import NegativeBinomial
from scsave.models.model import SAVEModel

COLUMN = GeneSet("pert", ("A", "B", "C"), (True, False, True), "ctrl")
SMALL = {"width": 16, "depth": 1, "heads": 2, "latent_width": 3, "velocity_width": 16, "velocity_depth": 1}


def embedding():
    torch.manual_seed(0)
    embed = GeneSetEmbedding(COLUMN, 8, torch.randn(3, 5))
    for weight in (embed.pairwise.weight, embed.residual.weight.data[1:], embed.size):
        weight.data.normal_()
    return embed


def encoded(*labels):
    return COLUMN.encode(pd.Series(labels))


def test_order_and_spelling_are_free_and_control_is_nothing():
    embed = embedding()
    spelled = embed(encoded("A+B", "B+A", "B_A", "A+B+ctrl", " B + A "))
    for row in spelled[1:]:
        torch.testing.assert_close(row, spelled[0])
    assert (embed(encoded("ctrl", "control", "ctrl+ctrl")) == 0).all()
    assert torch.equal(encoded("A+ctrl", "B+A", "B_A"), encoded("A", "A+B", "ctrl+A+B"))
    assert not torch.allclose(embed(encoded("A")), embed(encoded("C")))
    torch.testing.assert_close(embed(encoded("C+A+B")), embed(encoded("B+C+A")))


def test_what_a_set_adds_to_its_genes_is_the_pairwise_term_and_its_dose():
    embed = embedding()
    with torch.no_grad():
        a, b, c, ab, abc = embed(encoded("A", "B", "C", "A+B", "A+B+C"))
        torch.testing.assert_close(ab, a + b + embed.pairwise(a * b) + embed.size)
        pairs = embed.pairwise(a * b + a * c + b * c)
        torch.testing.assert_close(abc, a + b + c + pairs + 2 * embed.size)


def test_a_gene_unseen_in_training_has_its_vector_and_no_residual():
    embed = embedding()
    before = embed(encoded("B", "A"))
    embed.residual.weight.data[1:] += 5.0
    after = embed(encoded("B", "A"))
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])
    embed(encoded("B", "A", "ctrl")).sum().backward()
    assert (embed.residual.weight.grad[0] == 0).all()  # the row of unseen genes never learns


def test_genes_met_later_change_nothing_for_the_others():
    embed, late = embedding(), torch.randn(2, 5)
    before = embed(encoded("A+B", "C", "ctrl"))
    embed.extend(late)
    wide = GeneSet("pert", ("A", "B", "C", "D", "E"), (True, False, True, False, False), "ctrl")
    torch.testing.assert_close(embed(wide.encode(pd.Series(["A+B", "C", "ctrl"]))), before)
    with torch.no_grad():
        torch.testing.assert_close(embed(wide.encode(pd.Series(["E"])))[0], embed.map(late[1]))


def test_the_shift_is_additive_without_interaction_and_none_for_control_and_mask():
    torch.manual_seed(1)
    shift = SetShift(COLUMN, 8, torch.randn(3, 5), 6)
    shift.out.weight.data.normal_()
    shift.embedding.residual.weight.data[1:].normal_()
    value = {"pert": encoded("A", "B", "C", "A+B", "A+B+C", "ctrl", "[MASK]")}
    a, b, c, ab, abc, control, masked = shift(value)
    torch.testing.assert_close(ab, a + b)
    torch.testing.assert_close(abc, a + b + c)
    assert (control == 0).all()
    assert (masked == 0).all()
    shift.embedding.pairwise.weight.data.normal_()
    assert not torch.allclose(shift(value)[3], a + b)


def model_of(additive_prior=True):
    """Random weights; nothing but the shift looks at the set."""
    torch.manual_seed(2)
    blocks = GeneBlocks(tuple(f"g{i}" for i in range(11)), np.arange(11) % 3, "test", {})
    conditions = Conditions((COLUMN, Categorical("batch", ("x", "y"))))
    backbone = AttentionBackbone(**SMALL, additive_prior=additive_prior)
    model = SAVEModel(
        backbone, blocks, NegativeBinomial(), conditions, conditions.names, {"pert": torch.randn(3, 5)}
    )  # fmt: skip
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    for encoder in (model.decoder_conditions, model.velocity.conditions):
        encoder.join[0].weight.data[:, : encoder.width] = 0
    for shift in (model.shift, model.velocity.shift):
        if shift is not None:
            shift.embedding.pairwise.weight.data.zero_()
            shift.embedding.size.data.zero_()
            shift.embedding.residual.weight.data[0] = 0
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4", "dopri5"])
def test_generated_and_translated_latents_are_additive_when_nothing_else_looks_at_the_set(method):
    model, names = model_of(), ["ctrl", "A", "B", "A+B"]
    solver = Solver(method=method, steps=7, rtol=1e-5, atol=1e-6)
    close = {"atol": 1e-3, "rtol": 1e-3} if method == "dopri5" else {"atol": 1e-5, "rtol": 1e-4}
    one = torch.randn(1, model.n_latent + 1).expand(4, -1).contiguous()
    batch = ["x"] * 4
    values = model.conditions.encode(pd.DataFrame({"pert": names, "batch": batch}))
    control, a, b, ab = CFM().sample(guided(model.velocity, model.conditions, values, 1.0), one, solver)[0]
    torch.testing.assert_close(ab - control, (a - control) + (b - control), **close)
    torch.testing.assert_close(a - control, model.velocity.shift(values)[1], **close)
    assert (a - control).abs().max() > 0.1
    # the same from a cell: backwards under control, forwards under the set
    source = model.conditions.encode(pd.DataFrame({"pert": ["ctrl"] * 4, "batch": batch}))
    noise, _ = CFM().invert(guided(model.velocity, model.conditions, source, 1.0), one, solver)
    back, moved_a, moved_b, moved_ab = CFM().sample(
        guided(model.velocity, model.conditions, values, 1.0), noise, solver
    )[0]
    torch.testing.assert_close(moved_ab - back, (moved_a - back) + (moved_b - back), **close)


def test_decoded_levels_are_additive_when_nothing_else_looks_at_the_set():
    model = model_of()
    values = model.conditions.encode(pd.DataFrame({"pert": ["ctrl", "A", "B", "A+B"], "batch": ["x"] * 4}))
    z = torch.randn(1, 3, 3).expand(4, -1, -1)
    control, a, b, ab = model.decode(z, values)
    torch.testing.assert_close(ab - control, (a - control) + (b - control))
    assert (a - control).abs().max() > 0.1


def test_without_the_additive_prior_there_is_no_shift():
    model = model_of(additive_prior=False)
    assert model.shift is None
    assert model.velocity.shift is None
