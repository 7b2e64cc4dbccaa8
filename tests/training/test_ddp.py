"""trainer=ddp: the same model on any number of processes, scored once."""

import json

import anndata
import pytest
import torch

from scsave.errors import UserError
from scsave.progress import rank_zero
from scsave.runs.processes import own_processes

from ..conftest import CELLS, NETWORK
from ..test_cli import train


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
def test_two_processes_train_as_one(tmp_path):
    """One sweep of two seeds: jobs that start and end their processes one after the other, beside one on one process."""
    states, means = {}, {}
    for name, more in (
        ("one", []),
        ("two", ["-m", "trainer=ddp", "trainer.devices=2", "seed=0,1"]),
    ):
        # what thinning draws differs between processes, and a batch of all cells has to be even
        small = [
            *CELLS,
            *NETWORK,
            "training.thinning=1",
            "training.flow_batch_size=64",
            f"paths.outputs={tmp_path / name}",
        ]
        done = train(*more, *small, "sweep_metric=energy")
        assert done.returncode == 0, done.stderr
        jobs = 1 if name == "one" else 2
        assert done.stdout.count("generation on simulated, seed") == jobs  # scored once a job, not once a process
        assert done.stdout.count("generation on simulated:") == jobs
        found = sorted((tmp_path / name).rglob("results.json"))
        assert len(found) == jobs
        for path in found:
            if json.loads(path.read_text())["seed"] == 0:
                (ckpt,) = path.parents[2].rglob("model.ckpt")
                states[name] = torch.load(ckpt, weights_only=True)["state"]
                means[name] = anndata.read_h5ad(path.parent / "generated.h5ad").layers["counts"].mean()
    for key, value in states["one"].items():
        torch.testing.assert_close(states["two"][key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert means["two"] == pytest.approx(means["one"], rel=0.02)


@pytest.mark.slow
def test_a_failed_job_does_not_end_the_next_one(tmp_path):
    """Both jobs of a sweep run, and fail in their second fit; Hydra tells of the first."""
    small = [*CELLS, *NETWORK, f"paths.outputs={tmp_path}", "training.flow_lr=1e30"]
    done = train("-m", "trainer=ddp", "trainer.devices=2", "seed=0,1", *small)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("generation on simulated:") == 2
    assert "error: stage flow: the loss is nan" in done.stderr
