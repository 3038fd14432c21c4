"""The command line with two invented claims in place of the real ones, here and in the workers' processes."""

import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import nonsmooth.claims
from nonsmooth import lab
from nonsmooth.claims.framework import registry
from nonsmooth.cli import app, listing, reproduction, selection

FAKES = Path(__file__).parent / "fakes"
PATCH = f"""
import nonsmooth.claims
nonsmooth.claims.__path__.insert(0, {str(FAKES)!r})
from nonsmooth.claims.framework import registry
registry.CLAIM_IDS = ("capture", "rate")
registry.CLAIMS = {{"capture": "capture", "rate": "rate"}}
"""


@pytest.fixture
def environment(tmp_path):
    """Environment variables under which every Python process knows the invented claims."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(PATCH, encoding="utf-8")
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "80", "NO_COLOR": "1"}


@pytest.fixture
def shell(environment, tmp_path):
    """Run `nonsmooth` as a user does, in a process and a folder of its own. Slow: its worker has to load torch."""

    def run(*arguments):
        code = "from nonsmooth.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The same in this process, with a thread in place of the worker processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nonsmooth.claims, "__path__", [str(FAKES), *nonsmooth.claims.__path__])
    monkeypatch.setattr(registry, "CLAIM_IDS", ("capture", "rate"))
    monkeypatch.setattr(registry, "CLAIMS", {"capture": "capture", "rate": "rate"})
    monkeypatch.setattr(listing, "CLAIM_IDS", ("capture", "rate"))
    monkeypatch.setattr(selection, "CLAIM_IDS", ("capture", "rate"))
    for name in ("capture", "rate"):
        monkeypatch.delitem(sys.modules, f"nonsmooth.claims.{name}", raising=False)
    runner = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"})

    def run(*arguments, **variables):
        with ThreadPoolExecutor(1) as executor, monkeypatch.context() as patch:
            patch.setattr(reproduction, "run", functools.partial(lab.run, executor=executor))
            result = runner.invoke(app, list(arguments), env=variables)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return SimpleNamespace(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    yield run
    for name in ("capture", "rate"):
        sys.modules.pop(f"nonsmooth.claims.{name}", None)
