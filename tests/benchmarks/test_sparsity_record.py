"""The benchmark of accuracy at given shares of zeros: its ways, its choices, and its smallest scale end to end."""

import dataclasses
import importlib
import math
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cross_entropy

from nonsmooth.lab import Context, Record, Store

pytest.importorskip("datasets")
pytest.importorskip("torchao")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
benchmark = importlib.import_module("sparsity_record")
choices = importlib.import_module("sparsity_record_choice")
methods = importlib.import_module("sparsity_record_methods")
networks = importlib.import_module("sparsity_record_networks")
pages = importlib.import_module("sparsity_record_page")
runs = importlib.import_module("sparsity_record_run")
ways = importlib.import_module("sparsity_record_ways")
TINY = benchmark.SCALES["tiny"]
DIGITS = Context(data="digits")
STEPS = 40


def trained(way, level=0.9, steps=STEPS, stop=None, seed=0, **settings):
    """A tiny network after some steps of a way, and the way."""
    torch.manual_seed(seed)
    model = networks.build("tiny", seed, torch.device("cpu"))
    images, labels = torch.randn(32, 3, 8, 8), torch.randint(10, (32,))
    made = way(model, {"rate": 3, **settings}, level, steps, "adam")
    for step in range(stop or steps):
        model.zero_grad()
        cross_entropy(model(images), labels).backward()
        made.step(runs.cosine(step / steps))
    return model, made


def weights_of(model):
    return torch.cat([weight.detach().flatten() for weight in runs.penalised(model)])


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_magnitude_pruning_holds_exactly_the_share_once_it_has_arrived(level):
    settings = {"start": 0.1, "end": 0.5, "every": 0.1}
    model, _ = trained(ways.GradualMagnitude, level, stop=20, **settings)
    support = weights_of(model) != 0
    assert int((~support).sum()) == round(level * len(support))
    later, _ = trained(ways.GradualMagnitude, level, **settings)
    assert torch.equal(weights_of(later) != 0, support)
    assert not torch.equal(weights_of(later), weights_of(model))  # the others go on


def test_magnitude_pruning_follows_the_cubic():
    settings = {"start": 0.25, "end": 0.75, "every": 0.25}
    for stop, progress in ((9, None), (10, 0.0), (20, 0.5), (29, 0.5), (30, 1.0)):
        model, _ = trained(ways.GradualMagnitude, 0.9, stop=stop, **settings)
        share = 0.0 if progress is None else 0.9 * (1 - (1 - progress) ** 3)
        weights = weights_of(model)
        assert int((weights == 0).sum()) == round(share * len(weights))


def test_masks_keep_the_largest_of_all_layers_together():
    weights = [torch.tensor([[1.0, -5.0], [0.5, 3.0]]), torch.tensor([-4.0, 0.1, 2.0, 0.0])]
    first, second = ways.masks_of_largest(weights, 0.5)
    assert first.tolist() == [[0, 1], [0, 1]]
    assert second.tolist() == [1, 0, 1, 0]
    assert [int(mask.sum()) for mask in ways.masks_of_largest(weights, 0.0)] == [4, 4]


def test_the_soft_threshold_is_that_of_torch():
    weight, threshold = torch.randn(5, 4), ways.SoftThreshold(-1.0)
    expected = torch.nn.functional.softshrink(weight, float(torch.tensor(-1.0).sigmoid()))
    assert torch.allclose(threshold(weight), expected)


def test_str_makes_zeros_by_decay_on_its_thresholds_alone():
    model, made = trained(ways.LearnedThresholds, threshold=-10.0, strength=0.3)
    made.finish()
    assert float((weights_of(model) == 0).float().mean()) > 0.5
    _, other = trained(ways.LearnedThresholds, threshold=-10.0, strength=0.0)
    other.finish()
    assert float((weights_of(other.model) == 0).float().mean()) < 0.01
    assert not any("parametrizations" in name for name in model.state_dict())


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_spred_starts_from_the_weights_of_the_others_and_leaves_their_product(start):
    plain = weights_of(networks.build("tiny", 0, torch.device("cpu")))
    model = networks.build("tiny", 0, torch.device("cpu"))
    made = ways.RedundantFactors(model, {"rate": 1, "strength": 0.1, "start": start}, 0.9, STEPS, "adam")
    made.finish()
    assert torch.allclose(weights_of(model), plain, rtol=1e-5)


