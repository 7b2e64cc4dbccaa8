"""The tables of README.md and docs/*.md, rendered between markers from the records of docs/results (`make docs`).

A block is `<!-- table: name -->` ... `<!-- end -->`; docs/results/tables.yaml says which runs, rows and metrics a table has.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from scsave import keys
from scsave.errors import UserError
from scsave.files import read_json, write_text
from scsave.results import records
from scsave.results.paper import paper_text
from scsave.results.sources import hashes, needed
from scsave.results.table_formats import escaped, grids
from scsave.results.table_text import passed_line, verdict
from scsave.results.tables import make_table

BLOCK = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SPEC, PAPER, BENCH = "tables.yaml", "paper-", "bench"
SEEN = "†"  # choices were made with these cells in view
SEEN_LINE = f"{SEEN} choices of this project were made with these cells, or some of them, in view"
UNSEEN_LINE = "no choice of this project was made on what is scored here"


class Docs:
    """The pages and records of a checkout."""

    def __init__(self, root: Path):
        self.root, self.folder, self.package = root, root / "docs" / "results", root / "src" / "scsave"
        pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
        self.pages = [page for page in pages if page.is_file()]
        self.spec = OmegaConf.to_container(OmegaConf.load(self.folder / SPEC), resolve=True)
        self.sources = hashes(self.package)

    def record_of(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @cached_property
    def recorded(self) -> dict[str, pd.DataFrame]:
        """The runs of each table that has a record."""
        names = [name for name in self.spec["tables"] if self.record_of(name).is_file()]
        return {name: records.read(self.record_of(name)) for name in names}

    def record(self, runs: pd.DataFrame) -> dict[str, int]:
        """Write the record of every table that some of `runs` belong to; table -> number of runs.

        A record keeps what it has of methods that none of `runs` is of, and other seeds of the same settings and code.
        """
        counts, runs = {}, records.traced(records.named(runs, self.spec["sets"]), self.package)
        for name, table in self.spec["tables"].items():
            earlier = self.recorded.get(name)
            both = pd.concat([records.chosen(runs, wanted) for wanted in table["runs"]])
            if len(both):
                both = both if earlier is None else pd.concat([both, records.others(earlier, both, self.led_on)])
                both = records.alike(both[~both.index.duplicated()], self.led_on)
                records.write(self.record_of(name), records.record(both, table))
            counts[name] = len(both)
        self.__dict__.pop("recorded", None)
        return counts

    def rendered(self, page: Path) -> str:
        """The page with each of its blocks made anew."""
        link = "docs/results" if page.parent == self.root else "results"
        text = page.read_text(encoding="utf-8")
        return BLOCK.sub(lambda block: block[1] + self.block(block[2], link, page) + block[4], text)

    def block(self, name: str, link: str, page: Path) -> str:
        if name == BENCH:
            return self.bench(link)
        if name.startswith(PAPER):
            return paper_text(int(name.removeprefix(PAPER)), self.spec, self.recorded, link)
        if name not in self.spec["tables"]:
            raise UserError(f"{page}: table {name}: docs/results/{SPEC} has no such table")
        return self.table(name, link)

    def bench(self, link: str) -> str:
        """What `scripts/bench.py` measured last, a grid for each of its sections."""
        path, command = self.record_of(BENCH), f"`python scripts/bench.py --out docs/results/{BENCH}.json`"
        if not path.is_file():
            return f"**What it costs**: not run.\n\n- not run: {command}\n"
        found, parts = read_json(path), []
        for section, rows in found.items():
            if section in ("versions", "sources") or not isinstance(rows, dict):
                continue
            frame = pd.DataFrame(rows).T
            texts = frame.map(lambda one: f"{one:.4g}" if isinstance(one, float) else str(one)).reset_index()
            lines = [[section, *frame], ["---", *["---:"] * frame.shape[1]], *texts.to_numpy().tolist()]
            parts.append("\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines))
        old = found["sources"] != self.sources
        about = f"commit {str(found['git_commit'])[:8]}; {found['device']}, one thread; seconds of that thread"
        lines = [f"{about}; [{BENCH}.json]({link}/{BENCH}.json), by {command}"]
        lines += ["**older sources**: the code has changed since"] * old
        return "\n\n".join([*parts, _bullets(lines)])

    def table(self, name: str, link: str) -> str:
        """The table, a verdict on each of its columns, and where its numbers are from."""
        table, runs = self.spec["tables"][name], self.recorded.get(name)
        if runs is None:
            return f"**{table['title']}**: not run.\n\n" + _bullets(self.missing(table, None))
        groups = {self.marked(members, runs, group): members for group, members in (table.get("groups") or {}).items()}
        seen = [data for data in runs["data"].unique() if self.seen(data, [] if groups else [keys.ALL])]
        titles = {one: self.spec["sets"][one]["title"] + f" {SEEN}" * (one in seen) for one in runs["data"]}
        titled = runs.assign(data=runs["data"].map(titles))
        show = list(groups) or table.get("show")
        made = make_table(
            records.sum_up(titled, groups),
            metrics=table["metrics"], protocol=table.get("protocol"), group=show, costs=bool(table.get("cost")),
        )  # fmt: skip
        one = made.runs["column"].nunique() == 1
        marks = any(SEEN in text for text in [*titled["data"].unique(), *groups])
        head = f"**{table['title']}**" + f": {made.columns[0].label}" * one
        lines = [said for number in range(len(made.columns)) if (said := verdict(made, number))]
        lines += passed_line(made, range(len(made.columns)))
        lines += [SEEN_LINE if marks else UNSEEN_LINE, *made.notes, *(table.get("notes") or [])]
        lines.append("in results.json: " + ", ".join(f"`{name}`" for name in table["metrics"]))
        lines += [*self.origin(name, runs, link), *self.missing(table, runs)]
        return "\n\n".join([head, *grids(made), _bullets(lines)])

    def seen(self, data: str, groups: list[str]) -> bool:
        """Whether choices were made with these groups of a data set in view; `all` stands for the whole set."""
        if data not in self.spec["sets"]:
            raise UserError(f"docs/results/{SPEC}: `sets` does not say whether choices were made on {data}")
        those = self.spec["sets"][data]["choices"]
        return those if isinstance(those, bool) else any(one in (*those, keys.ALL) for one in groups)

    def marked(self, members: list[str], runs: pd.DataFrame, group: str) -> str:
        return group + f" {SEEN}" * any(self.seen(data, members) for data in runs["data"].unique())

    def origin(self, name: str, runs: pd.DataFrame, link: str) -> list[str]:
        """Seeds, size, commit, device, record, a command; and whether the sources have changed since."""
        seeds = _several("seed", sorted(runs["seed"].unique()))
        sizes = " or ".join(dict.fromkeys(f"{one.cells:,} cells x {one.genes:,} genes" for one in runs.itertuples()))
        known = sorted({str(one)[:8] + " with changes" * str(one).endswith("+") for one in runs["git_commit"] if one})
        commits = ", ".join(known) or "no known commit"
        where = ", ".join(sorted({one for one in runs["device"] if one}))
        first = runs.assign(other=runs["method"] != "save").sort_values(["other", "seed"], kind="stable").iloc[0]
        lines = [
            f"{seeds}; {sizes}; commit {commits}; {where}; settings, hashes, costs and commands of {len(runs)} "
            f"run{'s' * (len(runs) > 1)}: [{name}.json]({link}/{name}.json), the first by `{first['command']}`"
        ]
        codes = [(self.led_on(run), bool(run.config["method"].get("training"))) for run in runs.itertuples()]
        unknown = sum(not code for code, _ in codes)
        if old := sum(code != needed(self.sources, train) for code, train in codes) - unknown:
            what = "networks, flow, training, method, blocks or baselines"
            lines.append(f"**older sources**: the code of {what} has changed since {old} of {len(codes)} runs")
        if other := self.older_settings(runs):
            lines.append(f"**older settings**: {other}")
        if unknown:
            lines.append(f"**older sources?** it is not known with which {unknown} of {len(codes)} runs were made")
        return lines

    def older_settings(self, runs: pd.DataFrame) -> str:
        """Settings of training that runs have, that neither their command nor their experiment names, and that today's
        config has otherwise; "" for none. `settings` of the spec names tasks that one has no part in."""
        today = {OmegaConf.load(path).get("_target_"): OmegaConf.to_container(OmegaConf.load(path))
                 for path in sorted((self.root / "configs" / "training").glob("*.yaml"))}  # fmt: skip
        found = dict[str, int]()
        for run in runs.itertuples():
            there = run.config["method"].get("training") or {}
            path = self.root / "configs" / "experiment" / f"{run.experiment}.yaml"
            named = str(run.command) + (path.read_text(encoding="utf-8") if path.is_file() else "")
            for name, value in today.get(there.get("_target_"), {}).items():
                apart = name in there and there[name] != value and not re.search(rf"\b{name}[:=]", named)
                if apart and run.task not in self.spec.get("settings", {}).get(name, []):
                    text = f"training.{name}={there[name]} (today {value})"
                    found[text] = found.get(text, 0) + 1
        return ", ".join(f"{text} in {n} of {len(runs)} runs" for text, n in found.items())

    def led_on(self, run: Any) -> dict[str, str]:
        """Hashes of the sources that a run depends on, none where they are not known, each followed through the changes that
        are known to be `exact` (of the spec) for its task."""
        exact = [one for one in self.spec.get("exact", []) if run.task in one.get("tasks", [run.task])]
        steps = {(one["part"], one["before"]): one["after"] for one in exact}
        code = needed(run.sources or {}, bool(run.config["method"].get("training")))
        while more := {part: steps[part, one] for part, one in code.items() if (part, one) in steps}:
            code |= more
        return code

    def missing(self, table: Mapping[str, Any], runs: pd.DataFrame | None) -> list[str]:
        """What of the table's runs is not there: the seeds, and the command that makes them."""
        lines: dict[tuple[str, str], list[str]] = {}
        methods = [(one, one.get("method", "*")) for one in table["runs"]]  # each of several has to be there
        for asked in (one | {"method": m} for one, of in methods for m in (of if isinstance(of, list) else [of])):
            found = records.chosen(runs, asked) if runs is not None else pd.DataFrame(columns=["seed"])
            seeds = asked.get("seeds", table.get("seeds", self.spec["seeds"]))
            alike = [records.setting(run) for run in found.itertuples()]
            kept = [set(same["seed"]) for _, same in found.groupby(alike)] if alike else [set()]
            if lost := [seed for seed in seeds if not all(seed in one for one in kept)]:
                command = asked["command"]
                if len(lost) > 1 and " -m " not in command:
                    command = command.replace("train.py", "train.py -m", 1)
                which = lines.setdefault((f"{command} seed={','.join(map(str, lost))}", _several("seed", lost)), [])
                which += [asked["method"]] * ("*" not in asked["method"])
        return [f"not run, {', '.join([*names, seeds])}: `{command}`" for (command, seeds), names in lines.items()]

    def differences(self) -> list[str]:
        """What of the pages is not as the records say, a line each; and records and tables that no page shows."""
        found, shown = [], set()
        for page in self.pages:
            text, link = page.read_text(encoding="utf-8"), "docs/results" if page.parent == self.root else "results"
            for _, name, there, _ in BLOCK.findall(text):
                shown.add(name)
                if there != self.block(name, link, page):
                    path = self.record_of(name)
                    why = f"is not what {path.relative_to(self.root)} says"
                    if not name.startswith(PAPER) and not path.is_file() and name != BENCH:
                        why = f"shows numbers, and its record {path.relative_to(self.root)} is missing"
                    found.append(f"{page.relative_to(self.root)}: table {name} {why}; make docs")
        unseen = [name for name in self.spec["tables"] if name not in shown]
        found += [f"docs/results/{SPEC}: no page shows table {name}" for name in unseen]
        known = {self.record_of(name) for name in (*self.spec["tables"], BENCH)}
        lost = [path for path in sorted(self.folder.glob("*.json")) if path not in known]
        return found + [f"{path.relative_to(self.root)}: docs/results/{SPEC} has no such table" for path in lost]

    def write(self) -> list[Path]:
        """Render every page; those that changed."""
        changed = []
        for page in self.pages:
            text = self.rendered(page)
            if text != page.read_text(encoding="utf-8"):
                write_text(page, text)
                changed.append(page)
        return changed


def _several(word: str, values: list[int]) -> str:
    return f"{word}{'s' * (len(values) > 1)} {', '.join(map(str, values))}"


def _bullets(lines: list[str]) -> str:
    """Escaped for Markdown, but for what stands in backticks, links and stars of our own."""
    parts = (re.split(r"(`[^`]*`|\*\*[^*]*\*\*)", f"- {line}\n") for line in lines)
    return "".join(part if number % 2 else escaped(part) for line in parts for number, part in enumerate(line))
