"""When a stage ends: never early by default, when its score is flat, when its time is up; and again as it did."""

from types import SimpleNamespace

import pytest
import torch

from scsave.flow.paths import CFM
from scsave.training import callbacks
from scsave.training.fitting import fit_stages
from scsave.training.options import FitOptions
from scsave.training.plan import TwoStage
from tests.models.test_model import model_of
from tests.training.test_fitting import Watch, rows

PARTS = frozenset({"autoencoder"})


def fit(folder=None, watch=None, **plan):
    """Weights of the autoencoder and the cost of its fit."""
    model, _ = model_of()
    data = rows(model.conditions)
    plan = TwoStage(**{"autoencoder_steps": 30, "batch_size": 8, "val_every": 4, "warmup_steps": 2} | plan)
    options = FitOptions(parts=PARTS, folder=folder, callbacks=[watch] if watch else [], checkpoint_every=4)
    cost = fit_stages(model, plan, CFM(), data, data, options, seed=5)
    return model.state_dict(), {key: cost[f"autoencoder_{key}"] for key in ("steps", "cooled_from", "ended_by")}


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def clock(monkeypatch):
    """A step takes one second."""
    now = iter(range(10**6))
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: float(next(now))))


def test_by_default_a_stage_has_all_its_steps():
    _, cost = fit(tolerance=10.0)
    assert cost == {"steps": 30, "cooled_from": None, "ended_by": "steps"}


def test_the_cooldown_begins_when_the_score_is_flat():
    _, cost = fit(patience=2, tolerance=10.0)  # no gain counts: the looks at 8 and 12 are in vain
    assert cost == {"steps": 18, "cooled_from": 12, "ended_by": "the validation score has flattened"}


@pytest.mark.parametrize("schedule", ["cosine", "cooldown"])
def test_max_minutes_ends_a_stage_and_cool_from_replays_it(clock, schedule):
    timed, cost = fit(max_minutes=10 / 60, schedule=schedule)
    assert cost == {"steps": 10, "cooled_from": 7, "ended_by": "its time was up"}
    replayed, again = fit(cool_from={"autoencoder": 7}, schedule=schedule)
    assert (again["steps"], again["cooled_from"]) == (10, 7)
    assert same(timed, replayed)


@pytest.mark.parametrize("until", [5, 9])  # before the cooldown, and in it
def test_a_budget_is_counted_over_resumes_and_an_ended_stage_goes_on_no_further(clock, until, tmp_path):
    plan = {"max_minutes": 10 / 60}
    whole, _ = fit(tmp_path / "whole", **plan)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "parts", Watch("autoencoder", until), **plan)
    resumed, cost = fit(tmp_path / "parts", **plan)
    assert cost["steps"] == 10
    assert same(whole, resumed)
    again, cost = fit(tmp_path / "parts", **plan)
    assert cost == {"steps": 10, "cooled_from": 7, "ended_by": "its time was up"}
    assert same(whole, again)


@pytest.mark.parametrize("until", [8, 10, 17])  # 8: the checkpoint of the step that is validated next
def test_patience_survives_a_kill(until, tmp_path):
    plan = {"patience": 2, "tolerance": 10.0, "calibrate_dispersion": False}
    whole, ended = fit(tmp_path / "whole", **plan)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "parts", Watch("autoencoder", until), **plan)
    resumed, cost = fit(tmp_path / "parts", **plan)
    assert cost == ended
    assert same(whole, resumed)
    again, cost = fit(tmp_path / "parts", **plan)
    assert cost == ended
    assert same(whole, again)
