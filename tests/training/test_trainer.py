"""Options of the config group `trainer`."""

import pytest
import torch

from scsave.errors import UserError
from scsave.training.trainer import TrainerOptions


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU here; use trainer=cpu"):
        assert TrainerOptions(accelerator="gpu").device
    assert TrainerOptions(accelerator="auto").device == torch.device("cpu")


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert TrainerOptions(accelerator="gpu").device == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert TrainerOptions(accelerator="gpu").device == torch.device("cuda", 1)
    assert TrainerOptions(accelerator="cpu").device == torch.device("cpu")
