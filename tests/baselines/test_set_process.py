"""The response of gene sets: additive where it should be, told by vectors, chosen by honest leaving out, saved whole."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scsave import keys
from scsave.baselines.scales import Scale
from scsave.baselines.set_process.kernel import combined
from scsave.baselines.set_process.method import SetProcess
from scsave.data.perturbations import parse
from scsave.errors import UserError
from scsave.keys import Columns
from scsave.method.predict import Vocabulary, familiarity
from tests.baselines.cells import all_training

SOURCE = Columns(name="t", conditions=["pert"], perturbation="pert", kind="genes", control="control")
PANEL = [f"g{i}" for i in range(30)]
UNSEEN = ["U0", "U1", "U2"]
GENES = [f"P{i}" for i in range(24)]
DRAW = np.random.default_rng(3)
VECTORS = {gene: DRAW.normal(size=5) for gene in [*GENES, *UNSEEN, *PANEL]}
MAP = DRAW.normal(size=(5, 30))
EXACT = {"c": 0.0, "a": 0.0, "b": 0.0, "r": 1.0, "i": 0.0, "j": 0.0, "noise": 1e-9}


class Table:
    """Vectors from a dict; a gene that is not in it has none."""

    def __init__(self, rows):
        self.rows = rows

    def bind(self, data):
        return self

    def lookup(self, genes, organism, gene_ids):
        found = np.array([gene in self.rows for gene in genes])
        return np.array([self.rows.get(gene, np.zeros(5)) for gene in genes]), found


def effect(label, interaction=0.0):
    genes = [] if label == "control" else label.split("+")
    total = sum((VECTORS[g] @ MAP * 0.2 for g in genes), np.zeros(30))
    return total + interaction * np.prod([VECTORS[g][0] for g in genes]) if len(genes) == 2 else total


def cells(labels, per=20, noise=0.05, interaction=0.0, seed=0):
    """Log1p expression 3 + effect + noise: what the head reads is X alone."""
    rng = np.random.default_rng(seed)
    sizes = per if isinstance(per, list) else [per] * len(labels)
    rows = np.repeat(labels, sizes)
    x = np.array([3 + effect(label, interaction) for label in rows]) + rng.normal(0, noise, size=(len(rows), 30))
    obs = pd.DataFrame({"pert": pd.Categorical(rows), keys.LIBRARY: 1e4}, index=[f"c{i}" for i in range(len(rows))])
    return as_cells(x, obs)


def as_cells(x, obs):
    """Cells of log1p expression x; nothing reads their counts but the control cells that are kept."""
    layers = {keys.COUNTS: sp.csr_matrix(np.ones(x.shape, dtype=np.float32))}
    return anndata.AnnData(sp.csr_matrix(x.astype(np.float32)), obs, pd.DataFrame(index=PANEL), layers=layers)


def fitted(data, **options):
    head = SetProcess(vectors=options.pop("vectors", Table(VECTORS)), **options)
    head.fit(data, all_training(data), SOURCE, 0)
    return head


@pytest.fixture(scope="module")
def trained():
    doubles = ["P0+P1", "P1+P2", "P2+P3", "P3+P4", "P4+P5", "P6+P0"]
    return cells(["control", *GENES, *doubles])


def of(head, label):
    """Predicted effect of a perturbation, whatever cells it starts from."""
    genes = parse(label, "control")
    return head.of_set(genes) if genes else head.change_of(None, label)


def r(a, b):
    return np.corrcoef(a, b)[0, 1]


def test_without_interaction_and_noise_it_is_the_additive_prediction(trained):
    """On the scale of log1p."""
    singles = trained[~trained.obs["pert"].str.contains("+", regex=False)].copy()
    head = fitted(singles, weights=EXACT, interactions=False, scale="log1p")
    control = np.asarray(singles[singles.obs["pert"] == "control"].X.mean(0)).ravel()
    change = {g: np.asarray(singles[singles.obs["pert"] == g].X.mean(0)).ravel() - control for g in GENES}
    for pair in ("P0+P9", "P5+P7+P3"):
        expected = sum(change[gene] for gene in pair.split("+"))
        np.testing.assert_allclose(of(head, pair), expected, atol=1e-4)
    np.testing.assert_allclose(of(head, "P4"), change["P4"], atol=1e-4)
    assert (of(head, "control") == 0).all()


def test_order_and_spelling_are_free(trained):
    head = fitted(trained)
    for same in ("P9+P8", "P8_P9", "P8+P9+ctrl", " P9 + P8 "):
        assert (of(head, same) == of(head, "P8+P9")).all()
    shuffled = trained[np.random.default_rng(0).permutation(trained.n_obs)].copy()
    shuffled.obs["pert"] = [
        "+".join(reversed(label.split("+"))) if "+" in label else label for label in shuffled.obs["pert"].astype(str)
    ]
    np.testing.assert_allclose(of(fitted(shuffled), "P8+U0"), of(head, "P8+U0"), atol=1e-5)


def test_an_unseen_gene_is_told_by_its_vector_and_not_without_texts(trained):
    head = fitted(trained)
    assert r(of(head, "U0"), effect("U0")) > 0.95
    assert r(of(head, "U0+P3"), effect("U0+P3")) > 0.95
    blind = fitted(trained, text=False)
    assert {blind.chosen[name] for name in "abi"} == {0.0}
    np.testing.assert_allclose(of(blind, "U0"), of(blind, "U1"))
    shuffled = dict(zip(VECTORS, np.random.default_rng(1).normal(size=(len(VECTORS), 5)), strict=True))
    lost = fitted(trained, vectors=Table(shuffled))  # vectors that say nothing
    for other in (blind, lost):
        missed = [np.square(of(other, u) - effect(u)).sum() / np.square(effect(u)).sum() for u in UNSEEN]
        assert np.mean(missed) > 0.7
    assert max(np.square(of(head, u) - effect(u)).sum() / np.square(effect(u)).sum() for u in UNSEEN) < 0.1


def test_interactions_told_by_the_vectors_are_found_for_pairs_never_seen():
    pairs = [f"P{i}+P{j}" for i in range(12) for j in range(i + 1, 12) if (i + j) % 2]
    data = cells(["control", *GENES, *pairs], interaction=0.4)
    head, additive = fitted(data), fitted(data, interactions=False)
    assert head.chosen["i"] > 0
    assert {additive.chosen["i"], additive.chosen["j"]} == {0.0}
    held = [f"P{i}+P{j}" for i in range(12) for j in range(i + 1, 12) if not (i + j) % 2]
    truth = np.array([effect(pair, 0.4) for pair in held])
    error = {name: np.square(np.array([of(h, p) for p in held]) - truth).mean() for name, h in
             (("full", head), ("additive", additive))}  # fmt: skip
    assert error["full"] < 0.5 * error["additive"]


def test_few_axes_are_learned_where_the_vectors_tell_and_only_there():
    """The planted interaction is a product of one coordinate's values, at 30 of 66 pairs."""
    rng = np.random.default_rng(3)
    pairs = [f"P{i}+P{j}" for i in range(12) for j in range(i + 1, 12)]
    shown = set(rng.permutation(pairs)[:30])
    data = cells(["control", *GENES, *(pair for pair in pairs if pair in shown)], interaction=0.4, noise=0.3)
    head, again = fitted(data), fitted(data)
    assert head.axes.shape[0] == head.space.place(["P0"]).shape[1]
    np.testing.assert_array_equal(again.axes, head.axes)
    lost = fitted(data, vectors=Table({gene: rng.normal(size=5) for gene in VECTORS}))
    assert lost.axes is None
    products = fitted(data, weights={"i": 0.3})  # a fixed weight keeps to all products of coordinates
    assert products.axes is None
    truth = {pair: effect(pair, 0.4) for pair in pairs if pair not in shown}
    missed = [np.mean([np.square(of(h, p) - t).sum() for p, t in truth.items()]) for h in (head, products, lost)]
    assert missed[0] < 0.8 * missed[1]
    assert missed[0] < 0.5 * missed[2]
    other = SetProcess(vectors=Table(VECTORS))
    other.load_state(head.state())
    np.testing.assert_array_equal(of(other, "P0+U1"), of(head, "P0+U1"))


