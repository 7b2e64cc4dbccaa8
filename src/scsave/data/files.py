"""Reading a local file that may not be what its name says."""

import hashlib
import warnings
from pathlib import Path

import anndata
from anndata import AnnData

from scsave.errors import UserError

HDF5 = b"\x89HDF\r\n\x1a\n"


def looks_like_html(path: Path) -> bool:
    """A web page where data was expected (an error page, a login, a browser challenge)."""
    with open(path, "rb") as file:
        head = file.read(512).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))


def check_h5ad(path: Path) -> None:
    """Raises UserError unless `path` is a whole HDF5 file with AnnData inside. Reads no matrix."""
    import h5py

    if not path.is_file():
        raise UserError(f"{path}: no such file; give data.path=<an existing .h5ad>")
    if looks_like_html(path):
        raise UserError(f"{path}: this is an HTML page, not an h5ad file; delete it and download it with a browser")
    with open(path, "rb") as file:
        head = file.read(8)
    if head != HDF5:
        raise UserError(f"{path}: not an HDF5 file (it starts with {head!r}); give an .h5ad file")
    try:
        with h5py.File(path, "r") as file:
            names = set(file)
    except OSError as error:
        raise UserError(f"{path}: truncated or damaged h5ad ({error}); delete it and get it again") from error
    if not {"obs", "var"} <= names:
        raise UserError(f"{path}: no AnnData inside: it holds {', '.join(sorted(names)) or 'nothing'}, not obs and var")


def read_h5ad(path: Path) -> AnnData:
    """The file in memory; raises UserError where it is not a whole h5ad."""
    check_h5ad(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return anndata.read_h5ad(path)
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: truncated or damaged h5ad ({error}); delete it and get it again") from error


def file_checksum(path: Path, algorithm: str = "sha256") -> str:
    """`algorithm:hex` of the whole file, read in pieces."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give data.path=<an existing file>")
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"
