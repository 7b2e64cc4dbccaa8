"""A checkpoint that can't be used is refused in one line."""

import pytest
import torch

from scsave.errors import UserError
from scsave.models.checkpoint import FORMAT, read_checkpoint, write_checkpoint


def test_what_was_written_is_read(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", {"state": {"weight": torch.arange(3.0)}, "info": {"a": [1, None]}})
    content = read_checkpoint(tmp_path)
    assert content["format"] == FORMAT
    assert content["info"] == {"a": [1, None]}
    assert torch.equal(content["state"]["weight"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 1, "state": {}}, f"of format 1, this version of scsave reads {FORMAT}; train again"),
        ({"state": {}}, "not a checkpoint of scsave"),
        ([1, 2], "not a checkpoint of scsave"),
    ],
)
def test_another_format_is_refused_in_one_line(content, words, tmp_path):
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match=words) as said:
        read_checkpoint(tmp_path)
    assert "\n" not in str(said.value)
