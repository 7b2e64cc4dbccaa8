"""The solver on fields with known solutions; guidance against its formula and its no-op."""

import math

import pandas as pd
import pytest
import torch

from scsave.data.conditions import Conditions
from scsave.errors import UserError
from scsave.flow.guidance import guided
from scsave.flow.solver import Solver

OBS = pd.DataFrame({"cell_type": ["B", "T", "B"], "batch": ["1", "2", "2"]})
CONDITIONS = Conditions.fit(OBS, ["cell_type", "batch"])
VALUES = CONDITIONS.encode(OBS)


def field(x, t, values):
    """Any field in which both columns play a part."""
    return x * t[:, None] + values["cell_type"][:, None].float() + 10 * values["batch"][:, None].float()


@pytest.mark.parametrize(
    ("method", "tolerance", "per_step"), [("euler", 0.04, 1), ("midpoint", 1e-3, 2), ("rk4", 1e-5, 4)]
)
def test_polynomial_field_integrates_to_one(method, tolerance, per_step):
    x, evaluations = Solver(method=method, steps=50).integrate(
        lambda x, t: 3 * t[:, None] ** 2 + 0 * x, torch.zeros(4, 2)
    )
    torch.testing.assert_close(x, torch.ones(4, 2), rtol=0, atol=tolerance)
    assert evaluations == 50 * per_step


def test_adaptive_solver_on_the_exponential():
    x, evaluations = Solver(method="dopri5", rtol=1e-6, atol=1e-6).integrate(lambda x, t: x, torch.ones(3, 1))
    torch.testing.assert_close(x, torch.full((3, 1), math.e), rtol=1e-5, atol=1e-5)
    assert evaluations > 6


def test_backwards_undoes_forwards():
    solver, start = Solver(method="rk4", steps=40), torch.randn(5, 3)
    there, _ = solver.integrate(lambda x, t: torch.sin(x) + t[:, None], start)
    back, _ = solver.integrate(lambda x, t: torch.sin(x) + t[:, None], there, 1.0, 0.0)
    torch.testing.assert_close(back, start, rtol=1e-4, atol=1e-4)


def test_weight_one_is_the_plain_field_byte_for_byte():
    x, t = torch.randn(3, 4), torch.rand(3)
    calls = []

    def counted(*args):
        calls.append(args)
        return field(*args)

    assert torch.equal(guided(counted, CONDITIONS, VALUES, 1.0)(x, t), field(x, t, VALUES))
    assert len(calls) == 1


def test_one_weight_is_the_paper_s_formula():
    x, t = torch.randn(3, 4), torch.rand(3)
    null = field(x, t, CONDITIONS.null(VALUES))
    for w in (0.0, 0.5, 2.5):
        expected = (1 - w) * null + w * field(x, t, VALUES)
        torch.testing.assert_close(guided(field, CONDITIONS, VALUES, w)(x, t), expected)


def test_weights_per_condition_add_up_from_the_masked_field():
    x, t = torch.randn(3, 4), torch.rand(3)
    null = field(x, t, CONDITIONS.null(VALUES))
    a, b = (field(x, t, CONDITIONS.only(VALUES, name)) - null for name in ("cell_type", "batch"))
    got = guided(field, CONDITIONS, VALUES, {"cell_type": 2.0, "batch": 0.5})(x, t)
    torch.testing.assert_close(got, null + 2.0 * a + 0.5 * b)


def test_a_column_that_guidance_does_not_name_keeps_weight_one():
    x, t = torch.randn(3, 4), torch.rand(3)
    for weight, whole in (
        ({"cell_type": 1.5}, {"cell_type": 1.5, "batch": 1.0}),
        ({"batch": 0.0}, {"cell_type": 1.0, "batch": 0.0}),
    ):
        named, all_named = (guided(field, CONDITIONS, VALUES, w)(x, t) for w in (weight, whole))
        assert torch.equal(named, all_named)
    only_type = field(x, t, CONDITIONS.only(VALUES, "cell_type"))
    torch.testing.assert_close(guided(field, CONDITIONS, VALUES, {"batch": 0.0})(x, t), only_type)


def test_unknown_condition_in_guidance_is_named():
    with pytest.raises(UserError, match=r"sampling\.guidance names dose"):
        guided(field, CONDITIONS, VALUES, {"dose": 1.0})
