"""The commands in a results folder that came from elsewhere, was damaged, or cannot be written."""

import errno
import json
import os
import shutil

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nonsmooth.cli import app

posix = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs as POSIX has them")
PLACES = (
    "cells", "scratch", "report", "lock", "settings.json", "results.json", "failures.txt", "report/index.html",
    "cells/{key}.parquet", "scratch/{key}", "scratch/{key}.progress",
)  # fmt: skip


@pytest.fixture(scope="module")
def template():
    """Where the finished run of the first test is kept for the others."""
    return {}


@pytest.fixture
def finished(command, tmp_path, template, tmp_path_factory):
    """A folder with a finished run, made once."""
    if "folder" not in template:
        assert command("reproduce", "--out", "here").returncode == 0
        template["folder"] = tmp_path_factory.mktemp("finished") / "run"
        shutil.copytree(tmp_path / "here", template["folder"])
        return tmp_path / "here"
    return shutil.copytree(template["folder"], tmp_path / "here")


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def one_line(done, *words):
    text = " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr + done.stdout
    assert all(word in text for word in words), text
    return text


@posix
@pytest.mark.parametrize("name", PLACES)
def test_folders_outside_survive_every_link(command, finished, tmp_path, name):
    """`reproduce`, `report` and `reproduce --fresh`, with a link to the user's files in each place that we use."""
    key = next((finished / "cells").iterdir()).stem
    place = finished / name.format(key=key)
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    for more in (f"scratch/{key}", f"{key}.parquet", "index.html", f"report/{key}"):
        (home / more).mkdir(parents=True, exist_ok=True)
    (home / "scratch" / key / "thesis.tex").write_text("mine")
    (home / f"{key}.progress").write_text("mine")
    before = snapshot(home)
    for target in (home / name.format(key=key), home, home / f"scratch/{key}", home / "missing"):
        for arguments in (["reproduce"], ["report"], ["reproduce", "--fresh", "capture"]):
            if place.is_symlink() or place.is_file():
                place.unlink()
            elif place.is_dir():
                shutil.rmtree(place)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(target)
            done = command(*arguments, *(["here"] if arguments == ["report"] else ["--out", "here"]))
            assert "Traceback" not in done.stdout + done.stderr
            assert snapshot(home) == before
            if name in {"cells", "scratch", "report"}:
                assert done.returncode != 0
                one_line(done, f"{name} is a symbolic link, not a folder")


@posix
def test_the_results_folder_itself_may_be_a_link(command, finished, tmp_path):
    finished.rename(tmp_path / "disk")
    finished.symlink_to(tmp_path / "disk")
    assert command("reproduce", "--out", "here").returncode == 0
    assert command("report", "here").returncode == 0
    assert finished.is_symlink()


@posix
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["settings.json", "results.json", "report/index.html", "cells/{key}.parquet"])
def test_a_fifo_in_a_file_s_place_is_never_waited_for(command, finished, name):
    place = finished / name.format(key=next((finished / "cells").iterdir()).stem)
    place.unlink()
    os.mkfifo(place)
    done = command("report", "here")
    assert "Traceback" not in done.stdout + done.stderr
    again = command("reproduce", "--out", "here")
    assert again.returncode == 0, again.stderr
    assert place.is_file()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", "[" * 100_000, '{"started": 1}', "\xff"])
def test_results_that_are_cut_off_count_as_absent(command, finished, content):
    (finished / "results.json").write_bytes(content.encode("latin-1"))
    done = command("report", "here")
    assert done.returncode == 0, done.stderr
    one_line(done, "Warning:", "results.json does not hold the results of a run", "written anew")
    assert json.loads((finished / "results.json").read_text())["claims"]


@pytest.mark.parametrize(
    "timing",
    [
        {"seconds": float("inf")},
        {"seconds": "x"},
        {"seconds": -1},
        {"seconds": True},
        {"seconds": 10**400},
        {"started": {}},
        {"finished": "<script>"},
        {"started": "2024-13-45"},
    ],
)
def test_times_that_are_none_count_as_absent(command, finished, timing):
    content = json.loads((finished / "results.json").read_text())
    (finished / "results.json").write_text(json.dumps({**content, **timing}))
    done = command("report", "here")
    assert done.returncode == 0, done.stderr
    one_line(done, "Warning:", "results.json does not hold the results of a run")
    assert json.loads((finished / "results.json").read_text())["seconds"] == 0


def test_a_claim_that_does_not_exist_is_left_out_and_said(command, finished):
    path = finished / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "claims": ["no-such-claim", "capture"]}))
    done = command("report", "here")
    assert done.returncode == 0, done.stderr
    one_line(done, "Warning:", "no-such-claim", "left out")
    assert [c["id"] for c in json.loads((finished / "results.json").read_text())["claims"]] == ["capture"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "claims": ["no-such-claim"]}))
    assert command("report", "here").returncode == 2
    again = command("reproduce", "--out", "here")
    assert again.returncode == 0
    one_line(again, "no-such-claim", "left out")


SETTINGS = {"scale": "quick", "data": "digits", "seeds": None, "first_seed": 0, "part": []}
BAD_SETTINGS = [
    "", "{", "[]", "7", "null", "{}", "[" * 100_000,
    *(json.dumps({"settings": {**SETTINGS, **bad}, "claims": ["capture"]}) for bad in (
        {"seeds": "x"}, {"seeds": 1.5}, {"seeds": True}, {"seeds": 10**26}, {"seeds": 10**6}, {"first_seed": 10**26},
        {"first_seed": -1}, {"first_seed": "0"}, {"scale": "huge"}, {"scale": []}, {"data": 5}, {"part": 5},
        {"part": [1]}, {"part": ["x"]}, {"more": 1},
    )),
    *(json.dumps({"settings": SETTINGS, "claims": bad}) for bad in (5, None, {}, [1], [["capture"]], [])),
]  # fmt: skip


