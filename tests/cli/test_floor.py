"""`nonsmooth floor`: the prediction, for a reader and as JSON, and what it refuses."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from nonsmooth.cli import app

pytestmark = pytest.mark.processes


def invoke(*arguments, columns=60):
    runner = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1", "TERMINAL_WIDTH": str(columns)})
    return runner.invoke(app, ["floor", *arguments])


def predicted(optimizer, *arguments):
    result = invoke("--optimizer", optimizer, "--lr", "0.01", "--lam", "0.1", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def words(result):
    """The output without the box that typer draws around errors."""
    return " ".join(result.output.replace("│", " ").split())


def test_plain_sgd_s_floor_is_the_paper_s_number():
    floor = predicted("SGD", "--params", "138357544")
    assert floor["l1_norm"] == pytest.approx(69178.772, rel=1e-4)
    assert floor["closed_form"] == pytest.approx(5e-4)
    assert floor["fraction_below"] == pytest.approx(0.01, abs=4e-3)
    assert floor["exact_zeros"] == 0
    assert floor["settled"] is True
    assert floor["proximal"]["l1_norm"] == 0
    assert floor["proximal"]["exact_zeros"] == 1


def test_options_reach_the_law():
    assert predicted("sgd", "--noise", "0.1")["closed_form"] == pytest.approx(1e-3)
    assert predicted("sgd", "--threshold", "5e-4")["fraction_below"] == pytest.approx(0.5, abs=0.03)
    momentum = predicted("momentum")
    assert predicted("sgd", "--momentum", "0.9")["l1_norm"] == momentum["l1_norm"]
    assert momentum["optimizer"] == "SGD, momentum 0.9"
    assert predicted("nesterov", "--momentum", "0.5")["optimizer"] == "SGD, Nesterov 0.5"
    assert predicted("sgd", "--start", "1", "--lr", "1e-4", "--dtype", "bfloat16")["stalled"] > 0.5


def test_options_of_the_optimiser_and_of_the_run_reach_the_law():
    plain = predicted("adam")
    decayed = predicted("adam", "--weight-decay", "0.1", "--betas", "0.8", "0.99")
    assert decayed["optimizer"] == "Adam, betas 0.8 0.99, weight decay 0.1"
    assert decayed["l1_norm"] != plain["l1_norm"]
    other, short = predicted("adam", "--seed", "1"), predicted("adam", "--max-steps", "100")
    assert other["l1_norm"] == pytest.approx(plain["l1_norm"], rel=0.05)
    assert other["l1_norm"] != plain["l1_norm"]
    assert short["steps"] == 64
    assert short["unsettled"] == "there were too few steps for a comparison"
    assert plain["unsettled"] is None


def test_json_says_what_was_asked():
    keys = ("start", "momentum", "betas", "weight_decay", "max_steps", "seed")
    adam = predicted("adamw", "--start", "0.5", "--seed", "3", "--max-steps", "4096")
    assert [adam[key] for key in keys] == [0.5, None, [0.9, 0.999], 0.01, 4096, 3]
    momentum = predicted("momentum")
    assert [momentum[key] for key in keys] == [None, 0.9, None, 0, 32768, 0]


def test_an_optimiser_without_a_prox_has_a_floor_without_one():
    floor = predicted("rprop")
    assert floor["l1_norm"] > 0
    assert floor["proximal"] is None


@pytest.mark.parametrize("columns", [60, 100])
def test_the_page_fits_into_the_terminal_without_colour(columns):
    result = invoke("--optimizer", "adam", "--lr", "0.01", "--lam", "0.1", "--params", "138357544", columns=columns)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert "\x1b" not in result.output
    said = words(result)
    assert "L1 norm of 138,357,544 weights" in said
    assert "below 1e-05" in said
    assert "with a proximal step L1 norm 0 100.00% exactly zero" in said
    assert "Settled: the law was recorded after" in said
    bars = [line for line in lines if "█" in line]
    assert len(bars) >= 3
    # The density of Adam's law falls.
    assert [line.count("█") for line in bars] == sorted((line.count("█") for line in bars), reverse=True)


def test_lines_that_only_some_laws_have():
    options = ("--lr", "0.01", "--lam", "0.1", "--params", "1")
    plain = words(invoke("--optimizer", "sgd", *options))
    assert "L1 norm of 1 weight 0.0005" in plain
    assert "the same in closed form 0.0005" in plain
    assert "not moving at all" not in plain
    coarse = words(invoke("--optimizer", "sgd", "--lam", "0.1", "--lr", "1e-4", "--dtype", "bfloat16", "--start", "1"))
    stuck = predicted("sgd", "--start", "1", "--lr", "1e-4", "--dtype", "bfloat16")["stalled"]
    assert f"not moving at all {stuck:.2%}" in coarse
    assert "closed form" not in coarse  # it is that of weights that move
    without_prox = words(invoke("--optimizer", "rprop", *options))
    assert "with a proximal step not known for this optimiser" in without_prox
    assert "closed form" not in without_prox


def test_a_law_that_does_not_settle_says_so():
    result = invoke("--optimizer", "adagrad", "--lr", "0.01", "--lam", "0.1")
    assert "Not settled after 32,768 steps: in the last comparison, mean |w| went from" in words(result)


@pytest.mark.slow
def test_what_kept_a_law_from_settling_is_said_though_its_mean_has_come_to_rest():
    result = invoke(
        *("--optimizer", "adamw", "--lr", "1e-3", "--lam", "0.01", "--dtype", "bfloat16", "--start", "0.02")
    )
    said = words(result)
    assert "+0.00%" not in said
    assert "Not settled after 32,768 steps: only the last comparison agreed, and it takes 2 in a row;" in said
    assert "More steps may settle it: --max-steps." in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--optimizer", "adum"], ["--optimizer", "'adum'", "adam", "nesterov"]),
        (["--optimizer", "lbfgs"], ["--optimizer: LBFGS, whose step needs a closure, has no law"]),
        (["--optimizer", "adafactor"], ["--optimizer", "what the others are"]),
        (["--optimizer", "adam", "--momentum", "0.9"], ["--momentum", "Adam has no momentum"]),
        (["--optimizer", "sgd", "--momentum", "1"], ["--momentum", "below 1"]),
        (["--optimizer", "sgd", "--lr", "0"], ["--lr", "positive"]),
        (["--optimizer", "sgd", "--lam", "nan"], ["--lam", "positive"]),
        (["--optimizer", "sgd", "--noise", "-1"], ["--noise", "at least 0"]),
        (["--optimizer", "sgd", "--threshold", "-1"], ["--threshold", "positive"]),
        (["--optimizer", "sgd", "--start", "0"], ["--start", "positive"]),
        (["--optimizer", "sgd", "--params", "0"], ["--params"]),
        (["--optimizer", "rprop", "--weight-decay", "0.1"], ["--weight-decay", "Rprop has no weight decay; all but"]),
        (["--optimizer", "adam", "--weight-decay", "-1"], ["--weight-decay", "at least 0"]),
        (["--optimizer", "sgd", "--betas", "0.9", "0.99"], ["--betas", "SGD has no betas; adam, "]),
        (["--optimizer", "adam", "--betas", "0.9", "1"], ["--betas", "1 is not a number from 0 to below 1"]),
        (["--optimizer", "adam", "--max-steps", "0"], ["--max-steps"]),
        (["--optimizer", "adam", "--seed", "-1"], ["--seed"]),
        (["--optimizer", "adam", "--seed", str(1 << 64)], ["--seed", "of 64 bits"]),
        (["--optimizer", "sgd", "--dtype", "float8"], ["--dtype", "bfloat16"]),
    ],
)
def test_what_is_refused(arguments, said):
    result = invoke("--lr", "0.01", "--lam", "0.1", *arguments, columns=200)
    assert result.exit_code == 2
    assert all(word in words(result) for word in said), result.output
    assert "make_optimizer" not in words(result)


def test_help_loads_nothing_heavy():
    code = (
        "import sys, nonsmooth.cli\n"
        "try: nonsmooth.cli.app(['floor', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'pyarrow', 'plotly', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().splitlines()[-1] == "[]"
