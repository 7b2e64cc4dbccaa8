"""The report's page: valid and self-contained HTML, every number led back to its run, everything escaped."""

import re
import runpy
import subprocess
import sys
from itertools import pairwise

import pytest
from scsave.results.collect import collect
from scsave.results.report.content import read_plan
from scsave.results.report.html import Html, html, tag
from scsave.results.report.page import SECTIONS, page
from scsave.results.report.pictures import what

from scsave.errors import UserError
from scsave.results.report import study as kept

from ..conftest import ROOT, clean_environment
from .report_page import NASTY, Page, content, study
from .written import write


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return content(folder), page(content(folder / "again"))


@pytest.fixture(scope="module")
def parsed(made) -> Page:
    return Page(made[1])


def test_ids_are_unique_and_every_link_leads_somewhere(parsed):
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(SECTIONS) <= set(parsed.ids)
    targets = [attrs["href"] for attrs in parsed.all("a")]
    assert len(targets) > 20
    assert [t for t in targets if not t.startswith("#") or t[1:] not in parsed.ids] == []
    named = [attrs["aria-labelledby"] for _, attrs in parsed.tags if "aria-labelledby" in attrs]
    assert set(named) <= set(parsed.ids)


def test_nothing_is_fetched_and_nothing_is_run(parsed, made):
    sources = [attrs["src"] for _, attrs in parsed.tags if "src" in attrs]
    assert len(sources) >= 8
    assert all(source.startswith(("data:image/webp;base64,", "data:image/svg+xml;base64,")) for source in sources)
    assert not parsed.all("script")
    assert not parsed.all("link")
    style = made[1].partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|http", style)
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]


def test_readable_by_ear(parsed):
    assert parsed.all("html")[0]["lang"] == "en"
    assert all(len(attrs.get("alt") or "") > 20 for attrs in parsed.all("img"))
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    inside = [parents for (tag, _), parents in zip(parsed.tags, parsed.parents, strict=True) if tag == "table"]
    assert all(parents[-1] == "div" for parents in inside)  # the box that scrolls


def test_text_from_results_is_escaped(parsed, made):
    text = "".join(parsed.text)
    assert f"note={NASTY}" in text.replace("'\"'\"'", "'") or NASTY in text
    assert "<script" not in made[1]
    assert "cpu <x86>" in text


def test_each_column_leads_to_its_runs_their_file_and_command(made):
    report, text = made
    table = re.search(r'<div class="result" id="(table-generation-toy[^"]*)">(.*?)</details></div>', text, re.DOTALL)
    name, body = table.groups()
    for row in ("scsave", "pca_gaussian", "real", "mean"):
        target = f"{name}-from-{row.replace('_', '-')}"
        assert f'href="#{target}"' in body
        origin = body.partition(f'id="{target}"')[2].partition("</ul>")[0]
        assert re.search(r'href="#run-[0-9a-f]{10}"', origin)
        assert "results.json" in origin
        assert "python train.py data=toy" in origin
        assert "metrics[row][&quot;all&quot;]" in origin
        assert origin.count("seed ") == (1 if row == "pca_gaussian" else 2)
    assert len(report.results) == 3
    assert text.count('<dl id="run-') == 3


def test_numbers_are_those_of_the_files_with_mean_sd_and_seeds(parsed):
    text = "".join(parsed.text)
    assert re.search(r"2\.50 ± 0\.71 \(2\)", text)  # 2.0 and 3.0
    assert "4.25" in text


def test_what_did_not_run_is_said_with_its_reason(parsed, made):
    text = "".join(parsed.text)
    assert "3 runs planned: " in text
    for words in ("1 failed", "1 missing", "not run: dataset missing", "1 min 35 s", "broken/results.json"):
        assert words in text
    assert "2 of them have no result" in text
    assert re.search(r'href="#run-[0-9a-f]{10}">done</a>', made[1])  # the planned run that has a result leads to it


