"""A run that is killed without warning, wherever it is, and gone on with, ends as one that never was."""

import contextlib
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
]  # fmt: skip
# Runs that begin at once: what a run imports is imported before, and each is a fork.
STARTER = """
import json, os, runpy, sys
import anndata, hydra, lightning, matplotlib.pyplot, ot, scanpy, torch, torchcfm, torchdiffeq
import lightning.pytorch.callbacks, lightning.pytorch.loggers
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    arguments, said = json.loads(line)
    pid = os.fork()
    if not pid:
        sys.stdin.close()
        file = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code, sys.argv = 0, ["train.py", *arguments]
        try:
            runpy.run_path("train.py", run_name="__main__")
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def steps_of(folder, stage):
    """Steps in a stage's checkpoint, -1 where there is none (or it is being replaced)."""
    with contextlib.suppress(OSError, RuntimeError, EOFError):
        return torch.load(folder / "checkpoints" / f"{stage}.ckpt", weights_only=True)["global_step"]
    return -1


def at_step(stage, step):
    return lambda folder, below: folder is not None and steps_of(folder, stage) >= step


def has(pattern):
    return lambda folder, below: folder is not None and any(folder.glob(pattern))


# What lies in the run's folder, or beside it, when it is killed.
TRAINED = has("checkpoints/model.ckpt")
GENERATION = {
    "preparation": lambda folder, below: any((below / "cache" / "prepared").glob("*.lock")),
    "before the first step": has("config.yaml"),
    "autoencoder": at_step("autoencoder", 5),
    "autoencoder, at a validation": at_step("autoencoder", 20),
    "between the stages": at_step("autoencoder", 40),
    "flow": at_step("flow", 5),
    "flow, later": at_step("flow", 25),
    "weights written": TRAINED,
    "scoring": has("scores/*/generated.h5ad"),
    "figures": has("scores/*/results.json"),
}
CORRECTION = {
    "joint": at_step("joint", 5),
    "joint, later": at_step("joint", 25),
    "between joint and head": at_step("joint", 40),
    "head": at_step("head", 10),
    "before scoring": TRAINED,
}
# Two and a half minutes alone: the runs, the moments at which they are killed, where both are compared (None: at their end).
RUNS = {
    "two stages, generation": (["task=generation", "figures=true"], GENERATION, None),
    "joint and head, batch correction": (["task=batch_correction", "training=joint"], CORRECTION, TRAINED),
}


class Runs:
    """`train.py` in forks of one process; `below` is where everything of them is written."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=clean_environment() | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def run(self, arguments, below, until=None):
        """One run, killed by SIGKILL as soon as `until(folder, below)`; else to its end. Its folder."""
        said = below / "said.txt"
        print(json.dumps([[*arguments, f"paths.cache={below}/cache"], str(said)]), file=self.process.stdin, flush=True)
        pid, deadline = int(self.process.stdout.readline()), time.monotonic() + 300
        if until is not None:
            while not until(folder_of(below), below):
                assert os.path.exists(f"/proc/{pid}"), said.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(pid, signal.SIGKILL)
        code = int(self.process.stdout.readline())
        assert code == (0 if until is None else -signal.SIGKILL), said.read_text()
        return folder_of(below)


@pytest.fixture
def runs():
    made = Runs()
    yield made
    made.process.stdin.close()
    made.process.wait(timeout=60)


def folder_of(below):
    found = list(below.glob("outputs/*/*/*/*/config.yaml"))
    return found[0].parent if found else None


def left(folder):
    """Weights and scores of a run."""
    state = torch.load(folder / "checkpoints" / "model.ckpt", weights_only=True)["state"]
    scores = [json.loads(path.read_text())["metrics"] for path in folder.glob("scores/*/results.json")]
    return state, scores


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_every_moment_ends_as_one_that_was_not(name, runs, tmp_path):
    asked, moments, end = RUNS[name]
    network = [item for item in NETWORK if not item.startswith(("trainer.limit_steps", "figures"))]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for below in (whole, killed):
        below.mkdir()
    command = [*CELLS, *network, *STEPS, *asked]
    state, scores = left(runs.run([*command, f"paths.outputs={whole}/outputs", "figures=false"], whole, end))
    for moment, reached in moments.items():
        folder = folder_of(killed)
        again = [f"resume={folder}"] if folder else [*command, f"paths.outputs={killed}/outputs"]
        try:
            runs.run(again, killed, reached)
        except AssertionError as error:
            raise AssertionError(moment) from error
    resumed, scored = left(runs.run([f"resume={folder_of(killed)}", "figures=false"], killed, end))
    assert state.keys() == resumed.keys()
    assert all(torch.equal(state[name], resumed[name]) for name in state)
    assert scored == scores
    if end is None:
        assert len(scores) == 1
        assert not list(folder_of(killed).rglob(".*.partial*"))  # what the killed ones left is swept
        assert not list((killed / "cache").rglob(".*.h5ad"))
