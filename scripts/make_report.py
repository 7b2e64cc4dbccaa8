"""One HTML page of everything that was run: `python scripts/make_report.py [outputs]` writes outputs/report.html.

Reads results.json files, the pictures beside them, the state of a reproduction, and computes once (a minute, kept in
outputs/report/) how the three protocols see the same real cells. The page needs no network and no JavaScript.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scsave.errors import UserError
from scsave.files import write_text
from scsave.results.collect import collect
from scsave.results.report.content import Content, read_plan
from scsave.results.report.page import page
from scsave.results.report.study import kept_study, no_study, study_run

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", default=["outputs"], help="folders with runs (default: outputs)")
    parser.add_argument("--out", help="the page (default: report.html in the first folder)")
    parser.add_argument("--study", help="generation run that the protocols are shown on, or none (default: chosen)")
    parser.add_argument("--splits", type=int, default=3, help="further splits in which two real samples are compared")
    parser.add_argument("--data", default="pbmc68k", help="data set of the protocols where no run fits")
    return parser.parse_args()


def default_config(data: str) -> dict[str, Any]:
    """Data, split, task and paths of a generation run on `data`."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from scsave.runs.main import register_resolvers

    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"data={data}"])
    nodes = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("data", "split", "task", "paths")}
    return nodes | {"seed": cfg.seed}


def add_study(content: Content, asked: argparse.Namespace, folder: Path) -> None:
    if asked.study == "none":
        content.no_study = "Not computed (--study none)."
        return
    run = study_run(content.results)
    if asked.study:
        (run,) = collect([asked.study])
    seeds = [(run.seed if run else 0) + k for k in range(1, asked.splits + 1)]
    started = time.monotonic()
    steps = 3 + asked.splits
    done = 0

    def say(what: str) -> None:
        nonlocal done
        spent = time.monotonic() - started
        left = f", about {spent / done * (steps - done):.0f} s left" if done and spent > 2 else ""
        print(f"  {what}{left}", flush=True)
        done += 1

    print(f"protocols: {run.folder if run else asked.data}", flush=True)
    try:
        content.study = kept_study(folder, run, default_config(asked.data), seeds, say)
    except UserError as error:
        content.no_study = no_study(error)
        print(f"  {content.no_study}", file=sys.stderr)
    content.study_command = content.command + (
        f" --study {content.shown(run.folder)}" if run else f" --data {asked.data}"
    )


def main() -> None:
    asked = arguments()
    folders = [Path(folder) for folder in asked.folders]
    out = Path(asked.out) if asked.out else folders[0] / "report.html"
    damaged: list[str] = []
    results = collect(folders, damaged=damaged)
    content = Content(results=results, made=datetime.now(UTC), root=Path.cwd(), damaged=damaged)
    content.command = " ".join(["python scripts/make_report.py", *map(str, asked.folders)])
    for state in sorted(path for folder in folders for path in folder.glob("reproduce/*/state.json")):
        try:
            content.plans.append(read_plan(state))
        except UserError as error:
            damaged.append(str(error))
    content.figures = sorted(path for folder in folders for path in (folder / "figures").rglob("*.png"))
    add_study(content, asked, out.parent / "report")
    text = page(content)
    write_text(out, text)
    print(f"{len(results)} runs, {len(damaged)} files that can't be read, {len(text) / 2**20:.1f} MB: {out}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
