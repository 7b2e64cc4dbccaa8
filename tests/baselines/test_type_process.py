import numpy as np
import pytest
from scipy.stats import pearsonr

from scsave.baselines.levels import Pairs
from scsave.baselines.type_process import TypeProcess, posterior_mean
from scsave.errors import UserError
from scsave.keys import Columns
from tests.baselines.cells import all_training
from tests.metrics.cells import prepared

GENES = 40


def source(**more):
    return Columns(name="t", conditions=["state", "type"], perturbation="state", control="x", cell_type="type", **more)


def cells(types=("A", "B", "C"), n=60, effect=0.8, seed=0, states=("x", "y")):
    """Every type has its own profile; state y multiplies ten genes by the same factor."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(7).gamma(2.0, 3.0, GENES)
    kind, state = np.repeat(types, n * len(states)), np.tile(np.repeat(states, n), len(types))
    rate = np.tile(base, (len(kind), 1))
    for number, name in enumerate(types):
        rate[kind == name, number * 5 : number * 5 + 5] *= 3
    rate[state == "y", 20:30] *= np.exp(effect)
    return prepared(rng.poisson(rate), {"type": kind, "state": state})


def fitted(data, **options):
    head = TypeProcess(**options)
    head.fit(data, all_training(data), source(), seed=0)
    return head


def test_a_shared_effect_is_found_on_a_type_never_treated():
    held = cells(types=("D",), n=200, seed=5)
    head = fitted(cells(n=200))
    control, real = held[held.obs["state"] == "x"], held[held.obs["state"] == "y"]
    truth = np.asarray(real.X.mean(0) - control.X.mean(0)).ravel()
    change = head.change_of(control, "y")
    assert pearsonr(change, truth)[0] > 0.9
    assert (np.asarray(control.X.mean(0)).ravel() + change >= -1e-9).all()


def test_the_line_against_its_formula():
    data = cells()
    head = fitted(data, experts=["line"])
    types = head.pairs("y", "x")
    x = types.control[0] * 0.9 + 0.1
    r = np.array([pearsonr(c, x)[0] for c in types.control])
    w = np.exp((r - r.max()) / 0.05) * np.sqrt(60)
    w /= w.sum()
    c, s = w @ types.control, w @ types.treated
    expected = np.empty(GENES)
    for g in range(GENES):
        above = sum(w[t] * (types.control[t, g] - c[g]) * (types.treated[t, g] - s[g]) for t in range(3)) + 0.1
        below = sum(w[t] * (types.control[t, g] - c[g]) ** 2 for t in range(3)) + 0.1
        rises = s[g] + above / below * (x[g] - c[g]) - x[g]
        falls = (s[g] - c[g]) * (x[g] + 0.02) / (c[g] + 0.02)
        expected[g] = max(falls if s[g] < c[g] else rises, -x[g])
    assert head.of_profile(x, types) == pytest.approx(expected)


def test_the_process_returns_a_seen_response_without_noise_and_shrinks_with_it():
    rng = np.random.default_rng(0)
    y, base = rng.normal(size=(6, 4)), rng.normal(size=(6, 4, 4))
    kernel = base @ base.transpose(0, 2, 1) + 0.1 * np.eye(4)
    assert posterior_mean(kernel, kernel[:, 2], y, np.zeros((6, 4))) == pytest.approx(y[:, 2])
    assert np.abs(posterior_mean(kernel, kernel[:, 2], y, np.full((6, 4), 1e9))).max() < 1e-6


def test_noise_of_a_change_is_that_of_two_means():
    means, n = [np.full((2, 3), v) for v in (0.0, 1.0, 2.0, 4.0)], [np.array([4.0, 8]), np.array([2.0, 1])]
    types = Pairs(["a", "b"], *means[:2], *n, *means[2:])
    assert types.noise[0] == pytest.approx(2 / 4 + 4 / 2)
    assert types.noise[1] == pytest.approx(2 / 8 + 4 / 1)


def test_state_survives_a_checkpoint(tmp_path):
    data = cells()
    head, other = fitted(data), TypeProcess()
    assert not other.restore(tmp_path)
    head.save(tmp_path)
    assert other.restore(tmp_path)
    control = data[data.obs["state"] == "x"]
    assert (other.change_of(control, "y") == head.change_of(control, "y")).all()


def test_the_held_out_type_may_be_anything_but_itself_seen():
    """Its control cells are in training; nothing else is, and another training gives another answer."""
    data = cells(types=("A", "B", "D"))
    held = (data.obs["type"] == "D") & (data.obs["state"] == "y")
    head = fitted(data[~held].copy())
    assert len(head.pairs("y", "x").control) == 2


def test_mistakes_get_one_line():
    data = cells()
    head = fitted(data)
    with pytest.raises(UserError, match="no training cell has state=q; levels seen in training: y"):
        head.change_of(data[data.obs["state"] == "x"], "q")
    with pytest.raises(UserError, match="one training level is expected"):
        head.change_of(data, "y")
    apart = fitted(data[(data.obs["type"] == "A") == (data.obs["state"] == "x")].copy())
    with pytest.raises(UserError, match="no training type has 2 or more cells under both state=x and state=y"):
        apart.change_of(data[data.obs["state"] == "x"], "y")
    with pytest.raises(UserError, match="experts: nonsense; it takes"):
        TypeProcess(experts=["nonsense"])
    with pytest.raises(UserError, match="no training cell has state=x; levels: y"):
        fitted(data[data.obs["state"] == "y"].copy())


def test_types_without_a_column_are_one_type():
    data = cells()
    head = TypeProcess()
    columns = Columns(name="t", conditions=["state"], perturbation="state", control="x")
    head.fit(data, all_training(data), columns, seed=0)
    control = data[data.obs["state"] == "x"]
    change = head.change_of(control, "y")
    truth = np.asarray(data[data.obs["state"] == "y"].X.mean(0) - control.X.mean(0)).ravel()
    assert pearsonr(change, truth)[0] > 0.95


def test_the_rate_process_carries_ratios_over_and_the_process_differences():
    """Every gene is multiplied by a factor of its own in all types, whose levels differ tenfold."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(2, 5, size=(8, 200)) * rng.uniform(0.3, 3, size=(8, 1))
    factor = np.exp(rng.normal(size=200))
    control, treated = np.log1p(rates), np.log1p(rates * factor)
    n, variance = np.full(7, 300.0), np.full((7, 200), 0.1)
    types = Pairs(list("bcdefgh"), control[1:], treated[1:], n, n, variance, variance)
    truth, head = treated[0] - control[0], TypeProcess()
    missed = [np.square(expert(control[0], types) - truth).mean() for expert in (head.rate_process, head.process)]
    assert missed[0] < 0.75 * missed[1]
    assert missed[0] < 0.05 * np.square(truth).mean()
