"""Training on several processes ends with the weights of one process."""

import sys
from pathlib import Path

import pytest
import torch.distributed

PROGRAMS = Path(__file__).parent / "distributed_programs"
sys.path.insert(0, str(PROGRAMS))

from networks import OPTIMISERS, PENALTIES, SPLIT_GROUPS  # noqa: E402
from processes import run_together  # noqa: E402

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
        reason="needs a torch with torch.distributed and its gloo backend",
    ),
    pytest.mark.skipif(sys.platform == "win32", reason="FSDP2 on CPU is tested on POSIX systems"),
    pytest.mark.timeout(600),
]

ROUNDING = 1e-13
"""Of float64 numbers around 1 that went through twenty steps; sums of two halves are not those of the whole."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return run_together(PROGRAMS / "training.py", 2, tmp_path_factory.mktemp("two"))


def assert_equal_to_rounding(compared):
    assert {penalty: one["difference"] for penalty, one in compared.items() if not one["difference"] < ROUNDING} == {}
    assert [penalty for penalty, one in compared.items() if not one["same_zeros"]] == []


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_ddp_ends_with_the_weights_of_one_process(report, optimiser):
    assert_equal_to_rounding(report["ddp"][f"{optimiser}-halves"])


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_ddp_where_processes_see_the_same_batch_gives_the_same_bits(report, optimiser):
    assert {one["difference"] for one in report["ddp"][f"{optimiser}-same"].values()} == {0.0}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_fsdp_ends_with_the_weights_of_one_process(report, optimiser):
    runs = [compared for run, compared in report["fsdp"].items() if run.split("-")[1] == optimiser]
    assert runs
    for compared in runs:
        assert_equal_to_rounding(compared)


def assert_penalties_did_something(runs):
    """Else the runs would agree whatever the penalties do."""
    for penalty in set.intersection(*(set(compared) for compared in runs)):
        found = [compared[penalty] for compared in runs]
        if penalty == "nuclear":
            assert any(one["rank"] < 3 for one in found)
        else:
            assert any(0 < one["zeros"] < one["weights"] for one in found), penalty


def test_the_runs_by_fsdp_have_zeros_and_low_rank_to_compare(report):
    assert_penalties_did_something(list(report["fsdp"].values()))


@pytest.mark.slow
def test_fsdp_under_every_optimiser_and_penalty_for_twenty_steps(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", "full")
    runs = run_together(PROGRAMS / "training.py", 2, tmp_path, patience=900.0)["fsdp"]
    assert len(runs) == 2 * len(OPTIMISERS)
    for compared in runs.values():
        assert compared.keys() == PENALTIES.keys()
        assert_equal_to_rounding(compared)
    assert_penalties_did_something(list(runs.values()))


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "nadam", "rmsprop", "rda", "xrda"])
def test_asking_for_the_state_of_a_new_optimiser_leaves_the_weights(report, optimiser):
    """torch takes a step of size 0 to fill the state."""
    assert set(report["initialised"][optimiser].values()) == {0.0}


@pytest.mark.parametrize("run", ["sgd-nested", "adam-flat"])
def test_a_sharded_checkpoint_brings_the_penalty_and_the_same_bits(report, run):
    resumed = report["resumed"][run]
    assert resumed["penalties"] == resumed["expected"]
    assert resumed["same_bits"]


def test_a_sharded_network_has_the_certificate_of_a_whole_one(report):
    certified = report["certified"]
    assert certified["sharded"]["objective"] == pytest.approx(certified["alone"]["objective"], rel=1e-12)
    assert certified["sharded"]["residuals"] == pytest.approx(certified["alone"]["residuals"], rel=1e-10)
    assert certified["sharded"]["zeros"] == certified["alone"]["zeros"] > 0
    assert certified["unchanged"]


def test_a_sharded_linear_model_has_the_duality_gap_of_a_whole_one(report):
    assert report["bounded"]["sharded"] == pytest.approx(report["bounded"]["alone"], rel=1e-10)
    assert report["bounded"]["alone"] > 1e-6


def check_shards(shards):
    wrong = {case: found for case, found in shards.items() if case != "summand" and not found < ROUNDING}
    assert wrong == {}


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_prox_by_shards_is_the_prox_of_the_whole(report, penalty):
    cases = {case: found for case, found in report["shards"].items() if case.startswith(f"{penalty};")}
    assert len(cases) == 3 * 2  # placements and kinds of step
    check_shards(cases)


@pytest.mark.parametrize(
    "name",
    [
        "complex l1",
        "complex groups",
        "bfloat16 l1",
        "bfloat16 groups",
        "bfloat16 nuclear",
        "weights changed in place, l1",
        "weights changed in place, groups",
        "weights spread as well",
    ],
)
def test_special_cases_of_shards(report, name):
    check_shards({name: report["shards"][name]})


def test_a_summand_of_a_parameter_is_refused(report):
    assert "placements" in report["shards"]["summand"]
    assert "Partial" in report["shards"]["summand"]


@pytest.mark.slow
def test_the_prox_by_shards_on_a_grid_of_four_processes(tmp_path):
    found = run_together(PROGRAMS / "placements.py", 4, tmp_path, patience=900.0)
    assert len(found["shards"]) > len(PENALTIES) * 9 * 2
    check_shards(found["shards"])
    check_shards(found["tensor_parallel"])
    assert any("StridedShard" in case for case in found["tensor_parallel"])
    assert {case.split(";")[0] for case in found["tensor_parallel"]} >= set(SPLIT_GROUPS)


def test_ddp_with_sparse_gradients_ends_with_the_weights_of_one_process(tmp_path):
    report = run_together(PROGRAMS / "sparse_embeddings.py", 2, tmp_path)
    assert len(report) == 4
    assert_equal_to_rounding(report)
    assert any(one["zeros"] for one in report.values())


def test_a_sparsity_target_on_shards_ends_and_resumes_as_on_one_process(tmp_path):
    for run, found in run_together(PROGRAMS / "targets.py", 2, tmp_path).items():
        assert found["shares"][0] == found["shares"][1], run
        assert found["difference"] < 1e-4, run  # float32
        assert found["same_zeros"] or "nuclear" in run, run
        assert found["resumed"] == [0.0, 0.0], run
