"""A checkpoint that can't be used is refused in one line."""

import pytest
import torch

from scsave.errors import UserError
from scsave.models.checkpoint import FORMAT, read_checkpoint, write_checkpoint


def test_what_was_written_is_read(tmp_path):
    written = {"method": "save", "state": {"weight": torch.arange(3.0)}, "info": {"a": [1, None]}}
    write_checkpoint(tmp_path / "model.ckpt", written)
    content = read_checkpoint(tmp_path, "save")
    assert content["format"] == FORMAT
    assert content["info"] == {"a": [1, None]}
    assert torch.equal(content["state"]["weight"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 1, "state": {}}, f"format 1, this version of scsave reads format {FORMAT}: train again"),
        ({"state": {}}, f"format [?], this version of scsave reads format {FORMAT}"),
        ([1, 2], f"format [?], this version of scsave reads format {FORMAT}"),
        ({"format": FORMAT, "method": "scvi"}, "a checkpoint of method=scvi, not of method=save"),
    ],
)
def test_another_s_or_an_older_one_is_refused_in_one_line(content, words, tmp_path):
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(UserError, match=words) as said:
        read_checkpoint(tmp_path, "save")
    assert "\n" not in str(said.value)
