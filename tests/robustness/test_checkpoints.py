"""Checkpoints of a model and of a stage that are damaged, half there or of other networks: one line, nothing is loaded."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scsave.method.fitted import CONTENT, Fitted
from scsave.models.checkpoint import write_checkpoint
from scsave.training.callbacks import StageCheckpoint
from tests.robustness.test_inputs import refused
from tests.robustness.test_security import config, content  # noqa: F401


def kept(tmp_path, content):  # noqa: F811
    write_checkpoint(tmp_path / "model.ckpt", {key: value for key, value in content.items() if key != "format"})
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize("missing", CONTENT)
def test_a_model_that_lacks_a_part(tmp_path, content, missing):  # noqa: F811
    path = kept(tmp_path, {key: value for key, value in content.items() if key != missing})
    refused(lambda: Fitted.load(tmp_path), f"{path}: not a whole checkpoint, it lacks {missing}")


def test_a_model_of_another_shape(tmp_path, content):  # noqa: F811
    state = dict(content["state"])
    name = next(name for name in state if state[name].ndim == 2)
    state[name] = torch.zeros(3, 5)
    kept(tmp_path, content | {"state": state})
    refused(lambda: Fitted.load(tmp_path), "not the weights of this model", name, "is (3, 5), not")
    del state[name]
    kept(tmp_path, content | {"state": state})
    refused(lambda: Fitted.load(tmp_path), f"{name} is none, not")
    kept(tmp_path, content | {"state": "weights"})
    refused(lambda: Fitted.load(tmp_path), "not the weights of this model")


@pytest.mark.parametrize("part", ["blocks", "conditions", "info", "nodes"])
def test_a_model_with_a_part_of_another_kind(tmp_path, content, part):  # noqa: F811
    kept(tmp_path, content | {part: copy.deepcopy("text")})
    refused(lambda: Fitted.load(tmp_path), "not a whole checkpoint")


@pytest.mark.parametrize("said", [b"", b"\n", b"\xff\xfe\x00", b"not a sum"])
def test_a_sum_that_is_none(tmp_path, content, said):  # noqa: F811
    path = kept(tmp_path, content)
    path.with_suffix(".sha256").write_bytes(said)
    refused(lambda: Fitted.load(tmp_path), "its sha256 is not the one in model.sha256")


@pytest.mark.parametrize("bad", [b"", b"PK", b"\x80\x02text"])
def test_a_file_that_is_no_checkpoint(tmp_path, bad):
    (tmp_path / "model.ckpt").write_bytes(bad)
    refused(lambda: Fitted.load(tmp_path), "not a checkpoint that can be read")


def test_a_checkpoint_that_is_a_list(tmp_path):
    torch.save([1, 2], tmp_path / "model.ckpt")
    refused(lambda: Fitted.load(tmp_path), "not a checkpoint, but a list")


class Stage(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer, self.name = nn.Linear(3, width), "autoencoder"


def stage_kept(folder):
    """What a run leaves of a stage, written as a run does."""
    keeps, module = StageCheckpoint(folder, 5), Stage()
    trainer = SimpleNamespace(
        is_global_zero=True,
        strategy=SimpleNamespace(barrier=lambda name: None),
        save_checkpoint=lambda path: torch.save({"state_dict": module.state_dict(), "global_step": 7}, path),
    )
    keeps._write(trainer, module)
    return keeps, module


def test_a_stage_is_found_again(tmp_path):
    assert StageCheckpoint(tmp_path, 5).found(Stage()) is None
    keeps, module = stage_kept(tmp_path)
    assert keeps.found(module) == tmp_path / "autoencoder.ckpt"
    assert {path.name for path in tmp_path.iterdir()} == {"autoencoder.ckpt", "autoencoder.sha256"}


@pytest.mark.parametrize("fault", ["empty", "truncated", "a flipped byte", "another width", "no weights"])
def test_a_stage_that_cannot_be_gone_on_with(tmp_path, fault):
    keeps, module = stage_kept(tmp_path)
    path, words = tmp_path / "autoencoder.ckpt", ["its sha256 is not"]
    whole = path.read_bytes()
    if fault == "empty":
        path.write_bytes(b"")
    elif fault == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif fault == "a flipped byte":
        path.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    elif fault == "another width":
        module, words = Stage(9), ["not the weights of this model (layer.weight is (4, 3), not (9, 3))"]
    else:
        torch.save({"global_step": 7}, path)
        path.with_suffix(".sha256").unlink()
        words = ["not the weights of this model"]
    refused(lambda: keeps.found(module), str(path), *words, "delete it to train this stage from its beginning")
    if fault in ("empty", "truncated"):  # of a run of an earlier version, without a sum
        path.with_suffix(".sha256").unlink()
        refused(lambda: keeps.found(module), "not a checkpoint that can be read")