@pytest.mark.parametrize("content", BAD_SETTINGS, ids=range(len(BAD_SETTINGS)))
def test_settings_that_are_none_do_not_leave_the_folder_stuck(command, finished, content):
    (finished / "settings.json").write_text(content)
    refused = command("report", "here")
    assert refused.returncode == 2
    one_line(refused, "is not the folder of a run")
    again = command("reproduce", "--out", "here")
    assert again.returncode == 0, again.stderr
    assert "7 of them measured already" in again.stdout
    assert command("report", "here").returncode == 0


@pytest.mark.parametrize("settings", [None, '{"editor": 1}'])
def test_files_of_the_user_s_with_our_names_are_kept_under_others(command, tmp_path, settings):
    """A folder in which no run has begun is the user's, whatever the names in it."""
    names = ("settings.json", "results.json", "failures.txt", "report/index.html")
    texts = {name: f"mine: {name}" for name in names} | {"results.json.before-1": "mine as well"}
    texts["settings.json"] = settings
    for name, text in texts.items():
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (tmp_path / "here" / name).write_text(text)
    done = command("reproduce", "--out", "here")
    assert done.returncode == 0, done.stderr
    kept = [path.read_text() for path in (tmp_path / "here").rglob("*.before-*")]
    assert sorted(kept) == sorted(text for text in texts.values() if text is not None)
    one_line(done, "Warning:", "failures.txt", "it is kept as failures.txt.before-1", "results.json.before-2")
    again = command("reproduce", "--out", "here")
    assert again.stderr == ""
    assert len(list((tmp_path / "here").rglob("*.before-*"))) == len(kept)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seconds", b"inf"), ("seconds", b"nan"), ("origin", b'{"a":{"b":1}}'), ("origin", b"[1]"), ("origin", b'"x"')],
)
def test_a_rewritten_record_is_measured_again(command, finished, field, value):
    path = next((finished / "cells").iterdir())
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, f"nonsmooth.{field}".encode(): value}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    done = command("report", "here")
    one_line(done, "Warning:", path.name, "is not a whole record")
    again = command("reproduce", "--out", "here")
    assert again.returncode == 0, again.stderr
    assert "will be measured again" in " ".join((again.stdout + again.stderr).split())
    assert command("report", "here").stderr == ""


@pytest.mark.parametrize("word", ["settings.json", "results.json", "index.html", "failures.txt"])
def test_a_full_disk_outside_the_cells_is_one_line(command, finished, monkeypatch, word):
    real = os.open

    def full(path, flags, *arguments, **options):
        if word in str(path) and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *arguments, **options)

    before = (finished / "results.json").read_bytes()
    monkeypatch.setattr(os, "open", full)
    more = {"FAKE_FAILS": "plain 1"} if word == "failures.txt" else {}
    done = command("reproduce", "--out", "here", *(["--fresh"] if more else []), **more)
    assert done.returncode == 1
    one_line(done, "Error: cannot write", word, "No space left on device")
    assert len(done.stderr.strip().splitlines()) == 1
    assert json.loads((finished / "results.json").read_bytes())["claims"] == json.loads(before)["claims"]
    assert list(finished.rglob("*.tmp")) == []
    if word in {"results.json", "index.html"}:
        done = command("report", "here")
        assert done.returncode == 1
        one_line(done, "Error: cannot write", word, "No space left on device")


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_is_one_line(command, finished, monkeypatch, error):
    """As a read-only medium answers; the permissions of a folder do not stop root, which tests may run as."""
    real = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & os.O_CREAT:
            raise OSError(error, os.strerror(error))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    for arguments in (["report", "here"], ["reproduce", "--out", "here"]):
        done = command(*arguments)
        assert done.returncode == 1
        one_line(done, "Error: cannot", os.strerror(error))
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["settings.json", "results.json", "report/index.html", "failures.txt"])
def test_a_folder_in_a_file_s_place_is_one_line(command, finished, name):
    (finished / name).unlink(missing_ok=True)
    (finished / name).mkdir()
    done = command("reproduce", "--out", "here")
    assert "Traceback" not in done.stdout + done.stderr
    assert (finished / name).is_dir()
    if name != "failures.txt":
        assert done.returncode == 1
        one_line(done, "is a folder, not a file")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "--out", ""], ["--out", "empty"]),
        (["report", ""], ["empty"]),
        (["reproduce", "--data", ""], ["--data", "is not a folder"]),
        (["reproduce", "--out", "x" * 5000], ["--out", "too long"]),
        (["report", "x" * 5000], ["too long"]),
        (["reproduce", "--seed", str(10**26)], ["--seed", "2147483647"]),
        (["reproduce", "--seed", str(2**31)], ["--seed", "2147483647"]),
        (["reproduce", "--seeds", str(10**26)], ["--seeds", "1000000"]),
        (["reproduce", "depth", "--seeds", "1000000"], ["--seeds", "cells"]),
    ],
)
def test_arguments_that_cannot_be_are_one_line_and_make_nothing(monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"}).invoke(app, arguments)
    assert result.exit_code == 2
    text = " ".join(result.output.replace("│", " ").split())
    assert all(word in text for word in said), text
    assert "Traceback" not in text
    assert list(tmp_path.iterdir()) == []
