"""Options of the config group `trainer`."""

from pathlib import Path

import pytest
import torch

from scsave.errors import UserError
from scsave.training.trainer import TrainerOptions


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU here; use trainer=cpu"):
        TrainerOptions(accelerator="gpu").build(1, 1, None, [], [], Path("."))
