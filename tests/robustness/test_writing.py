"""Disks that are full, folders that can't be written to, files half written: one line, and what was there is whole."""

import errno
import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import torch

from scsave.data.source import build_once
from scsave.errors import UserError
from scsave.files import partial_of, replacing, sweep, write_h5ad, write_json, write_npz, write_text
from scsave.models import checkpoint
from scsave.models.checkpoint import read_checkpoint, summed, write_checkpoint
from scsave.results.style import figure, save
from scsave.runs.folds import write_fold
from scsave.runs.main import entry, plain_faults
from tests.robustness.test_inputs import cells, refused


def picture(path: Path) -> None:
    fig, _ = figure(1, 1, 2, 2)
    save(fig, path)


WRITERS = {
    "text": lambda path: write_text(path, "new" * 1000),
    "json": lambda path: write_json(path, {"new": list(range(1000))}),
    "h5ad": lambda path: write_h5ad(path, cells()),
    "npz": lambda path: write_npz(path, new=np.arange(100_000)),
    "checkpoint": lambda path: write_checkpoint(path, {"state": {"w": torch.randn(50_000)}}),
    "picture": picture,
}
ENDINGS = {"text": "txt", "json": "json", "h5ad": "h5ad", "npz": "npz", "checkpoint": "ckpt", "picture": "png"}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 64 kB, most of it taken; skipped where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 4096):
            pass


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(full_disk, writer):
    path = full_disk / f"result.{ENDINGS[writer]}"
    path.write_text("old")
    fill(full_disk)
    refused(lambda: WRITERS[writer](path), f"{path}: cannot be written (No space left on device)", "make room")
    assert path.read_text() == "old"
    assert left_in(full_disk) == ["ballast", path.name]


def test_a_log_on_a_full_disk_is_no_traceback(full_disk, monkeypatch, capsys):
    monkeypatch.setattr(logging, "raiseExceptions", True)  # as it is before the entry, and put back behind it
    log = logging.FileHandler(full_disk / "train.log")
    fill(full_disk)
    record = logging.LogRecord("scsave", logging.WARNING, "", 0, "said", None, None)
    log.emit(record)
    assert "Traceback" in capsys.readouterr().err
    entry(lambda: log.emit(record))
    assert capsys.readouterr().err == ""
    with suppress(OSError):
        log.close()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_refuses_the_last_step(tmp_path, monkeypatch, writer, code):
    path = tmp_path / f"result.{ENDINGS[writer]}"
    path.write_text("old")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        refused(lambda: WRITERS[writer](path), f"{path}: cannot be written ({os.strerror(code)})")
    assert path.read_text() == "old"
    assert left_in(tmp_path) == [path.name]
    WRITERS[writer](path)
    assert path.read_bytes() != b"old"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_where_the_folder_should_be(tmp_path, writer):
    (tmp_path / "folder").write_text("a file")
    refused(lambda: WRITERS[writer](tmp_path / "folder" / f"x.{ENDINGS[writer]}"), "cannot be written")
    assert (tmp_path / "folder").read_text() == "a file"


def test_a_fold_on_a_disk_that_refuses(tmp_path, monkeypatch):
    from scsave.protocol import Outcome
    from scsave.runs.folds import Fold, read_fold

    fold = Fold(Outcome(scores={"save": {"all": {"r2": 0.5}}}, arrays={"a": np.ones(3)}), {"method": "save"})
    write_fold(tmp_path, fold)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        refused(lambda: write_fold(tmp_path, fold), "No space left")
    assert read_fold(tmp_path).outcome.scores == fold.outcome.scores


def test_prepared_cells_on_a_full_disk(full_disk):
    (full_disk / "cache").mkdir()
    fill(full_disk)

    def build(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["x"] = np.random.default_rng(0).random(100_000)

    refused(lambda: build_once(full_disk / "cache" / "a.h5ad", build), "cannot be written", "paths.cache=")
    assert not list((full_disk / "cache").glob(".a.*.h5ad"))


def test_other_errors_pass_and_leave_nothing(tmp_path):
    def half(path: Path) -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half(tmp_path / "x.txt")
    assert left_in(tmp_path) == []


def test_whoever_writes_it_is_one_line():
    said = r"/out/log: cannot be written \(Read-only file system\); set paths.outputs"
    with pytest.raises(UserError, match=said), plain_faults():
        raise OSError(errno.EROFS, "Read-only file system", "/out/log")
    with pytest.raises(FileNotFoundError), plain_faults():
        raise FileNotFoundError(errno.ENOENT, "a fault of the program", "x")


def test_what_dead_processes_left_is_swept_and_what_live_ones_write_is_not(tmp_path):
    own = partial_of(tmp_path / "scores" / "a.json")
    own.parent.mkdir()
    own.write_text("at work")
    dead = own.with_name(".b.4194399.partial.json")
    dead.write_text("half")
    (tmp_path / "results.json").write_text("{}")
    sweep(tmp_path)
    assert own.exists()
    assert not dead.exists()
    assert (tmp_path / "results.json").exists()


def test_a_checkpoint_that_fails_leaves_the_old_one_with_its_sum(tmp_path):
    path = tmp_path / "model.ckpt"
    write_checkpoint(path, {"method": "m"})

    def half() -> None:
        with summed(path) as partial:
            torch.save({}, partial)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert read_checkpoint(path, "m")["method"] == "m"
    assert left_in(tmp_path) == ["model.ckpt", "model.sha256"]


def test_a_kill_between_a_checkpoint_and_its_sum_leaves_no_sum_that_is_another_s(tmp_path, monkeypatch):
    path = tmp_path / "model.ckpt"
    write_checkpoint(path, {"method": "old"})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"method": "new"})
    assert read_checkpoint(path, "new")["method"] == "new"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    refused(lambda: write_text(tmp_path / "x", "new"), "Permission denied")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("key", ["paths.outputs", "paths.cache"])
def test_the_command_line_says_where_it_could_not_write(tmp_path, key):
    from tests.conftest import CELLS, NETWORK, ROOT, clean_environment

    (tmp_path / "a_file").write_text("mine")
    places = {"paths.outputs": tmp_path / "out", "paths.cache": tmp_path / "cache"} | {key: tmp_path / "a_file" / "x"}
    command = [sys.executable, "train.py", *CELLS, *NETWORK, *(f"{name}={place}" for name, place in places.items())]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "a_file" in lines[0]
    assert "cannot be written" in lines[0]
    assert (tmp_path / "a_file").read_text() == "mine"


def test_cells_are_read_back_as_they_were_written(tmp_path):
    write_h5ad(tmp_path / "a.h5ad", cells())
    assert (anndata.read_h5ad(tmp_path / "a.h5ad").X != cells().X).nnz == 0
