import os
import signal

import numpy as np
import pandas as pd
import pytest

from scsave import keys, packages
from scsave.baselines.integration import Harmony, Pca, Scanorama
from scsave.baselines.scvi import Scvi, train
from scsave.errors import UserError
from scsave.keys import Columns
from tests.baselines.cells import mean, prepared, response_cells, split_of


def small_scvi(task):
    return Scvi(task=task, n_latent=5, n_layers=1, n_hidden=64, batch_size=64, learning_rate=1e-2, max_epochs=40)


def batches(seed=0, per_group=80):
    """Three types in two batches, the second of which multiplies a third of the genes."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(1.0, 3.0, size=(3, 60))
    factor = np.ones((2, 60))
    factor[1, :20] = 5.0
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.repeat(["a", "b", "c"], 2 * per_group)),
            "batch": pd.Categorical(np.tile(np.repeat(["one", "two"], per_group), 3)),
        }
    ).sample(frac=1.0, random_state=1)
    rates = base[obs["cell_type"].cat.codes] * factor[obs["batch"].cat.codes]
    data = prepared(rates, obs.reset_index(drop=True), seed)
    source = Columns(name="tiny", conditions=["batch", "cell_type"], batch="batch", cell_type="cell_type")
    return data, source, split_of(data, np.arange(data.n_obs) % 10 == 0)


def mixing(embedding, labels):
    """Share of the 15 nearest cells of the same label, averaged."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=16).fit(embedding).kneighbors(embedding, return_distance=False)[:, 1:]
    return float((labels.to_numpy()[near] == labels.to_numpy()[:, None]).mean())


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (Harmony, "harmonypy"),
        (Scanorama, "scanorama"),
        pytest.param(lambda: small_scvi("batch_correction"), "scvi", marks=pytest.mark.slow),
    ],
)
def test_correction_mixes_batches_and_keeps_types(make, package):
    pytest.importorskip(package)
    data, source, split = batches()
    raw, method = Pca(n_components=10), make()
    for each in (raw, method):
        each.fit(data, split, source, 0)
    before, after = raw.integrate(data, 0), method.integrate(data, 0)
    assert list(after.obs_names) == list(data.obs_names)
    assert mixing(before.obsm["X_pca"], data.obs["batch"]) > 0.95
    embedding = after.obsm[f"X_{method.name}"]
    assert mixing(embedding, data.obs["batch"]) < 0.8
    assert mixing(embedding, data.obs["cell_type"]) > 0.9
    assert after.uns[keys.UNS][keys.CORRECTED] == (method.name != "harmony")
    again = method.integrate(data, 0).obsm[f"X_{method.name}"]
    np.testing.assert_allclose(embedding, again, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "package"),
    [
        (Scanorama, "scanorama"),
        pytest.param(lambda: small_scvi("batch_correction"), "scvi", marks=pytest.mark.slow),
    ],
)
def test_corrected_expression_brings_the_batches_means_together(make, package):
    pytest.importorskip(package)
    data, source, split = batches()
    method = make()
    method.fit(data, split, source, 0)
    made = method.integrate(data, 0)
    one = (data.obs["batch"] == "one").to_numpy()
    gap = np.abs(mean(data[one]) - mean(data[~one])).mean()
    assert np.abs(mean(made[one]) - mean(made[~one])).mean() < 0.6 * gap
    assert made.X.min() >= 0
    assert 0.5 < made.X.mean() / data.X.mean() < 1.5


@pytest.mark.slow
def test_scvi_generates_counts_of_the_asked_conditions():
    pytest.importorskip("scvi")
    data, source, split = batches()
    method = small_scvi("generation")
    method.fit(data, split, source, 0)
    wanted = data.obs[source.conditions].iloc[:300]
    made = method.generate(wanted, 0)
    counts = made.layers[keys.COUNTS]
    assert (counts.data == np.round(counts.data)).all()
    pd.testing.assert_frame_equal(made.obs[source.conditions], wanted, check_names=False)
    real = data[: len(wanted)]
    for kind in "abc":
        here = (wanted["cell_type"] == kind).to_numpy()
        assert np.corrcoef(mean(made[here]), mean(real[here]))[0, 1] > 0.95
    assert (method.generate(wanted, 0).layers[keys.COUNTS] != counts).nnz == 0
    assert method.cost["epochs"] == 40
    assert method.cost["steps"] >= 40


