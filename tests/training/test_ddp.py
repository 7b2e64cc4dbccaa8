"""trainer=ddp: the same model and the same cells on any number of processes, scored once."""

import json

import anndata
import numpy as np
import pytest
import torch
import torch.distributed as dist
from scsave.method.units import UNIT, Request, sampled, units_of

from scsave import SAVE
from scsave.errors import UserError
from scsave.method.sample import asked
from scsave.runs.processes import Crew, own_processes, rank_zero
from scsave.runs.run import run

from ..conftest import CELLS, NETWORK
from ..test_cli import train

MANY = ["data.n_cells=1600"]  # test cells: more than one unit, the last one not full


@pytest.fixture
def model(tiny, tmp_path):
    run(tiny("trainer.limit_steps=2"), tmp_path / "run")
    return SAVE.load(tmp_path / "run")


def test_units_are_the_same_whoever_makes_them(model):
    n = 2 * UNIT + 40
    obs = asked(model, n, {"cell_type": "type_A"})
    request = Request(n, model.conditions.encode(obs), seed=5, guidance=1.0)
    whole = sampled(model, request)
    assert whole.counts.shape == (n, len(model.genes))
    for size in (2, 3, 4):
        shares = [units_of(model, request, rank, size) for rank in range(size)]
        dealt = [shares[k % size][k // size] for k in range(3)]
        assert [unit.counts.shape[0] for unit in dealt] == [UNIT, UNIT, 40]
        stacked = np.concatenate([unit.counts.toarray() for unit in dealt])
        assert (stacked == whole.counts.toarray()).all()
        assert (np.concatenate([unit.library for unit in dealt]) == whole.library).all()
    first, second = whole.counts[:UNIT].toarray(), whole.counts[UNIT : 2 * UNIT].toarray()
    assert (first != second).any()  # units draw from streams of their own
    assert (sampled(model, Request(n, request.values, 6, 1.0)).counts != whole.counts).nnz


def test_a_crew_names_the_process_that_failed(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        assert Crew.of_run() is None
        crew = Crew(dist.group.WORLD, 0, 1)
        assert crew.ask(lambda request, rank, size: [request, rank, size], "asked") == ["asked", 0, 1]
        with pytest.raises(RuntimeError, match=r"process 0 of 1 failed:(.|\n)*no memory"):
            crew.ask(lambda *_: (_ for _ in ()).throw(MemoryError("no memory")), "asked")
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "3", "LOCAL_RANK": "0"}, False),  # torchrun
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, False),  # srun
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # Lightning inside a job of one task
    ],
)
def test_which_process_writes(environment, first, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_NTASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_zero() is first


def test_a_launcher_s_worker_can_t_start_processes(monkeypatch):
    import sys

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", object(), raising=False)
    with pytest.raises(UserError, match=r"hydra.launcher.tasks_per_node=2"), own_processes(["seed=1"], 2):
        pass
    with own_processes(["seed=1"], 1):
        assert sys.argv[1:] != ["seed=1"]


@pytest.mark.slow
def test_two_processes_train_as_one_and_share_the_sampling(tmp_path):
    """One sweep of two seeds: jobs that start and end their processes one after the other, beside one on one process."""
    states, scores = {}, {}
    for name, more in (
        ("one", []),
        ("two", ["-m", "trainer=ddp", "trainer.devices=2", "seed=0,1"]),
    ):
        done = train(*more, *CELLS, *NETWORK, *MANY, "sweep_metric=energy", f"paths.outputs={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        jobs = 1 if name == "one" else 2
        assert done.stdout.count("generation on simulated, seed") == jobs  # scored once a job, not once a process
        assert done.stdout.count("generation on simulated:") == jobs
        found = sorted((tmp_path / name).rglob("results.json"))
        assert len(found) == jobs
        for path in found:
            model = SAVE.load(path.parent)
            cells = anndata.read_h5ad(path.parent / "generated.h5ad")
            assert cells.n_obs > UNIT
            assert cells.obs_names.is_unique
            # what the processes made together is what one process makes of the same checkpoint
            seed = json.loads(path.read_text())["seed"]
            alone = model.generate(cells.obs[model.conditions.names], seed=seed)
            assert (alone.X != cells.X).nnz == 0
            if seed == 0:
                states[name] = torch.load(path.parent / "checkpoints/model.ckpt", weights_only=True)["state"]
                scores[name] = cells.layers["counts"].mean()
    for key, value in states["one"].items():
        torch.testing.assert_close(states["two"][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert scores["two"] == pytest.approx(scores["one"], rel=0.02)
