"""Checks of a file before anything is read from it (is it what its name says?), and checksums that are remembered."""

import hashlib
from pathlib import Path
from typing import Any

from filelock import FileLock

from scsave.errors import UserError
from scsave.files import read_json, write_json

HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_SUFFIXES = (".h5ad", ".loom")
LARGE = 64 * 2**20  # bytes above which a sum is remembered by the file's path, size and time


def looks_like_html(path: Path) -> bool:
    """A web page where data was expected (an error page, a login, a browser challenge)."""
    with open(path, "rb") as file:
        head = file.read(512).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def check_hdf5(path: Path, members: set[str]) -> None:
    """Raises UserError unless `path` is a whole HDF5 file that has `members` at its top. Reads no matrix."""
    import h5py

    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give data.path=<an existing file>")
    if looks_like_html(path):
        raise UserError(f"{path}: this is an HTML page, not an h5ad file; delete it and download it with a browser")
    with open(path, "rb") as file:
        head = file.read(8)
    if head != HDF5:
        raise UserError(f"{path}: not an HDF5 file (it starts with {head!r}); give an .h5ad file")
    try:
        with h5py.File(path, "r") as file:
            names, elsewhere = set(file), _elsewhere(file)
    except Exception as error:  # a damaged header may raise anything
        raise UserError(f"{path}: truncated or damaged h5ad ({error}); delete it and get it again") from error
    if elsewhere:  # a stranger's file would have a file of its choosing read
        raise UserError(f"{path}: {elsewhere} lies in another file, which is not opened; write one that holds all")
    if not members <= names:
        there = ", ".join(sorted(names)) or "nothing"
        raise UserError(f"{path}: not the layout expected: it holds {there}, not {' and '.join(sorted(members))}")


def _elsewhere(file: Any) -> str:
    """The first name in an HDF5 file whose values lie in another file; "" where there is none."""
    import h5py

    def linked(name: str, link: Any) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def stored(name: str, node: Any) -> str | None:
        return name if isinstance(node, h5py.Dataset) and (node.external or node.is_virtual) else None

    return file.visititems_links(linked) or file.visititems(stored) or ""


def file_checksum(path: Path, algorithm: str = "sha256") -> str:
    """`algorithm:hex` of the whole file, read in pieces."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give data.path=<an existing file>")
    with open(path, "rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def remembered_checksum(path: Path, cache: Path) -> str:
    """sha256 of a file; a large one is summed again only after it changed size or time.

    Of a folder (a zarr store, too many files to read them all): over names, sizes and times of all files below it.
    """
    path = Path(path)
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            stat = file.stat()
            digest.update(f"{file.relative_to(path)}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        return f"sha256:{digest.hexdigest()}"
    if not path.is_file() or path.stat().st_size < LARGE:
        return file_checksum(path)
    stat, memory = path.stat(), cache / "sums.json"
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    if key not in read_json(memory):
        found = file_checksum(path)
        memory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(memory.with_name(".sums.json.lock")):
            write_json(memory, read_json(memory) | {key: found})
    return read_json(memory)[key]
