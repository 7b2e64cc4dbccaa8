"""Tables of results.json files: Markdown, LaTeX (booktabs), HTML, CSV, and a listing that traces every value to its run.

python scripts/make_tables.py outputs [--task generation] [--data heart,pbmc] [--experiment 'paper/*'] [--out outputs/tables]
Reads only results.json (and the state of reproductions, for what did not run). Protocols, splits, metric versions and data
settings are never mixed in a column (docs/tables.md).
"""

import argparse
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from scsave.errors import UserError
from scsave.files import write_text
from scsave.results.frame import read
from scsave.results.plans import not_run, read_jobs
from scsave.results.table_formats import FORMATS, markdown, markdown_not_run, write_table
from scsave.results.tables import make_table, plan, table_name
from scsave.runs.main import entry

FILTERS = ("task", "data", "method", "experiment", "seed")


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def parser(about: str, filters: tuple[str, ...]) -> argparse.ArgumentParser:
    """What every script takes that reads results: folders, and which of the runs there."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = [Path("outputs")]
    found.add_argument("folders", nargs="*", type=Path, default=outputs, help="folders with runs (default: outputs)")
    for key in filters:
        found.add_argument(f"--{key}", type=words, help=f"{key}s, with commas between; * and ? are wildcards")
    return found


def run(arguments: list[str]) -> None:
    found = parser(__doc__, FILTERS)
    add = found.add_argument
    add("--together", action="store_true", help="one table a task, whatever the experiments")
    add("--metrics", type=words, help="names of metric registry rows, in order, or all")
    add("--protocol", help="neutral (default), cfgen or cfgen_legacy: one for the whole table")
    add("--group", type=words, help="groups of results.json: all (default), pooled, a type, a pattern")
    add("--cost", action="store_true", help="minutes, seconds, parameters, memory of each run beside")
    add("--strict", action="store_true", help="refuse where runs of one data set need two columns")
    add("--format", type=words, default=list(FORMATS), help=f"of {','.join(FORMATS)} (default: all)")
    add("--name", help="file name without ending, for a single table")
    add("--out", type=Path, help="folder for the files; without it, Markdown is printed")
    options = found.parse_args(arguments)
    if lost := [name for name in options.format if name not in FORMATS]:
        raise UserError(f"--format {','.join(lost)}: unknown; there are: {', '.join(FORMATS)}")
    if options.seed and not all(seed.isdigit() for seed in options.seed):
        raise UserError(f"--seed {','.join(options.seed)}: seeds are whole numbers, 0,1,2")
    chosen = {key: getattr(options, key) for key in FILTERS}
    runs = read(options.folders, **chosen)
    gaps = not_run(read_jobs(options.folders))
    for key in FILTERS[:-1]:
        if chosen[key]:
            gaps = gaps[[any(fnmatchcase(value, pattern) for pattern in chosen[key]) for value in gaps[key]]]
    if runs.empty and gaps.empty:
        where, fitting = ", ".join(map(str, options.folders)), "fitting " * any(chosen.values())
        raise UserError(f"{where}: no {fitting}results.json there; run python train.py first")
    tables = dict(list(runs.groupby("registry"))) if options.together or options.experiment else plan(runs)
    if options.name and len(tables) > 1:
        raise UserError(f"--name {options.name}: of {len(tables)} tables ({', '.join(tables)}); choose one of them")
    settings = {"metrics": options.metrics, "protocol": options.protocol, "group": options.group}
    written, placed = list[Path](), list[int]()
    for name, same in tables.items():
        table = make_table(same, **settings, costs=options.cost, strict=options.strict)
        missing = gaps[belongs(gaps, name, same)]
        placed += list(missing.index)
        name = options.name or (f"{name}_{options.protocol}" if options.protocol else name)
        if options.out is None:
            print(markdown(table, missing, f"{name}.sources.csv, with --out"))
        else:
            written += write_table(options.out, name, table, missing, options.format)
    if options.out is None:
        print(markdown_not_run(gaps.drop(placed)))
    elif len(gaps):
        written.append(options.out / "not_run.md")
        write_text(written[-1], "### Not run\n" + markdown_not_run(gaps))
    print(*written, sep="\n", end="\n" * bool(written))


def folder_of(experiment: str) -> str:
    return experiment.rpartition("/")[0]


def belongs(gaps: pd.DataFrame, name: str, same: pd.DataFrame) -> pd.Series:
    """Which gaps are the table's: those of its task, and of its experiment or folder of experiments."""
    if gaps.empty:
        return pd.Series(index=gaps.index, dtype=bool)
    task, registry = same["task"].iloc[0], same["registry"].iloc[0]
    folders = gaps["experiment"].map(folder_of)
    if name == registry:  # a table across experiments: of those that it has
        return (gaps["task"] == task) & folders.isin(same["experiment"].fillna("").map(folder_of))
    named = [one.map(lambda of: table_name(of, registry) == name) for one in (gaps["experiment"], folders)]
    return (gaps["task"] == task) & (named[0] | named[1])


if __name__ == "__main__":
    entry(lambda: run(sys.argv[1:]))
