"""A checkpoint that can't be used is refused in one line."""

import pytest
import torch

from scsave.errors import UserError
from scsave.models.checkpoint import FORMAT, read_checkpoint, write_checkpoint


def test_what_was_written_is_read(tmp_path):
    content = {"method": "save", "state": {"weight": torch.arange(3.0)}, "info": {"a": [1, None]}}
    write_checkpoint(tmp_path / "model.ckpt", content)
    content = read_checkpoint(tmp_path, "save")
    assert content["format"] == FORMAT
    assert content["info"] == {"a": [1, None]}
    assert torch.equal(content["state"]["weight"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 1, "state": {}}, rf"format 1, this version of scsave reads format {FORMAT}: train again"),
        ({"state": {}}, r"format \?, this version"),
        ([1, 2], "not a checkpoint, but a list: train again"),
        ({"format": FORMAT, "method": "scgen"}, "a checkpoint of method=scgen, not of method=save"),
    ],
)
def test_another_format_is_refused_in_one_line(content, words, tmp_path):
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match=words) as said:
        read_checkpoint(tmp_path, "save")
    assert "\n" not in str(said.value)


def test_a_damaged_file_is_refused_by_its_sum(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", {"method": "save"})
    raw = bytearray((tmp_path / "model.ckpt").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "model.ckpt").write_bytes(raw)
    with pytest.raises(UserError, match=r"its sha256 is not the one in model\.sha256"):
        read_checkpoint(tmp_path, "save")
