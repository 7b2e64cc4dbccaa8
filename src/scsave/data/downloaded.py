"""Public files: fetched once from the first mirror that gives the right one, checked before they get their names; `data=<name>`.

A new set of the catalog is one YAML, whose `_target_` is `Downloaded`.
"""

import sys
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfileobj
from typing import Any, Self

from filelock import FileLock

from scsave.data.files import HDF5_SUFFIXES, check_hdf5, file_checksum, looks_like_html
from scsave.data.read import RawCells, open_cells
from scsave.data.source import DataSource
from scsave.errors import UserError
from scsave.files import read_json, replacing, write_json
from scsave.progress import phase

CONNECT, READ = 6, 60  # seconds: to be answered at all, and between two pieces of a slow answer
PASSES = 2  # over one address, where a transfer breaks off in the middle
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """One place where a file is. `sum` is `sha256:...` or `md5:...`, of what is downloaded.

    `page`: no direct address is known, a person has to fetch it there. `member`: the file inside a zip, with its own
    `member_sum`. `settings`: fields of the data set that are different for this file, e.g. its layer.
    """

    file: str
    url: str | None = None
    page: str | None = None
    size: int | None = None
    sum: str | None = None
    member: str | None = None
    member_sum: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.url is None) == (self.page is None):
            raise UserError(f"mirror {self.file}: give either url or page")

    @property
    def local(self) -> str:
        """Name of the file that is read in the end."""
        return self.file if self.member is None else Path(self.member).name


class Broken(Exception):
    """Why one mirror did not give the file."""


def check_file(path: Path, name: str, size: int | None, known: str | None) -> str:
    """The sum of a file that is to be called `name`; raises Broken where it is a web page, short or another file."""
    if looks_like_html(path):
        raise Broken("an HTML page came in place of the file (an error page, a login or a browser challenge)")
    length = path.stat().st_size
    if size is not None and length != size:
        raise Broken(f"{length:,} bytes in place of {size:,}: the file is {'short' if length < size else 'another'}")
    found = file_checksum(path, known.split(":")[0] if known else "sha256")
    if known is not None and found != known:
        raise Broken(f"wrong sum: {found} in place of {known}")
    if name.endswith(HDF5_SUFFIXES):
        try:
            check_hdf5(path, set())
        except UserError as error:
            raise Broken(str(error).removeprefix(f"{path}: ")) from error
    return found


def transfer(url: str, beside: Path) -> None:
    """One file over HTTP to `beside` by pooch; raises Broken with the reason in few words."""
    import pooch
    import requests.exceptions as http

    for left in reversed(range(PASSES)):
        try:
            with phase("downloading", unit="bytes") as at:
                pooch.HTTPDownloader(progressbar=at, timeout=(CONNECT, READ))(url, str(beside), None)
            return
        except http.HTTPError as error:
            raise Broken(f"the server answered {error.response.status_code} {error.response.reason}") from error
        except http.ConnectTimeout as error:
            raise Broken(f"no answer within {CONNECT} s") from error
        except (http.ChunkedEncodingError, http.ReadTimeout) as error:
            if not left:
                raise Broken("the transfer broke off in the middle") from error
        except http.ConnectionError as error:
            raise Broken("no connection (is there a network?)") from error
        except (http.RequestException, ValueError) as error:
            raise Broken(f"{type(error).__name__}: {error}") from error


def obtain(mirror: Mirror, folder: Path, pinned: str | None) -> str:
    """Puts the file of one mirror at `folder / mirror.local`, whole and checked, and gives its sum; raises Broken.

    What lies there already (put there by hand) is checked like a download.
    """
    arrived, path = folder / mirror.file, folder / mirror.local
    known = (mirror.sum if mirror.member is None else mirror.member_sum) or pinned
    if path.exists():
        return check_file(path, path.name, mirror.size if mirror.member is None else None, known)
    arrived_sum = known if mirror.member is None else mirror.sum
    if arrived.exists():
        found = check_file(arrived, arrived.name, mirror.size, arrived_sum)
    elif mirror.url is None:
        raise Broken("no direct address is known, a person has to fetch it there")
    else:
        with replacing(arrived) as beside:
            transfer(mirror.url, beside)
            found = check_file(beside, arrived.name, mirror.size, arrived_sum)
    if mirror.member is None:
        return found
    try:
        with replacing(path) as beside:
            with zipfile.ZipFile(arrived) as zipped, zipped.open(mirror.member) as source, open(beside, "wb") as target:
                copyfileobj(source, target)
            found = check_file(beside, path.name, None, known)
    except (zipfile.BadZipFile, KeyError) as error:
        raise Broken(f"no {mirror.member} in the archive ({error})") from error
    arrived.unlink()  # of no more use than its member, and as much disk again
    return found


