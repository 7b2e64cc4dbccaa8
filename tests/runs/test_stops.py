"""The way through the code is short: files that a batch and a score pass, by a call trace (docs/method.md lists them)."""

import pytest

from ..conftest import ROOT


@pytest.fixture(scope="module")
def stops(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import trace_stops

        return trace_stops.all_stops(tmp_path_factory.mktemp("stops"))


@pytest.mark.slow
def test_a_batch_passes_few_files_from_file_to_loss(stops):
    found = stops["batch"]
    assert {"training/stages.py", "models/networks.py"} <= set(found)
    assert found[0].startswith("data/")
    assert len(found) <= 12, found


@pytest.mark.slow
def test_a_score_passes_few_files_from_scorer_to_table_entry(stops):
    found = stops["score"]
    assert found[0].startswith("metrics/")
    assert found[-1].startswith("results/")
    assert len(found) <= 9, found  # what it is today; 6 is aimed at