@pytest.mark.slow
def test_scvi_decodes_control_cells_under_the_target():
    pytest.importorskip("scvi")
    data, source, split = response_cells()
    method = small_scvi("perturbation")
    method.fit(data, split, source, 0)
    here = (data.obs["cell_type"] == "type3").to_numpy()
    treated = (data.obs["condition"] == "treated").to_numpy()
    control = data[here & ~treated]
    made = method.respond(control, "treated", 0)
    change, truth = mean(made) - mean(control), mean(data[here & treated]) - mean(control)
    assert np.corrcoef(change, truth)[0, 1] > 0.8
    with pytest.raises(UserError, match="no training cell has condition=drug"):
        method.respond(control, "drug", 0)
    with pytest.raises(UserError, match="serves task=perturbation"):
        method.generate(data.obs, 0)


def test_a_training_that_a_signal_ends_is_an_interrupt_and_not_a_finished_run():
    class Ended:
        def train(self, **options):
            raise SystemExit  # as Lightning does on SIGTERM: exit code 0

    with pytest.raises(KeyboardInterrupt, match="method=scvi was stopped while it trained; it keeps nothing"):
        train(small_scvi("generation"), Ended(), 10, 10)


@pytest.mark.slow
def test_sigterm_interrupts_scvi():
    pytest.importorskip("scvi")
    from lightning.pytorch.callbacks import Callback

    class Terminate(Callback):
        def on_train_batch_start(self, *args):
            os.kill(os.getpid(), signal.SIGTERM)

    data, source, split = batches()
    method = small_scvi("batch_correction")
    method.max_epochs = 2
    method.fit(data, split, source, 0)
    handler = signal.getsignal(signal.SIGTERM)
    n = len(split.train)
    with pytest.raises(KeyboardInterrupt, match="method=scvi was stopped"):
        train(method, method.model, n, n, callbacks=[Terminate()])
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.slow
def test_scvi_corrects_to_a_reference_batch_and_refuses_one_that_it_lacks():
    pytest.importorskip("scvi")
    data, source, split = batches()
    method = small_scvi("batch_correction")
    method.fit(data, split, source, 0)
    to_one, to_two = (method.integrate(data, 0, reference=batch) for batch in ("one", "two"))
    assert mean(to_two)[:20].mean() > mean(to_one)[:20].mean() + 0.5  # log1p, of genes that batch two multiplies by 5
    with pytest.raises(UserError, match=r"task\.reference=three is no batch; it has: one, two"):
        method.integrate(data, 0, reference="three")


@pytest.mark.parametrize("make", [Pca, Harmony, Scanorama])
def test_embeddings_refuse_a_reference_that_they_do_not_have(make):
    data, source, split = batches()
    method = make()
    method.fit(data, split, source, 0)
    with pytest.raises(UserError, match=f"method={method.name} has no choice of reference: leave task.reference=one"):
        method.integrate(data, 0, reference="one")


def test_a_missing_package_is_answered_with_the_install_command(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(packages.importlib, "import_module", absent)
    data, source, split = batches()
    method = Harmony()
    method.fit(data, split, source, 0)
    with pytest.raises(UserError, match="harmonypy, which is not installed: make setup EXTRAS=dev,baselines"):
        method.integrate(data, 0)
    with pytest.raises(UserError, match="scvi-tools"):
        Scvi(task="generation").fit(data, split, source, 0)


def test_no_batch_column_is_refused():
    data, source, split = response_cells()
    with pytest.raises(UserError, match="needs a batch column"):
        Pca().fit(data, split, source, 0)
