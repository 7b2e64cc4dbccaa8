"""A run that is killed without warning, wherever it is, and gone on with, ends as one that never was."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.conftest import CELLS, NETWORK, ROOT, clean_environment

STEPS = [
    "trainer.limit_steps=40", "training.val_every=10", "callbacks.checkpoint_every=5", "training.patience=50",
    "task=generation",
]  # fmt: skip
# What lies in the run's folder when it is killed.
MOMENTS = {
    "autoencoder": lambda folder: steps_of(folder, "autoencoder") >= 5,
    "between the stages": lambda folder: steps_of(folder, "autoencoder") >= 40,
    "flow": lambda folder: steps_of(folder, "flow") >= 5,
    "scoring": lambda folder: (folder / "checkpoints" / "model.ckpt").exists(),
}


def steps_of(folder, stage):
    path = folder / "checkpoints" / f"{stage}.ckpt"
    return torch.load(path, weights_only=True)["global_step"] if path.exists() else -1


def command(below, *more):
    network = [item for item in NETWORK if not item.startswith("trainer.limit_steps")]
    given = more or (*CELLS, *network, *STEPS, f"paths.outputs={below}/outputs")
    return [sys.executable, "train.py", *given, f"paths.cache={below}/cache"]


def environment():
    return clean_environment() | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def folder_of(below):
    found = list(below.glob("outputs/*/*/*/*/config.yaml"))
    return found[0].parent if found else None


def finished(below, *more):
    done = subprocess.run(
        command(below, *more), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    folder = folder_of(below)
    (results,) = folder.glob("scores/*/results.json")
    state = torch.load(folder / "checkpoints" / "model.ckpt", weights_only=True)["state"]
    return state, json.loads(results.read_text())["metrics"]


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_as_one_that_was_not(tmp_path):
    state, scores = finished(tmp_path / "whole")
    below, folder = tmp_path / "killed", None
    for moment, reached in MOMENTS.items():
        more = () if folder is None else (f"resume={folder}",)
        process = subprocess.Popen(
            command(below, *more), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 200
        while (folder := folder_of(below)) is None or not reached(folder):
            assert process.poll() is None, (moment, process.communicate())
            assert time.monotonic() < deadline, moment
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    resumed, again = finished(below, f"resume={folder}")
    assert state.keys() == resumed.keys()
    assert all(torch.equal(state[name], resumed[name]) for name in state)
    assert again == scores