def test_pictures_are_chosen_and_shrunk(parsed):
    wide = [attrs for attrs in parsed.all("img") if (attrs.get("width") or "").isdigit()]
    assert max(int(attrs["width"]) for attrs in wide) == 1400
    assert [attrs["width"] for attrs in wide if attrs.get("class") == "wide"] == ["1400"]
    text = "".join(parsed.text)
    assert "1 more in" in text
    assert "block size generation toy: quality and training time against the size of a block" in text
    assert "cells toy_pca_gaussian" in text
    assert what("type_A_means").startswith("type A: gene means")
    assert what("new_thing") == "new thing"


def test_the_finding_tells_its_numbers(parsed):
    text = "".join(parsed.text)
    assert "Two real samples of toy against each other, neutral: W1 3.00, AUC 0.50" in text
    assert "the means of two real samples lie 7.1 apart instead of 0.1, and W1 becomes 9.0 instead of 3.0" in text
    alts = " ".join(attrs["alt"] for attrs in parsed.all("img"))
    assert "cfgen_legacy: second real sample 7.1" in alts


def test_without_any_run_the_page_says_so(tmp_path):
    empty = content(tmp_path)
    empty.results, empty.plans, empty.damaged, empty.figures, empty.study = [], [], [], [], None
    empty.no_study = "Not computed: no data."
    text = "".join(Page(page(empty)).text)
    assert "0 runs are done." in text
    assert "No plan of a reproduction was found" in text
    assert "Not computed: no data." in text


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_every_text_in_light_and_dark():
    style = (ROOT / "src/scsave/results/report/style.css").read_text()
    themes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{([^}]*)\}", style)]
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        for text in ("ink", "quiet", "accent"):
            for ground in ("ground", "card"):
                light, dark = sorted((luminance(theme[text]), luminance(theme[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, theme)


def test_html_escapes_all_but_html():
    assert tag("a", "<b>", Html("<i>x</i>"), [1, None], href='"', hidden=True, id=None) == (
        '<a href="&quot;" hidden>&lt;b&gt;<i>x</i>1</a>'
    )
    assert html("&", html("&")) == "&amp;&amp;"


def test_a_damaged_state_is_named(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"jobs": [{"seed": 0}]}')
    with pytest.raises(UserError, match=r"state\.json: can't be read as the state of a reproduction"):
        read_plan(path)


def test_the_study_is_of_real_cells_and_is_made_once(tmp_path, monkeypatch):
    real = "scsave.data.h5ad.H5AD"
    runs = {"simulated": ("scsave.data.simulate.cells.Simulated", 900), "small": (real, 300), "large": (real, 90_000)}
    for name, (target, cells) in runs.items():
        path = write(tmp_path / name, data=name, cells=cells, config={"data._target_": target})
        (path.parent / "generated.h5ad").touch()
    write(tmp_path / "without", data="without", cells=400, config={"data._target_": real})
    results = collect([tmp_path])
    assert kept.study_run(results).data == "small"
    assert kept.study_run([r for r in results if r.data == "simulated"]) is None
    calls = []
    monkeypatch.setattr(kept, "study_of_run", lambda *args: calls.append(args[0]) or study())
    for _ in range(2):
        assert kept.kept_study(tmp_path, kept.study_run(results), {"paths": {}}, [1], print) == study()
    assert calls == [tmp_path / "small"]
    next(tmp_path.glob("study-*.json")).write_text("{")
    assert kept.kept_study(tmp_path, kept.study_run(results), {"paths": {}}, [1], print) == study()
    assert len(calls) == 2


def test_the_script_writes_the_page(tmp_path, monkeypatch, capsys):
    write(tmp_path / "outputs" / "run")
    monkeypatch.setattr(sys, "argv", ["make_report.py", str(tmp_path / "outputs"), "--study", "none"])
    runpy.run_path(str(ROOT / "scripts" / "make_report.py"), run_name="__main__")
    assert "1 runs, 0 files that can't be read" in capsys.readouterr().out
    assert "Not computed (--study none)." in (tmp_path / "outputs" / "report.html").read_text()


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    command = [sys.executable, "scripts/make_report.py", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
