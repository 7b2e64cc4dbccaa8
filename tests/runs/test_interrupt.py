"""Ctrl-C as a user presses it: a signal to the process, a checkpoint, a line that says how to go on, and going on."""

import signal
import subprocess
import sys
import time

import pytest

from ..conftest import CELLS, NETWORK, ROOT, clean_environment, results

LONG = [n for n in NETWORK if not n.startswith("trainer.limit_steps")]


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    stages = ["training.autoencoder_steps=100000", "training.flow_steps=4"]
    command = [
        sys.executable,
        "train.py",
        *CELLS,
        *LONG,
        *stages,
        f"paths.outputs={tmp_path}/outputs",
        f"paths.cache={tmp_path}",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 180
    while not list(tmp_path.glob("outputs/*/*/*/*/logs/*/metrics.csv")):  # training has begun
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if "stopped" in line]
    assert len(said) == 1
    assert "stopped in stage autoencoder at step" in said[0]
    (folder,) = {path.parent.parent for path in tmp_path.glob("outputs/*/*/*/*/checkpoints/autoencoder.ckpt")}
    assert f"python train.py resume={folder}" in said[0]
    assert not list(folder.rglob("results.json"))

    (folder / "config.yaml").write_text(  # as if the stage had been 60 steps longer than where it was stopped
        (folder / "config.yaml")
        .read_text()
        .replace("autoencoder_steps: 100000", f"autoencoder_steps: {step(err) + 60}")
    )
    done = subprocess.run(
        [sys.executable, "train.py", f"resume={folder}", f"paths.cache={tmp_path}"],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert results(folder)["cost"]["steps"] == step(err) + 64


def step(err: str) -> int:
    return int(err.split("at step ")[1].split()[0])