@pytest.mark.parametrize(
    ("first", "start", "strength", "solution"),
    [(1, 0.0, 0.5, 1.5), (1, 0.3, 0.5, 1.5), (-1, 0.3, 0.5, 1.5), (1, 0.0, 3.0, 0.0)],
)
def test_decay_on_two_factors_solves_the_lasso_of_that_strength(first, start, strength, solution):
    """One weight, loss (w - 2)²/2: the L1 solution is 2 - λ, and 0 for λ = 3."""
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(first)
    made = ways.RedundantFactors(layer, {"rate": 10, "strength": strength, "start": start}, 0.9, 1, "adam")
    for _ in range(2000):
        layer.zero_grad()
        ((layer.weight - 2).square() / 2).sum().backward()
        made.step(1.0)
    assert layer.weight.item() == pytest.approx(solution, abs=2e-2)


def test_torchaos_own_target_arrives():
    model, _ = trained(ways.TorchaoTarget, 0.9, healing=0.6, every=0.05)
    weights = weights_of(model)
    assert abs(int((weights == 0).sum()) - 0.9 * len(weights)) <= 1


WAYS = {
    "dense": (ways.Dense, {}),
    "gradual": (ways.GradualMagnitude, {"start": 0.1, "end": 0.8, "every": 0.05}),
    "lambda": (ways.Steady, {"strength": 1e-2}),
    "target": (ways.Target, {"release": 0.6}),
    "str": (ways.LearnedThresholds, {"threshold": -5.0, "strength": 0.05}),
    "spred": (ways.RedundantFactors, {"strength": 1e-2, "start": 0.0}),
    "torchao": (ways.Torchao, {"healing": 0.8, "strength": 0.5}),
    "torchao-target": (ways.TorchaoTarget, {"healing": 0.8, "every": 0.05}),
}


def test_every_method_of_the_table_is_looked_at_here():
    assert {method.way for method in methods.METHODS.values()} == {way for way, _ in WAYS.values()}


@pytest.mark.parametrize("name", WAYS)
def test_a_run_that_goes_on_from_its_checkpoint_gives_the_same_numbers(name, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 0.0)
    method = next(key for key, other in methods.METHODS.items() if other.way is WAYS[name][0])
    scale = dataclasses.replace(TINY, epochs=4)
    cell = benchmark.Search(scale, Store(tmp_path), "tiny", method)
    (cell,) = cell.cells({"rate": 3, **WAYS[name][1]}, 0.8, "report", [100])
    whole = runs.measure(cell, DIGITS)

    class Stopped(Exception):  # noqa: N818 - a stop, not an error
        pass

    for stop in (0.5, 0.75):

        def progress(done, stop=stop):
            if done == stop:
                raise Stopped

        context = dataclasses.replace(DIGITS, scratch=tmp_path / "scratch" / cell.key, progress=progress)
        with pytest.raises(Stopped):
            runs.measure(cell, context)
    assert list((tmp_path / "scratch" / cell.key).iterdir())
    assert runs.measure(cell, dataclasses.replace(context, progress=lambda _: None)) == whole


def test_images_are_shifted_and_mirrored_whole():
    images = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).view(2, 3, 6, 6) + 1
    changed = runs.flipped_and_shifted(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (4,) * 4)
    for one, whole in zip(changed, padded, strict=True):
        cuts = [whole[:, top : top + 6, left : left + 6] for top in range(9) for left in range(9)]
        assert any(torch.equal(one, cut) or torch.equal(one, cut.flip(-1)) for cut in cuts)
    assert not torch.equal(changed, images)


