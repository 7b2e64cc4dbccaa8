"""Checkpoints and run folders may be anyone's: a payload in any of their config nodes is refused, and nothing runs."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from scsave.blocking.blocks import GeneBlocks
from scsave.compose import compose, plain
from scsave.data.conditions import Conditions
from scsave.errors import UserError
from scsave.method.fitted import Fitted
from scsave.runs import run
from scsave.runs.config import validated
from scsave.runs.run import stored

KEPT = ("backbone", "likelihood", "objective", "sampling", "vectors")
TINY = [
    "backbone.width=8", "backbone.depth=1", "backbone.heads=2", "backbone.latent_width=2", "backbone.velocity_width=8",
    "backbone.velocity_depth=1",
]  # fmt: skip


def payloads(mark):
    """Nodes that would leave `mark` behind, were any of them built."""
    return {
        "os.system": {"_target_": "os.system", "command": f"touch {mark}"},
        "sympy.sympify": {"_target_": "sympy.sympify", "a": f"__import__('os').system('touch {mark}')"},
        "pandas.read_pickle": {"_target_": "pandas.read_pickle", "filepath_or_buffer": f"{mark}.pkl"},
        "CountsWriter": {"_target_": "scsave.data.source.CountsWriter", "path": str(mark)},
        "FileHandler": {"_target_": "scsave.runs.run.logging.FileHandler", "filename": str(mark)},
        "Path": {"_target_": "pathlib.Path", "_args_": [str(mark)]},
    }


NAMES = list(payloads("x"))


@pytest.fixture(scope="module")
def config():
    return plain(compose(["data=simulated", *TINY]))


@pytest.fixture(scope="module")
def content(config, tmp_path_factory):
    """What an honest checkpoint holds."""
    obs = pd.DataFrame({"batch": ["1", "2"]})
    blocks = GeneBlocks(tuple("abcdef"), np.arange(6) % 2, "test", {})
    nodes = {name: config[name] for name in KEPT}
    model = Fitted.assemble(nodes, blocks, Conditions.fit(obs, ["batch"]), ["batch"], None, 0)
    model.info = {"perturbation": None, "parts": []}
    path = model.save(tmp_path_factory.mktemp("honest"))
    Fitted.load(path)  # it can be used
    return torch.load(path, weights_only=True)


def refused(act, name, mark):
    with pytest.raises(UserError) as said:
        act()
    assert "\n" not in str(said.value)
    assert payloads(mark)[name]["_target_"] in str(said.value)
    assert not mark.exists()


SLOTS = {
    "backbone": lambda nodes, node: nodes.update(backbone=node),
    "likelihood": lambda nodes, node: nodes.update(likelihood=node),
    "objective": lambda nodes, node: nodes.update(objective=node),
    "solver": lambda nodes, node: nodes["sampling"].update(solver=node),
    "guidance": lambda nodes, node: nodes["sampling"].update(guidance=node),
    "vectors": lambda nodes, node: nodes.update(vectors=node),
    "in a dict": lambda nodes, node: nodes["backbone"].update(told={"a": {"b": node}}),
    "in a list": lambda nodes, node: nodes["backbone"].update(told=[["batch"], [node]]),
    "in an argument": lambda nodes, node: nodes["sampling"]["solver"].update(steps=node),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slot", SLOTS)
def test_a_payload_in_a_checkpoint_is_refused(slot, name, content, tmp_path):
    mark, poisoned = tmp_path / "mark", {**content, "nodes": copy.deepcopy(content["nodes"])}
    SLOTS[slot](poisoned["nodes"], payloads(mark)[name])
    torch.save(poisoned, tmp_path / "model.ckpt")
    refused(lambda: Fitted.load(tmp_path), name, mark)


def test_a_checkpoint_that_holds_objects_is_not_read(tmp_path):
    class Payload:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path}/mark",)

    torch.save({"format": 2, "method": "save", "nodes": Payload()}, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match="not a checkpoint that can be read"):
        Fitted.load(tmp_path)
    assert not (tmp_path / "mark").exists()


GROUPS = ("task", "data", "split", "method", "trainer", "logger", "vectors", "backbone", "training", "analysis")
PLACES = {
    **{name: (name,) for name in GROUPS},
    "callbacks.extra": ("callbacks", "extra"),
    "references": ("task", "references"),
    "argument of the data": ("data", "path"),
    "training.then": ("training", "then"),
    "trainer.options": ("trainer", "options"),
    "method.sampling": ("method", "sampling", "solver"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_a_payload_in_the_config_of_a_run_folder_is_refused(place, name, config, tmp_path, monkeypatch):
    monkeypatch.setattr(run.naming, "named_on_command_line", lambda key: False)
    mark, poisoned = tmp_path / "mark", copy.deepcopy(config)
    node, inside = payloads(mark)[name], poisoned
    for key in PLACES[place][:-1]:
        inside = inside[key]
    inside[PLACES[place][-1]] = {"x": node} if PLACES[place][-1] in ("extra", "references", "options") else node
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(poisoned)))
    call = OmegaConf.create(config | {"resume": str(tmp_path)})
    # what a call decides for itself is not taken from the folder at all
    kept = stored(tmp_path, call)
    taken = OmegaConf.select(kept, ".".join(PLACES[place]))
    if place in ("analysis",):
        assert taken is None
        return
    refused(lambda: validated(kept), name, mark)


def test_a_config_of_a_run_folder_makes_no_objects(config, tmp_path):
    (tmp_path / "config.yaml").write_text(f"task: !!python/object/apply:os.system ['touch {tmp_path}/mark']\n")
    with pytest.raises(UserError, match=r"no config that a run wrote .*could not determine a constructor"):
        stored(tmp_path, OmegaConf.create(config | {"resume": str(tmp_path)}))
    assert not (tmp_path / "mark").exists()
