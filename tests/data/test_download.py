import hashlib
import json
import subprocess
import sys
import zipfile

import pytest

from scsave.data import downloaded as download
from scsave.data.downloaded import Mirror, fetch
from scsave.errors import UserError

from .server import serve
from .sources import tiny


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("served") / "a.h5ad"
    tiny(cells=400, genes=60).write_h5ad(path)
    return path.read_bytes()


@pytest.fixture
def server(content):
    with serve(content) as running:
        yield running


def sha(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def refused(mirrors: list[Mirror], root) -> str:
    with pytest.raises(UserError) as error:
        fetch(mirrors, root, "toy")
    line = str(error.value)
    assert "\n" not in line
    assert str(root / "toy" / "a.h5ad") in line
    assert "data.path=" in line
    # nothing is left that could be taken for the file
    assert [p.name for p in (root / "toy").iterdir() if p.name != ".lock"] == []
    return line


def test_the_right_file_is_fetched_once_and_its_sum_is_pinned(server, content, tmp_path, capsys):
    url, hits = server
    mirror = Mirror(file="a.h5ad", url=f"{url}/right")
    path, _ = fetch([mirror], tmp_path, "toy")
    assert path.read_bytes() == content
    assert "nobody states a sum" in capsys.readouterr().err
    assert json.loads((tmp_path / "manifest.json").read_text())["toy/a.h5ad"]["sum"] == sha(content)
    fetch([mirror], tmp_path, "toy")
    assert hits == ["right"]
    path.write_bytes(content[:-1])  # changed behind our back: noticed, named, not used
    with pytest.raises(UserError, match="wrong sum"):
        fetch([mirror], tmp_path, "toy")


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("page", {}, "an HTML page came in place of the file"),
        ("403", {}, "the server answered 403"),
        ("drop", {}, "broke off in the middle"),
        ("short", {"size": True}, "the file is short"),
        ("short", {}, "truncated or damaged"),
        ("right", {"sum": "sha256:" + "0" * 64}, "wrong sum: sha256:"),
        ("right", {"sum": "md5:" + "0" * 32}, "wrong sum: md5:"),
    ],
)
def test_a_wrong_answer_is_named_and_leaves_nothing(server, content, tmp_path, kind, more, said):
    url, _ = server
    more = {key: len(content) if value is True else value for key, value in more.items()}
    line = refused([Mirror(file="a.h5ad", url=f"{url}/{kind}", **more)], tmp_path)
    assert said in line
    assert f"{url}/{kind}" in line


def test_the_next_mirror_is_tried(server, content, tmp_path):
    url, hits = server
    kinds = ["403", "page", "short", "right"]
    mirrors = [Mirror(file="a.h5ad", url=f"{url}/{kind}", sum=sha(content)) for kind in kinds]
    path, used = fetch(mirrors, tmp_path, "toy")
    assert path.read_bytes() == content
    assert used.url.endswith("/right")
    assert hits == kinds


def test_a_drop_in_the_middle_is_done_again(server, content, tmp_path):
    url, hits = server
    path, _ = fetch([Mirror(file="a.h5ad", url=f"{url}/drop-once")], tmp_path, "toy")
    assert path.read_bytes() == content
    assert hits == ["drop-once", "drop-once"]


def test_a_slow_server_is_waited_for_unless_it_stalls(server, content, tmp_path, monkeypatch):
    url, _ = server
    path, _ = fetch([Mirror(file="a.h5ad", url=f"{url}/slow")], tmp_path, "toy")
    assert path.read_bytes() == content
    monkeypatch.setattr(download, "READ", 0.01)
    assert "a.h5ad is missing" in refused([Mirror(file="a.h5ad", url=f"{url}/slow")], tmp_path / "other")


def test_no_network_says_what_is_missing_and_where_to_put_it(tmp_path):
    mirrors = [
        Mirror(file="a.h5ad", url="http://127.0.0.1:9/a.h5ad"),
        Mirror(file="b.h5ad", page="http://example.invalid/record"),
    ]
    line = refused(mirrors, tmp_path)
    assert "no connection" in line
    assert "http://127.0.0.1:9/a.h5ad" in line
    assert "http://example.invalid/record" in line


def test_a_file_put_there_by_hand_is_checked_and_used(content, tmp_path):
    mirror = Mirror(file="a.h5ad", page="http://example.invalid/record", sum=sha(content))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "a.h5ad").write_bytes(b"<html>sign in</html>")
    with pytest.raises(UserError, match="an HTML page"):
        fetch([mirror], tmp_path, "toy")
    (tmp_path / "toy" / "a.h5ad").write_bytes(content)
    assert fetch([mirror], tmp_path, "toy")[0].read_bytes() == content


def test_the_member_of_an_archive(content, tmp_path):
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("folder/a.h5ad", content)
    with serve(packed.read_bytes()) as (url, hits):
        good = {"file": "all.zip", "member": "folder/a.h5ad", "url": f"{url}/right"}
        path, _ = fetch([Mirror(**good, member_sum=sha(content))], tmp_path / "raw", "toy")
        assert path.read_bytes() == content
        assert not (path.parent / "all.zip").exists()
        fetch([Mirror(**good, member_sum=sha(content))], tmp_path / "raw", "toy")
        assert hits == ["right"]
        for changed, said in [
            ({"member_sum": "md5:0"}, "wrong sum"),
            ({"member": "b.h5ad"}, "no b.h5ad in the archive"),
        ]:
            with pytest.raises(UserError, match=said):
                fetch([Mirror(**good | changed)], tmp_path / said, "toy")


PROCESS = """
import sys
from pathlib import Path
from scsave.data.downloaded import Mirror, fetch
print(fetch([Mirror(file="a.h5ad", url=sys.argv[1])], Path(sys.argv[2]), "toy")[0].stat().st_size)
"""


def test_two_processes_at_once_download_once(content, tmp_path):
    with serve(content, pause=0.3) as (url, hits):
        command = [sys.executable, "-c", PROCESS, f"{url}/slow", str(tmp_path)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [int(process.communicate(timeout=120)[0]) for process in running] == [len(content)] * 2
    assert hits == ["slow"]