def made_up(store, search, settings, level, stage, seeds, zeros, score):
    """Records as a run would leave them."""
    for cell in search.cells(settings, level, stage, seeds):
        count = len(cell.parameters["levels"]) or 1
        values = {"loss": 1.0, "zeros": [zeros] * count, "validation": [score] * count}
        if stage == "report":
            values["test"] = [score + cell.seed / 1e4] * count
        store.save(Record(cell, values))


def test_settings_are_chosen_by_validation_among_those_with_the_zeros(tmp_path):
    store = Store(tmp_path)
    search = choices.Search(TINY, store, "tiny", "gradual")
    first, second = methods.METHODS["gradual"].settings[:2]
    made_up(store, search, first, 0.8, "choice", TINY.tuning_seeds, 0.8, 0.5)
    assert search.choice(0.8).trial.settings == first
    assert search.missing
    made_up(store, search, second, 0.8, "choice", TINY.tuning_seeds, 0.8, 0.6)
    assert search.choice(0.8).trial.settings == second
    made_up(store, search, second, 0.95, "choice", TINY.tuning_seeds, 0.7, 0.9)
    made_up(store, search, first, 0.95, "choice", TINY.tuning_seeds, 0.95, 0.1)
    assert search.choice(0.95).trial.settings == first
    assert search.choice(0.95).hit


def test_lambda_is_closed_in_on_until_the_level_is_met(tmp_path):
    """With zeros = 1 - 1/(1 + λ/λ₀)², the λ of a level is known."""
    store = Store(tmp_path)
    scale = dataclasses.replace(TINY, trials=6)
    search = choices.Search(scale, store, "tiny", "lambda")

    def zeros(strength):
        return 1 - (1 + strength / 5e-3) ** -2

    for level in scale.levels:
        for _ in range(20):
            search.missing.clear()
            search.trials(level)
            for cell in search.missing:
                settings = dict(cell.parameters["settings"])
                value = {
                    "loss": 0.0,
                    "zeros": [zeros(settings["strength"])],
                    "validation": [0.5 - settings["rate"] / 100],
                }
                store.save(Record(cell, value))
            if not search.missing:
                break
        found = search.choice(level)
        assert found.hit
        assert abs(found.trial.zeros - level) <= choices.tolerance(level)
        assert zeros(found.trial.settings["strength"]) == pytest.approx(found.trial.zeros)
        assert found.tried <= scale.trials * len(scale.levels)


def test_a_level_that_no_lambda_reaches_is_said(tmp_path):
    store = Store(tmp_path)
    search = choices.Search(TINY, store, "tiny", "lambda")
    for settings in search.planned():
        made_up(store, search, settings, 0.8, "choice", TINY.tuning_seeds, 0.3, 0.5)
    found = search.choice(0.8)
    assert not found.hit
    made_up(store, search, found.trial.settings, 0.8, "report", TINY.report_seeds, 0.3, 0.5)
    (entry,) = [
        e for (name, level), e in pages.entries_of(TINY, store, "tiny").items() if (name, level) == ("lambda", 0.8)
    ]
    assert "(at 30.0 %)" in entry.text(2)


