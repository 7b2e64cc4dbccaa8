"""Checkpoints and run folders may be anyone's: a payload in any of their config nodes is refused, and nothing runs."""

import copy

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from omegaconf import OmegaConf

from scsave.blocking.blocks import GeneBlocks
from scsave.compose import compose, plain
from scsave.data import stored_control
from scsave.data.conditions import Conditions
from scsave.data.preprocess import prepared
from scsave.errors import UserError
from scsave.genes.genept import GenePT
from scsave.genes.space import TextSpace, place_of
from scsave.genes.text import LocalText, NCBIText
from scsave.genes.text_vectors import OpenAIVectors, SentenceTransformerVectors
from scsave.genes.vectors import Packaged, RandomVectors
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


# --- places: files and addresses of a stranger's choosing ---
SPACE = {
    "genes": [], "centre": torch.zeros(1), "axes": torch.zeros(1, 1), "at": torch.zeros(0, 1), "spread": 1.0,
    "organism": "human", "ids": {}, "without": [], "use_text": True,
}  # fmt: skip


def test_a_checkpoint_has_no_say_in_where_a_key_is_sent(content, tmp_path):
    openai = {"_target_": "scsave.genes.text_vectors.OpenAIVectors", "url": "http://elsewhere.invalid"}
    nodes = content["nodes"] | {"vectors": openai}
    torch.save(content | {"nodes": nodes, "space": SPACE}, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match=r"vectors\.url: unknown key"):
        Fitted.load(tmp_path)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (Packaged(path="/theirs.npz"), "vectors.path=/theirs.npz"),
        (Packaged(names="/theirs.tsv"), "vectors.names=/theirs.tsv"),
        (GenePT(path="/theirs.pickle"), "vectors.path=/theirs.pickle"),
        (SentenceTransformerVectors(model="them/model"), "vectors.model=them/model"),
        (SentenceTransformerVectors(text=LocalText(path="/theirs.json")), "vectors.text.path=/theirs.json"),
        (OpenAIVectors(text=NCBIText(summary="/theirs.gz")), "vectors.text.summary=/theirs.gz"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_gene_vectors_that_a_checkpoint_names_are_not_opened(source, place):
    space = TextSpace(vectors=source, size=1)
    space.load_state(SPACE | {"genes": ["KLF1"], "at": torch.zeros(1, 1)})
    assert space.place(["KLF1"]).shape == (1, 1)  # what it carries is there
    with pytest.raises(UserError) as said:
        space.place(["GATA1"])
    assert f"{place} is what the checkpoint names for the vector of GATA1" in str(said.value)


def test_packaged_gene_vectors_of_a_checkpoint_are_looked_up():
    for source in (Packaged(cache="/theirs"), RandomVectors(), SentenceTransformerVectors(), GenePT()):
        assert place_of(source) == ""
        space = TextSpace(vectors=source, size=1)
        space.load_state(SPACE)
        assert space.vectors is source
        assert source.cache == "data/cache"


@pytest.mark.parametrize("indices", [[0, 99], [-1, 0], [0, 2**30]])
def test_control_cells_of_a_checkpoint_point_nowhere_else(indices):
    data = prepared(sp.csr_matrix(np.eye(2, dtype=np.float32)), pd.DataFrame({"library_size": [1.0, 1.0]}, index=["a", "b"]),
                    pd.DataFrame(index=["g", "h"]), {})  # fmt: skip
    kept = stored_control.packed(data)
    assert (stored_control.unpacked(kept, ["g", "h"]).layers["counts"] != data.layers["counts"]).nnz == 0
    kept["indices"] = torch.tensor(indices, dtype=torch.int32)
    with pytest.raises(ValueError, match="indices"):
        stored_control.unpacked(kept, ["g", "h"])
    kept = stored_control.packed(data) | {"indptr": torch.tensor([0, 2**20, 2], dtype=torch.int32)}
    with pytest.raises(ValueError, match=r"indptr|index pointer"):
        stored_control.unpacked(kept, ["g", "h"])


def test_a_run_s_config_downloads_from_no_other_address_and_caches_where_the_call_does(config, tmp_path, monkeypatch):
    monkeypatch.setattr(run.naming, "named_on_command_line", lambda key: False)
    for data in ("pancreas", "norman", "pbmc_ifn"):
        kept = plain(compose([f"data={data}", *TINY, "paths.cache=/theirs"]))
        (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(kept)))
        call = OmegaConf.create(config | {"resume": str(tmp_path), "paths": config["paths"] | {"cache": "mine"}})
        found = plain(stored(tmp_path, call))
        assert found["vectors"]["cache"] == found["method"]["vectors"]["cache"] == found["paths"]["cache"] == "mine"
        assert found["data"] == kept["data"]
        kept["data"]["mirrors"][0]["url"] = "http://elsewhere.invalid/x.h5ad"
        (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(kept)))
        with pytest.raises(UserError, match=r"data\.mirrors of the run's config are those of no data set"):
            stored(tmp_path, call)


def test_the_scores_of_a_run_lie_below_it(config, tmp_path):
    cfg = OmegaConf.create(config | {"task": config["task"] | {"name": "../../../x"}})
    with pytest.raises(UserError, match=r"task\.name='\.\./\.\./\.\./x': files are called by it"):
        run.naming.scores_folder(tmp_path, cfg)
