"""One HTML page of everything that was run: `python scripts/make_report.py [outputs]` writes outputs/report.html.

Reads results.json files, the pictures beside them and the state of a reproduction. The page needs no network, and can be
read without JavaScript, which sorts and hides rows.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from scsave.files import write_text
from scsave.results.frame import read
from scsave.results.plans import read_jobs
from scsave.results.report import Content, page
from scsave.runs.main import entry


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", default=["outputs"], help="folders with runs (default: outputs)")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the first folder)")
    options = parser.parse_args(arguments)
    folders, damaged = [Path(folder) for folder in options.folders], []
    runs, jobs = read(folders, damaged=damaged), read_jobs(folders, damaged)
    figures = sorted(path for folder in folders for path in (folder / "figures").rglob("*.png"))
    command = " ".join(["python scripts/make_report.py", *options.folders])
    content = Content(runs, jobs, datetime.now(UTC), Path.cwd(), damaged, figures, command)
    out, text = options.out or folders[0] / "report.html", page(content)
    write_text(out, text)
    print(f"{len(content.runs)} runs, {len(damaged)} files that can't be read, {len(text) / 2**20:.1f} MB: {out}")


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
