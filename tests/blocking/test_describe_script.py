import json
import subprocess
import sys
from pathlib import Path

import pytest

from scsave.blocking.blocks import GeneBlocks

ROOT = Path(__file__).resolve().parents[2]


def describe_blocks(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "describe_blocks.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_table_figure_and_comparison_are_written(tmp_path):
    done = describe_blocks("blocking=semantic", "data=pbmc68k", "--against", "random", "--out", "blocks", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "blocks").iterdir()} == {
        "blocks.csv", "enriched.csv", "blocks.json", "summary.json"
    }  # fmt: skip
    blocks = GeneBlocks.from_dict(json.loads((tmp_path / "blocks" / "blocks.json").read_text()))
    assert (blocks.scheme, blocks.n_blocks) == ("semantic", 6)
    assert blocks.info["coverage"] > 0.9
    semantic, random = json.loads((tmp_path / "blocks" / "summary.json").read_text())["schemes"]
    assert semantic["cohesion"] > 0.1 > abs(random["cohesion"]) + 0.08
    assert semantic["enriched_sets"] > 20 + random["enriched_sets"]


@pytest.mark.slow
def test_a_mistake_is_one_line(tmp_path):
    done = describe_blocks("blocking=coexpression", "blocking.block_size=3200", "data=pbmc68k", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "3200" in done.stderr
    assert "765" in done.stderr
