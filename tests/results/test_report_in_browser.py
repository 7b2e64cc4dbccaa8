"""The report in a headless Chromium: no broken picture, no error, no request, nothing wider than the window."""

import json
import re
import shutil
import subprocess

import pytest

from scsave.results.report import page

from .report_page import content

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>
const errors = []; addEventListener('error', event => errors.push(String(event.message)));
addEventListener('load', () => {
  const pictures = [...document.images];
  const found = {
    errors, width: innerWidth, page: document.documentElement.scrollWidth,
    broken: pictures.filter(picture => !picture.complete || !picture.naturalWidth).map(picture => picture.alt),
    pictures: pictures.length, ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    fetched: performance.getEntriesByType('resource').map(entry => entry.name).filter(name => !name.startsWith('data:')),
    sorted: (() => {  // a click on the head of W1, and on the cross of the first row
      const table = document.querySelector('table.sortable'), heads = [...table.tHead.rows[0].cells];
      heads.find(head => head.textContent.startsWith('W1')).querySelector('button').click();
      const names = [...table.tBodies[0].rows].map(row => row.cells[0].firstChild.textContent.trim());
      table.tBodies[0].rows[0].querySelector('th button').click();
      const shown = [...table.tBodies[0].rows].filter(row => row.offsetHeight).length;
      return { names, shown, heads: heads.filter(head => head.offsetWidth).length };
    })(),
    boxes: [...document.querySelectorAll('.scroll')].filter(box => box.getBoundingClientRect().right > innerWidth + 1).length,
  };
  parent.postMessage(JSON.stringify(found), '*');
});
</script>"""
# In a frame, for a window can't be narrower than 500 pixels.
FRAME = """<!doctype html><body><script>
addEventListener('message', event => {
  const pre = document.createElement('pre'); pre.id = 'probe'; pre.textContent = event.data; document.body.append(pre);
});
</script><iframe src="report.html" width="WIDTH" height="900" style="border: 0"></iframe>"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "report.html"
    path.write_text(page(content(folder)).replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")

    def probe(width: int, scheme: int) -> dict:
        frame = folder / f"frame{width}.html"
        frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={folder / f'profile{width}{scheme}'}",
            f"--window-size={width + 100},1000", f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom",
            "--virtual-time-budget=10000",
        ]  # fmt: skip
        done = subprocess.run([CHROMIUM, *flags, frame.as_uri()], capture_output=True, text=True, timeout=120)
        found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
        assert found, done.stderr[-500:]
        return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))

    return probe


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
@pytest.mark.parametrize(("width", "scheme", "ground"), [(1400, 1, "rgb(255, 255, 255)"), (380, 0, "rgb(21, 24, 29)")])
def test_opens_and_reads_well(probed, width, scheme, ground):
    found = probed(width, scheme)
    assert found["errors"] == found["broken"] == found["fetched"] == []
    assert found["pictures"] == 6
    assert found["page"] <= found["width"] == width
    assert found["boxes"] == 0
    names = ["mean (no skill)", "real (noise floor)", "save", "pca_gaussian"]
    assert found["sorted"] == {"names": names, "shown": 3, "heads": 3}
    assert found["ground"] == ground
    assert found["ink"] != ground