@pytest.mark.parametrize("closed", [False, True])
def test_effects_that_multiply_rates_add_up_on_the_scale_of_rates(closed):
    rng = np.random.default_rng(0)
    base, one, two = rng.gamma(2, 5, size=200), rng.normal(size=200), rng.normal(size=200)

    def change(factor):
        rates = base * np.exp(factor)
        return (np.log1p(rates * (base.sum() / rates.sum() if closed else 1)) - np.log1p(base))[None]

    scale = Scale(1e-9, closed)
    there = [scale.to(change(factor), np.log1p(base)) for factor in (one, two)]
    np.testing.assert_allclose(scale.back(there[0] + there[1], np.log1p(base)), change(one + two), atol=1e-6)
    np.testing.assert_allclose(scale.back(there[0], np.log1p(base)), change(one), atol=1e-6)
    assert not np.allclose(change(one) + change(two), change(one + two), atol=0.1)
    step = 1e-6
    numeric = (scale.to(np.full((1, 200), step), np.log1p(base)) / step)[0]
    np.testing.assert_allclose(scale.slope(np.log1p(base)), numeric, rtol=1e-4)


def test_the_scale_is_chosen_by_what_is_left_out():
    """Rates that share a library: `share`; changes that add up in log1p: `log1p`."""
    rng = np.random.default_rng(0)
    base = rng.gamma(2, 5, size=30)
    pairs = [f"P{i}+P{i + 1}" for i in range(9)]
    labels = np.repeat(["control", *GENES, *pairs], 20)

    def mean(label):
        rates = base * np.exp(4 * effect(label))
        return np.log1p(rates * base.sum() / rates.sum())

    x = np.array([mean(label) for label in labels]) + rng.normal(0, 0.05, size=(len(labels), 30))
    obs = pd.DataFrame({"pert": labels, keys.LIBRARY: 1e4}, index=[f"c{i}" for i in range(len(labels))])
    shared = as_cells(x, obs)
    assert fitted(shared).scale_name == "share"
    assert fitted(cells(["control", *GENES, *pairs])).scale_name == "log1p"


