"""What the command line refuses, and what it lists."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import nonsmooth
from nonsmooth.claims.framework.registry import CLAIM_IDS, load_claim
from nonsmooth.cli import app


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"})
    return lambda *arguments: runner.invoke(app, list(arguments))


def words(result):
    """The output without the box that typer draws around errors."""
    return " ".join(result.output.replace("│", " ").split())


def test_help_loads_nothing_heavy():
    code = (
        "import sys, nonsmooth.cli\n"
        "try: nonsmooth.cli.app(['reproduce', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'pyarrow', 'plotly', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_version(invoke):
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output.strip() == f"nonsmooth {nonsmooth.__version__}"


def test_claims_are_listed(invoke):
    result = invoke("claims")
    assert result.exit_code == 0
    assert all(claim_id in result.output for claim_id in CLAIM_IDS)
    listed = json.loads(invoke("claims", "--json").output)
    assert [claim["id"] for claim in listed] == list(CLAIM_IDS)
    assert listed[0]["statement"] == load_claim(listed[0]["id"]).CLAIM.statement


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "no-such-claim"], ["no-such-claim", *CLAIM_IDS]),
        (["reproduce", "--no-such-option"], ["--no-such-option", "--scale", "--workers", "--where"]),
        (["reproduce", "--scale", "huge"], ["huge", "quick", "standard", "paper"]),
        (["reproduce", "--seeds", "0"], ["--seeds", "1"]),
        (["reproduce", "--workers", "0"], ["--workers", "1"]),
        (["reproduce", "--data", "no/such/folder"], ["no/such/folder", "digits", "cifar10"]),
        (["reproduce", "--device", "abacus"], ["abacus", "cpu", "cuda"]),
        (["reproduce", "--device", "cuda:99"], ["cuda:99", "CUDA", "cpu"]),
        (["reproduce", "paradox-2d", "--where", "nonsense"], ["nonsense", "KEY=VALUE"]),
        (["report", "no/such/folder"], ["no/such/folder", "reproduce"]),
    ],
    ids=lambda item: "_".join(item) if item[0] in ("reproduce", "report") else "",
)
def test_what_does_not_exist_is_refused_with_what_does(invoke, tmp_path, arguments, said):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert all(word in words(result) for word in said), words(result)
    assert list(tmp_path.iterdir()) == []
