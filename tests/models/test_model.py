"""Padding never reaches an output or a loss; the mask row is used when and only when masked; shapes and sizes."""

import numpy as np
import pandas as pd
import pytest
import torch

from scsave.blocking.blocks import GeneBlocks
from scsave.data.conditions import Conditions
from scsave.models.backbone import AttentionBackbone, MLPBackbone, MLPMixing
from scsave.models.conditions import ConditionEncoder
from scsave.models.likelihoods import Gaussian, NegativeBinomial
from scsave.models.model import SAVEModel
from scsave.models.networks import Attention, Block, BlockLinear, ConditionedBlock, Posterior

OBS = pd.DataFrame({"cell_type": ["B", "T", "B", "NK"], "dose": [0.0, 1.0, 2.0, 5.0]})
SMALL = {"width": 16, "depth": 2, "heads": 2, "latent_width": 3, "velocity_width": 16, "velocity_depth": 2}


def model_of(n_genes=11, n_blocks=3, backbone=AttentionBackbone, likelihood=None, seed=0, **kw):
    torch.manual_seed(seed)
    blocks = GeneBlocks(tuple(f"g{i}" for i in range(n_genes)), np.arange(n_genes) % n_blocks, "test", {})
    conditions = Conditions.fit(OBS, ["cell_type", "dose"])
    model = SAVEModel(
        backbone(**(SMALL | kw)), blocks, likelihood or NegativeBinomial(), conditions, ["cell_type", "dose"]
    )
    for p in model.parameters():  # zero-initialised gates would hide what is behind them
        p.data.add_(0.1 * torch.randn(p.shape))
    return model.eval(), conditions.encode(OBS)


def test_pad_slots_hold_nothing_and_get_no_gradient():
    model, values = model_of()  # 11 genes in 3 blocks of 4: one pad slot
    x = torch.rand(4, 11)
    out = model.decode(model.encode(x).mu, values)
    assert out.shape == (4, 11, 1)
    out.sum().backward()
    pads = torch.from_numpy(model.blocks.gather == 11).view(3, 4)
    assert pads.sum() == 1
    assert (model.encoder.project.weight.grad[pads] == 0).all()
    assert (model.decoder.head.weight.grad.transpose(1, 2)[pads] == 0).all()


def test_what_stands_in_a_pad_slot_s_weights_changes_nothing():
    model, values = model_of()
    x = torch.rand(4, 11)
    before = model.decode(model.encode(x).mu, values)
    pads = torch.from_numpy(model.blocks.gather == 11).view(3, 4)
    model.encoder.project.weight.data[pads] = 1e3
    model.decoder.head.weight.data.transpose(1, 2)[pads] = 1e3
    model.decoder.head.bias.data[pads] = 1e3
    assert torch.equal(before, model.decode(model.encode(x).mu, values))


def test_gene_order_is_by_block_and_slot():
    model, _ = model_of()
    x = torch.rand(4, 11, requires_grad=True)
    padded = model.pad(x)
    assert padded.shape == (4, 3, 4)
    for gene, (block, slot) in enumerate(zip(model.blocks.assignment, model.blocks.slot, strict=True)):
        assert torch.equal(padded[:, block, slot], x[:, gene])
    assert (padded.flatten(1)[:, model.gather == 11] == 0).all()
    assert torch.equal(model.unpad(padded[..., None])[..., 0], x)
    padded.sum().backward()
    assert torch.equal(x.grad, torch.ones(4, 11))  # the gradient passes through padding


def test_counts_by_place_make_the_blocks_of_the_dense_cells():
    model, _ = model_of()
    model.likelihood.scale.uniform_(0.5, 3)
    counts, library = torch.poisson(torch.full((4, 11), 0.8)), torch.tensor([10.0, 20.0, 30.0, 40.0])
    seen = counts.nonzero().T
    found = model.scaled_blocks(seen, counts[*seen], library)
    torch.testing.assert_close(found, model.pad(model.scaled(counts, library)), rtol=1e-6, atol=0)