def test_what_leaving_out_misses_is_what_refitting_misses(trained):
    head = fitted(trained, scale="log1p")
    terms, blocks = head.kernel(head.sets, head.sets), head._blocks()
    kernel, noise = combined(terms, head.chosen), head._noise(head.chosen)
    missed = []
    for rows in blocks:
        kept = np.setdiff1d(np.arange(len(head.sets)), rows)
        weights = np.linalg.solve(kernel[np.ix_(kept, kept)] + np.diag(noise[kept]), head.changes[kept])
        missed.append(np.square(head.changes[rows] - kernel[np.ix_(rows, kept)] @ weights).sum() / len(rows))
    slow = np.mean(missed) / np.square(head.changes).sum(axis=1).mean()
    assert head._left_out(terms, blocks, head.chosen) == pytest.approx(slow, rel=1e-6)
    assert any(len(rows) > 1 for rows in blocks)  # a gene with all its sets


def loud(size: float):
    """Small effects that the vectors tell, and four genes whose effect is large, alike, and their own."""
    data = cells(["control", *GENES], noise=0.1)
    x = data.X.toarray()
    x[data.obs["pert"].isin(GENES[:4])] += size
    data.X = sp.csr_matrix(x)
    return data


def test_an_effect_that_the_others_foretell_badly_is_the_gene_s_own(tmp_path):
    data = loud(4.0)
    head, plain = fitted(data), fitted(data, surplus=0)
    assert plain.own_variance == {}
    assert set(sorted(head.own_variance, key=head.own_variance.get)[-4:]) == set(GENES[:4])

    def off(one):
        return np.mean([np.linalg.norm(of(one, gene) - effect(gene)) for gene in UNSEEN])

    assert off(head) < 0.8 * off(plain)
    for gene in GENES[:4]:  # its own cells are believed as before
        assert np.linalg.norm(of(head, gene) - effect(gene) - 4.0) < 1.0
    assert fitted(loud(0.0)).own_variance == {}
    head.save(tmp_path)
    again = SetProcess(vectors=Table(VECTORS))
    assert again.restore(tmp_path)
    assert np.array_equal(of(again, "U0"), of(head, "U0"))


