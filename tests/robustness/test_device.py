"""Where a model is used, shown without a GPU: on the `meta` device, where a tensor that stayed on the CPU can't be mixed in."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from scsave import keys
from scsave.blocking.blocks import GeneBlocks
from scsave.compose import compose, plain
from scsave.data.conditions import Conditions
from scsave.data.preprocess import prepared
from scsave.method.fitted import Fitted
from scsave.method.integrate import integrate
from scsave.method.respond import decoded_change
from scsave.method.sample import generate, translate
from tests.robustness.test_security import KEPT, TINY

META = torch.device("meta")


class Look:
    """In place of a solver, whose steps look at values: one look at the field, which has to take what it is given."""

    def integrate(self, field, x, start=0.0, end=1.0):
        assert x.device == META
        assert field(x, torch.zeros(len(x), device=x.device)).device == META
        return x, 1


@pytest.fixture
def out_of_meta(monkeypatch):
    """`.cpu()` gives zeros, and random numbers need no generator: all that `meta` can't do. The places where it was left."""
    left, cpu = [], torch.Tensor.cpu

    def leave(tensor, *_):
        if not tensor.is_meta:
            return cpu(tensor)
        left.append(tuple(tensor.shape))
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    class Generator:
        def __init__(self, device="cpu"):
            assert torch.device(device) == META

        def manual_seed(self, seed):
            return self

    def drawn_there(log_mean, log_theta, rng):  # how many counts are above zero is what `meta` can't say
        assert log_mean.device == log_theta.device == META
        return torch.arange(log_mean.numel(), device=META), log_mean.flatten()

    monkeypatch.setattr("scsave.models.likelihoods.negative_binomial", drawn_there)
    monkeypatch.setattr(torch.Tensor, "cpu", leave)
    monkeypatch.setattr(torch, "Generator", Generator)
    for name in ("randn", "rand", "poisson", "_standard_gamma", "bernoulli", "normal"):
        of = getattr(torch, name)
        drawn = lambda *given, generator=None, of=of, **more: of(*given, **more)  # noqa: E731
        monkeypatch.setattr(torch, name, drawn)
    return left


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(2.0, (8, 6)).astype(np.float32))
    obs = pd.DataFrame({"batch": ["1", "2"] * 4, "state": ["a", "a", "b", "b"] * 2}, index=[f"c{i}" for i in range(8)])
    obs[keys.LIBRARY] = np.asarray(counts.sum(1)).ravel().astype(float)
    return prepared(counts, obs, pd.DataFrame(index=list("abcdef")), {})


@pytest.fixture
def model(cells):
    config = plain(compose(["data=simulated", *TINY]))
    blocks = GeneBlocks(tuple("abcdef"), np.arange(6) % 2, "test", {})
    columns = Conditions.fit(cells.obs, ["batch", "state"])
    made = Fitted.assemble({name: config[name] for name in KEPT}, blocks, columns, ["batch", "state"], None, 0)
    made.info = {
        "perturbation": "state", "control": "a", "cell_type": None, "batch": "batch", "technical": ["batch"],
        "library_range": [1.0, 100.0], "levels": [{"batch": "1", "state": "a", "cells": 4}],
        "parts": ["autoencoder", "noise", "cells", "head"],
    }  # fmt: skip
    made.sampler = replace(made.sampler, solver=Look())
    return made


VERBS = {
    "encode": lambda model, cells: model.encode(cells),
    "decode": lambda model, cells: model.decode(np.zeros((8, 4), np.float32), cells.obs, np.full(8, 9.0)),
    "generate": lambda model, cells: generate(model, 8, {"state": "b"}),
    "generate, guided": lambda model, cells: generate(guided(model), 8, {"state": "b"}),
    "translate": lambda model, cells: translate(model, cells, cells.obs.assign(state="b")),
    "integrate": integrate,
    "transfer": lambda model, cells: decoded_change(model, cells, "b"),
}


def guided(model):
    model.sampler = replace(model.sampler, guidance={"state": 2.0})
    return model


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_computes_on_the_model_s_device(verb, model, cells, out_of_meta):
    """Mixing devices raises; results leave the device at the end alone."""
    model.to(META)
    VERBS[verb](model, cells)
    assert out_of_meta
    assert next(model.network.parameters()).device == META
