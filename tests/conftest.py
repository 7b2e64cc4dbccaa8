"""Compose the real config tree and run it on small simulated cells."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).parent.parent
CELLS = [
    "data=simulated",
    "data.n_cells=240",
    "data.n_genes=48",
    "data.n_types=3",
    "data.n_batches=2",
    "blocking=random",
]
NETWORK = [
    "backbone.width=16", "backbone.depth=1", "backbone.heads=2", "backbone.latent_width=2", "backbone.velocity_width=16",
    "backbone.velocity_depth=1", "sampling.solver.steps=3", "trainer.limit_steps=4", "training.cells_steps=3",
    "training.trust_groups=2", "figures=false",
]  # fmt: skip


def scores(run: Path) -> Path:
    """The one folder of scores of a run."""
    (found,) = run.glob("scores/*/results.json")
    return found.parent


def results(run: Path) -> dict[str, Any]:
    return json.loads((scores(run) / "results.json").read_text())


@pytest.fixture(autouse=True)
def one_thread():
    """Two test processes on two cores are faster than one that fights itself."""
    torch.set_num_threads(1)


@pytest.fixture
def composed(tmp_path):
    """`composed("task=generation", ...)`: the config tree with these overrides, everything written below tmp_path."""
    from scsave.runs.main import register_resolvers

    register_resolvers()

    def make(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", [f"paths.outputs={tmp_path}/outputs", f"paths.cache={tmp_path}/cache", *overrides])

    return make


@pytest.fixture
def tiny(composed):
    """The same on 240 simulated cells, small networks, four steps a stage."""
    return lambda *overrides, cells=CELLS: composed(*cells, *NETWORK, *overrides)


@pytest.fixture
def stopped_in_flow(monkeypatch):
    """`stopped_in_flow(cfg, folder)`: a run that Ctrl-C ends in the second step of its flow."""
    from scsave.runs.run import run
    from scsave.training.callbacks import GracefulStop

    def stop_early(self, trainer, stage, *args):
        if trainer.global_step == 2 and stage.name == "flow":
            self.stopped = True
            trainer.should_stop = True

    def stopped(cfg: DictConfig, folder: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(GracefulStop, "on_train_batch_end", stop_early)
            with pytest.raises(KeyboardInterrupt):
                run(cfg, folder)

    return stopped


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA_", "SCSAVE_"))}