def test_the_own_gene_of_an_unseen_perturbation_moves_as_own_genes_do():
    panel_genes = PANEL[:8]
    data = cells(["control", *panel_genes])
    labels, x = data.obs["pert"].astype(str).to_numpy(), data.X.toarray()
    for at, gene in enumerate(panel_genes):
        x[labels == gene, at] = 5.0
    data.X = sp.csr_matrix(x)
    head = fitted(data, text=False)
    unseen = of(head, "g20")
    assert unseen[20] == pytest.approx(2.0, abs=0.4)
    assert np.abs(np.delete(unseen, 20)).max() < 1.0


def test_one_and_two_cells_and_few_perturbations():
    few = cells(["control", "P0", "P1", "P2"], per=[30, 1, 2, 20])
    head = fitted(few)
    assert np.isfinite(of(head, "U0")).all()
    assert np.isfinite(head.error).all()
    only = fitted(cells(["control", "P0"]))
    assert np.isfinite(of(only, "P0+U1")).all()


def test_a_gene_without_a_vector_is_refused_with_names_like_it_or_counted(trained):
    table = Table({gene: vector for gene, vector in VECTORS.items() if gene != "P7"})
    with pytest.raises(UserError, match="no gene vector for P7; correct the name"):
        fitted(trained, vectors=table)
    head = fitted(trained, vectors=table, missing="mean")
    assert head.space.without == ["P7"]
    assert (head.space.place(["P7"]) == 0).all()
    of(head, "nobody")
    assert head.space.without == ["P7", "nobody"]
    with pytest.raises(UserError, match=r"no gene vector for p77 \(names like p77: P7"):
        of(fitted(trained), "p77")


def test_state_survives_a_checkpoint(tmp_path, trained):
    head, other = fitted(trained, missing="mean"), SetProcess(vectors=Table(VECTORS), missing="mean")
    head.save(tmp_path)
    assert other.restore(tmp_path)
    for name in ("P0+P9", "U1", "control"):
        np.testing.assert_array_equal(of(other, name), of(head, name))


def test_what_is_expected_of_a_set_is_what_sets_left_out_score(tmp_path, trained):
    """Of a gene never perturbed, from each gene left out with all its sets: as a refit without them would score."""
    head = fitted(trained)
    _, distance = head._held_out(("U0",), new=True)
    assert distance > 0
    gene = "P9"
    rest = trained[trained.obs["pert"].astype(str) != gene].copy()
    other = fitted(rest, weights=dict(head.chosen), scale=head.scale_name, surplus=0)
    plain = fitted(trained, weights=dict(head.chosen), scale=head.scale_name, surplus=0)
    at = plain.sets.index((gene,))
    score = plain._held_out(("U0",), new=True)[0][gene]["pcc"]
    assert score == pytest.approx(r(plain.changes[at], other.changes_of([(gene,)])[0]), abs=0.02)
    known_pair, new_gene = head.trust(None, "P8+P9"), head.trust(None, "U0")
    assert known_pair["held_out"] == len(head.sets)
    assert new_gene["low"] < new_gene["expected_pcc"] < new_gene["high"]
    assert known_pair["expected_pcc"] >= new_gene["expected_pcc"] - 0.1  # what was seen is not foretold worse
    head.save(tmp_path)
    again = SetProcess(vectors=Table(VECTORS))
    assert again.restore(tmp_path)
    assert again.trust(None, "U0") == pytest.approx(new_gene)