def test_attention_over_few_tokens_is_that_of_the_fused_kernel_and_its_gradient_autograd_s():
    torch.manual_seed(0)
    attention = Attention(8, heads=2).double()
    leaf, weight = torch.randn(5, 3, 8, dtype=torch.float64), torch.randn(5, 3, 8, dtype=torch.float64)
    found = []
    for closed in (True, False):
        h = (4 * leaf).requires_grad_()
        attention.zero_grad()
        if closed:
            out = attention(h)
        else:
            q, k, v = attention._heads(h).unbind(0)
            out = attention.out(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        (out * weight).sum().backward()
        found.append((out.detach(), h.grad, attention.qkv.weight.grad.clone()))
    for ours, autograd in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograd, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backbone", [AttentionBackbone, MLPBackbone])
def test_flow_round_trip_and_velocity_shape(backbone):
    model, values = model_of(backbone=backbone)
    model.flow_mean.uniform_()
    model.flow_std.uniform_(0.5, 2)
    z, library = torch.randn(4, 3, 3), torch.tensor([100.0, 2000.0, 500.0, 7.0])
    x = model.to_flow(z, library)
    assert model.velocity(x, torch.rand(4), values).shape == x.shape == (4, 10)
    back_z, back_library = model.from_flow(x)
    torch.testing.assert_close(back_z, z)
    torch.testing.assert_close(back_library, library, rtol=1e-4, atol=1e-3)


def test_mlp_backbone_has_as_many_parameters():
    for n_tokens, width in ((6, 64), (7, 96), (1, 32)):
        attention, mlp = (
            sum(p.numel() for p in m.parameters()) for m in (Attention(width, 4), MLPMixing(n_tokens, width))
        )
        assert mlp == pytest.approx(attention, rel=0.03)


def test_fused_attention_is_the_formula():
    torch.manual_seed(0)
    layer, h = Attention(8, 2), torch.randn(3, 5, 8)
    _, _, v = layer._heads(h).unbind(0)
    expected = layer.out((layer.weights(h) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(h), expected)
    torch.testing.assert_close(layer.weights(h).sum(-1), torch.ones(3, 2, 5))


def test_blocks_are_permutation_equivariant_but_for_their_embedding():
    torch.manual_seed(0)
    block, h, order = Block(AttentionBackbone(**SMALL), 5, 16), torch.randn(2, 5, 16), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(block(h)[:, order], block(h[:, order]))


def test_adaln_zero_starts_as_the_identity():
    block, h = ConditionedBlock(AttentionBackbone(**SMALL), 4, 16), torch.randn(2, 4, 16)
    assert torch.equal(block(h, torch.randn(2, 16)), h)


def test_shared_projection_is_one_matrix():
    shared = BlockLinear(3, 4, 5, shared=True)
    assert shared.weight.shape == (1, 4, 5)
    h = torch.randn(2, 3, 4)
    torch.testing.assert_close(shared(h)[:, 1], h[:, 1] @ shared.weight[0] + shared.bias[0])
    own = BlockLinear(3, 4, 5)
    torch.testing.assert_close(own(h)[:, 1], h[:, 1] @ own.weight[1] + own.bias[1])


def test_mask_row_is_used_when_and_only_when_masked():
    encoder = ConditionEncoder(Conditions.fit(OBS, ["cell_type", "dose"]), 8)
    values = encoder.conditions.encode(OBS)
    told = encoder(values, 4)
    table, masked = encoder.columns[0].table.weight, encoder.columns[1].masked
    for parameter in (table.data[-1], masked.data):
        parameter.add_(10.0)
    assert torch.equal(told, encoder(values, 4))
    where = torch.tensor([[True, False], [False, True], [False, False], [True, True]])
    hidden = encoder(encoder.conditions.mask(values, where), 4)
    same = (hidden == told).all(1).tolist()
    assert same == [False, False, True, False]
    null = encoder(encoder.conditions.null(values), 4)
    torch.testing.assert_close(null, null[:1].expand(4, -1))  # masked cells cannot be told apart
    torch.testing.assert_close(null[3], hidden[3])


def test_kl_is_torch_s():
    mu, logvar = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(Posterior(mu, logvar).kl(), expected)


def test_scaled_inverts():
    model, _ = model_of(likelihood=Gaussian())
    model.likelihood.scale.uniform_(0.5, 3)
    counts, library = torch.poisson(torch.rand(4, 11) * 5), torch.tensor([50.0, 60.0, 70.0, 80.0])
    log1p = torch.log1p(counts / library[:, None] * 1e4)
    torch.testing.assert_close(model.to_log1p(model.scaled(counts, library), library), log1p)