def manifest_entry(mirror: Mirror, root: Path, name: str) -> dict[str, Any]:
    """What is known here of a mirror's file: its sum, size and time when it was checked; empty if never had."""
    return read_json(root / MANIFEST).get(f"{name}/{mirror.file}", {})


def fetch(
    mirrors: list[Mirror], root: Path, name: str, asked: str | None = None, option: str = "data.path"
) -> tuple[Path, Mirror]:
    """The file of the first mirror that gives the right one, under `root / name`; what is there already comes first.

    The manifest pins the sum of each file, so that another file of that name is noticed, and machines can be compared.
    Two processes do not download at once. Raises UserError saying what is missing for `asked` (data=name), what each
    address answered, where to put the file by hand, and the `option` that names a copy.
    """
    folder, asked = root / name, asked or f"data={name}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        there = [m for m in mirrors if (folder / m.local).exists() or (folder / m.file).exists()]
        reasons = []
        for mirror in [*there, *(m for m in mirrors if m not in there)]:
            path, entry = folder / mirror.local, manifest_entry(mirror, root, name)
            if path.exists() and [path.stat().st_size, path.stat().st_mtime_ns] == entry.get("stat"):
                return path, mirror
            try:
                found = obtain(mirror, folder, entry.get("sum"))
            except Broken as reason:
                reasons.append(f"{path if mirror in there else mirror.url or mirror.page}: {reason}")
                continue
            if not (mirror.member_sum if mirror.member else mirror.sum) and not entry:
                print(f"{asked}: nobody states a sum for {path.name}; got {found}, now pinned", file=sys.stderr)
            stat = [path.stat().st_size, path.stat().st_mtime_ns]
            new = {"sum": found, "stat": stat, "from": mirror.url or mirror.page}
            with FileLock(root / f".{MANIFEST}.lock"):
                write_json(root / MANIFEST, read_json(root / MANIFEST) | {f"{name}/{mirror.file}": new})
            return path, mirror
    place = folder / mirrors[0].file
    raise UserError(
        f"{asked}: {place.name} is missing and could not be had ({'; '.join(reasons)}); fetch it with a browser and put "
        f"it at {place}, or give {option}=<your copy>"
    )


@dataclass(kw_only=True)
class Downloaded(DataSource):
    """A set whose file is at one of `mirrors` (fields of `Mirror`), or at `path`, with the same checks."""

    mirrors: list[dict[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mirrors:
            raise UserError(f"data.mirrors of data={self.name} is empty: name at least one url or page")
        try:
            self.places = [Mirror(**mirror) for mirror in self.mirrors]
        except TypeError as error:
            raise UserError(f"data.mirrors of data={self.name}: {error}") from error

    def known(self, cache: Path) -> tuple[Mirror, str]:
        """The mirror in use and the sum of its file; fetches it where no mirror's file was ever had here."""
        root = cache / "raw"
        for mirror in self.places:
            if entry := manifest_entry(mirror, root, self.name):
                return mirror, entry["sum"]
        _, mirror = fetch(self.places, root, self.name)
        return mirror, manifest_entry(mirror, root, self.name)["sum"]

    def fitted(self, cache: Path) -> Self:
        settings = {} if self.path is not None else self.known(cache)[0].settings
        return replace(self, **settings) if settings else self

    def checksum(self, cache: Path) -> str:
        return super().checksum(cache) if self.path is not None else self.known(cache)[1]

    def read(self, cache: Path) -> AbstractContextManager[RawCells]:
        if self.path is not None:
            path = Path(self.path)
        else:
            path, _ = fetch([self.known(cache)[0]], cache / "raw", self.name)
        return open_cells(path)