def known(head):
    return Vocabulary(head.space, head.genes, head.seen, head.sets, head.control, head.weighted)


def test_familiarity_measures_distance_against_the_training_genes(trained):
    rows = VECTORS | {"twin": VECTORS["P3"] + 1e-3, "alien": np.full(5, 40.0)}
    head = fitted(trained, vectors=Table(rows))
    table = familiarity(known(head), ["twin", "alien", "P0", "P0+P9", "P0+P1", "P2+alien"])
    points = head.space.place([*GENES, "alien"])
    gaps = [np.sort(np.linalg.norm(points[:-1] - p, axis=1))[1] for p in points[:-1]]
    own = np.linalg.norm(points[:-1] - points[-1], axis=1)
    assert table.loc["alien", "nearest_gene"] == GENES[int(own.argmin())]
    assert table.loc["alien", "distance"] == pytest.approx(own.min() / np.median(gaps))
    assert table.loc["alien", "further_than"] == 1.0
    assert "alien is" in table.loc["P2+alien", "warning"]
    assert table.loc["twin", ["nearest_gene", "warning"]].tolist() == ["P3", ""]
    assert table.loc["twin", "distance"] < 0.05
    assert table["in_training"].to_dict() == {
        "twin": False, "alien": False, "P0": True, "P0+P9": False, "P0+P1": True, "P2+alien": False
    }  # fmt: skip
    assert (table.loc[["P0", "P0+P9"], "warning"] == "").all()
    blind = familiarity(known(fitted(trained, text=False)), ["U0"])
    assert "knows no texts" in blind.loc["U0", "warning"]
    few = familiarity(known(fitted(cells(["control", "P0", "P1"]))), ["U0"])
    assert "too few" in few.loc["U0", "warning"]
    gone = familiarity(known(fitted(trained, missing="mean")), ["nobody"])
    assert gone.loc["nobody", "warning"] == "no vector for nobody: predicted as an average gene"


def test_mistakes_get_one_line(trained):
    with pytest.raises(UserError, match="no training cell is control"):
        fitted(trained[trained.obs["pert"] != "control"].copy())
    with pytest.raises(UserError, match="training has control cells only"):
        fitted(trained[trained.obs["pert"] == "control"].copy())
    with pytest.raises(UserError, match=r"method\.weights: q; it takes"):
        SetProcess(vectors=Table(VECTORS), weights={"q": 1.0})


def test_few_control_cells_are_pooled_with_those_of_training_and_other_cells_are_left_alone():
    """Far more noise than difference: the mean of all control cells together; far more difference: their own mean."""
    data = cells(["control", *GENES[:6]], per=[300] + [20] * 6, noise=1.0)
    head, own = fitted(data), data.X[:300].mean(axis=0).A1
    here = cells(["control"], per=100, noise=1.0, seed=7)
    mean = here.X.mean(axis=0).A1
    pooled = (300 * own + 100 * mean) / 400
    moved = head.change_of(here, "P0") - head.change_of(None, "P0")
    ratio = (moved @ (pooled - mean)) / np.square(pooled - mean).sum()
    np.testing.assert_allclose(moved, ratio * (pooled - mean), atol=1e-5)
    assert 0.7 < ratio <= 1.0 + 1e-6
    other = here.copy()
    other.X = sp.csr_matrix(other.X.toarray() + 5.0)
    assert np.abs(head.change_of(other, "P0") - head.change_of(None, "P0")).max() < 0.02
    assert (head.change_of(other, "control") == 0).all()