def test_no_method_has_more_runs_than_another_may_have(tmp_path):
    for scale in benchmark.SCALES.values():
        allowed = scale.trials * len(scale.levels)
        for name, method in methods.METHODS.items():
            planned = choices.Search(scale, Store(tmp_path), scale.networks[0], name).planned()
            later = {"told": 0, "rounded": 0, "found": (scale.trials - scale.trials // 2) * len(scale.levels)}
            spent = len(planned) * (len(scale.levels) if method.arrives == "told" else 1) + later[method.arrives]
            assert 0 < spent <= allowed + 1
            assert len({str(sorted(settings.items())) for settings in planned}) == len(planned)


def test_no_reported_run_has_a_tuning_seed():
    for scale in benchmark.SCALES.values():
        assert not set(scale.tuning_seeds) & set(scale.report_seeds)
        assert len(set(scale.report_seeds)) == len(scale.report_seeds)


def test_the_differences_are_paired(tmp_path):
    store = Store(tmp_path)
    target, other = ([0.5, 0.62], [0.49, 0.60])
    search = {name: choices.Search(TINY, store, "tiny", name) for name in ("target", "gradual")}
    for name, tests in (("target", target), ("gradual", other)):
        settings = methods.METHODS[name].settings[0]
        made_up(store, search[name], settings, 0.8, "choice", TINY.tuning_seeds, 0.8, 0.5)
        for seed, test in zip(TINY.report_seeds, tests, strict=True):
            (cell,) = search[name].cells(settings, 0.8, "report", [seed])
            store.save(Record(cell, {"loss": 1.0, "zeros": [0.8], "validation": [0.5], "test": [test]}))
    found = pages.entries_of(TINY, store, "tiny")
    gap = pages.difference(found["target", 0.8], found["gradual", 0.8])
    differences = np.subtract(target, other)
    assert gap.mean == pytest.approx(differences.mean())
    assert gap.half == pytest.approx(stats.t.ppf(0.975, 1) * stats.sem(differences))
    page, _ = pages.write({"tiny": TINY}, store)
    assert f"| gradual magnitude pruning | +1.5 ± {100 * gap.half:.1f} |  |" in page
    assert "not told apart from gradual magnitude pruning" in page


def test_the_smallest_scale_runs_from_end_to_end_and_again_runs_nothing(tmp_path):
    store = Store(tmp_path)
    names = ("dense", "target", "gradual", "rounding", "str", "spred")
    bench = benchmark.Bench(TINY, store, TINY.networks, names, TINY.levels)
    measured = []

    def run_here(cells):
        for cell in cells:
            if store.load(cell) is None:
                measured.append(cell)
                store.save(Record(cell, runs.measure(cell, DIGITS)))

    while cells := bench.choosing():
        run_here(cells)
    for cells in bench.reporting():
        run_here(cells)
    again = len(measured)
    for cells in (bench.choosing(), *bench.reporting()):
        run_here(cells)
    assert len(measured) == again
    for cell in measured:
        tuning = cell.parameters["stage"] == "choice"
        assert cell.seed in (TINY.tuning_seeds if tuning else TINY.report_seeds)
        assert ("test" in store.load(cell).values) is not tuning
    page, figure = pages.write({"tiny": TINY}, store)
    accuracies = page.split("Test accuracy (%):")[1].split("Ahead of each")[0]
    rows = {text.split(" | ")[0].strip("| *"): text for text in accuracies.splitlines() if text.startswith("| ")}
    assert [label in rows for label in ("gradual magnitude pruning", "STR")] == [True, True]
    for name, method in methods.METHODS.items():
        assert rows[method.label].endswith("|  |  |") is (name not in names)
    root = ElementTree.fromstring(figure)
    points = [float(e.get("cx")) for e in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert points
    assert all(math.isfinite(point) for point in points)
    for level in TINY.levels:
        for name in ("gradual", "rounding"):
            entry = pages.entries_of(TINY, store, "tiny")[name, level]
            assert all(abs(zeros - level) < 1e-3 for zeros in entry.zeros.values())


@pytest.mark.slow
def test_a_run_that_is_stopped_by_its_time_goes_on(tmp_path):
    command = [sys.executable, benchmark.__file__, "--scale", "tiny", "--data", "digits", "--store", str(tmp_path)]
    command += ["--methods", "dense", "gradual", "--levels", "0.95", "--output", str(tmp_path / "page.md")]
    stopped = subprocess.run(
        [*command, "--minutes", "0.0001"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert "the same command goes on from here" in stopped.stdout
    assert "Too few runs" in (tmp_path / "page.md").read_text(encoding="utf-8")
