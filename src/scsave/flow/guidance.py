"""Guidance wraps a conditional velocity field (method.md section 3).

One weight (the paper): `v = (1 - w) v(x, t, MASK) + w v(x, t, s)`. One weight a condition, for combinations never
seen together: `v = v(MASK) + sum_k w_k (v(s_k) - v(MASK))`, each s_k having all other columns masked. A column that
is not named keeps the weight 1.
"""

from collections.abc import Callable

from torch import Tensor

from scsave.data.conditions import Conditions, Values
from scsave.errors import UserError
from scsave.flow.solver import VectorField

ConditionalField = Callable[[Tensor, Tensor, Values], Tensor]  # (x (N, D), t (N,), conditions) -> (N, D)
Weight = float | dict[str, float]


def guided(field: ConditionalField, conditions: Conditions, values: Values, weight: Weight = 1.0) -> VectorField:
    """The field that the solver sees. `weight == 1` is the plain conditional field, with no extra evaluation."""
    if isinstance(weight, dict):
        return _per_condition(field, conditions, values, weight)
    if weight == 1.0:
        return lambda x, t: field(x, t, values)
    null = conditions.null(values)
    if weight == 0.0:
        return lambda x, t: field(x, t, null)
    return lambda x, t: (1 - weight) * field(x, t, null) + weight * field(x, t, values)


def check_named(conditions: Conditions, weight: Weight) -> None:
    """UserError for a weight of a column that is no condition."""
    if isinstance(weight, dict) and (unknown := set(weight) - set(conditions.names)):
        raise UserError(
            f"sampling.guidance names {', '.join(sorted(unknown))}, but the conditions are: {', '.join(conditions.names)}"
        )


def _per_condition(
    field: ConditionalField, conditions: Conditions, values: Values, weight: dict[str, float]
) -> VectorField:
    check_named(conditions, weight)
    null, weights = conditions.null(values), {name: weight.get(name, 1.0) for name in conditions.names}
    single = {name: conditions.only(values, name) for name, w in weights.items() if w != 0.0}

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        base = field(x, t, null)  # (N, D)
        return base + sum(weights[name] * (field(x, t, only) - base) for name, only in single.items())

    return velocity
