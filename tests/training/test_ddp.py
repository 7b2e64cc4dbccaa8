"""trainer=ddp: the same model on any number of processes, scored once."""

import json

import anndata
import pytest
import torch
import torch.distributed as dist

from scsave import SAVE, keys
from scsave.errors import UserError
from scsave.method.sample import UNIT
from scsave.runs.processes import Crew, own_processes, rank_zero
from scsave.runs.run import run

from ..conftest import CELLS, NETWORK
from ..test_cli import train

MANY = ["data.n_cells=1600"]  # test cells: more than one unit, the last one not full


@pytest.fixture
def model(tiny, tmp_path):
    run(tiny("trainer.limit_steps=2"), tmp_path / "run")
    return SAVE.load(tmp_path / "run")


def test_cells_are_drawn_a_unit_at_a_time_from_streams_of_their_own(model):
    n, condition = 2 * UNIT + 40, {"cell_type": "type_A"}
    whole = model.generate(n, condition, seed=5).layers[keys.COUNTS].toarray()
    assert whole.shape == (n, len(model.genes))
    assert (model.generate(UNIT, condition, seed=5).layers[keys.COUNTS].toarray() == whole[:UNIT]).all()
    assert (whole[:UNIT] != whole[UNIT : 2 * UNIT]).any()
    assert (model.generate(n, condition, seed=6).layers[keys.COUNTS].toarray() != whole).any()


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
def test_two_processes_train_as_one_and_score_once(tmp_path):
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
            folder = path.parents[2]  # <weights>/scores/<task>-<hash>/results.json
            model = SAVE.load(folder)
            cells = anndata.read_h5ad(path.parent / "generated.h5ad")
            assert cells.n_obs > UNIT
            assert cells.obs_names.is_unique
            # what was scored is what one process makes of the checkpoint
            seed = json.loads(path.read_text())["seed"]
            alone = model.generate(cells.obs[list(model.conditions)], seed=seed)
            assert (alone.X != cells.X).nnz == 0
            if seed == 0:
                states[name] = torch.load(folder / "checkpoints/model.ckpt", weights_only=True)["state"]
                scores[name] = cells.layers["counts"].mean()
    for key, value in states["one"].items():
        torch.testing.assert_close(states["two"][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert scores["two"] == pytest.approx(scores["one"], rel=0.02)
