"""Text from a stranger's folder, and from exceptions, is printed as text: no escape codes, no markup, no own lines."""

import json
import unicodedata

import pytest

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]not red[/red][link=file:x]\x9b31m\u202egnp\r\n\u2028fake: line"


def check(done):
    for text in (done.stdout, done.stderr):
        assert [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c != "\n"] == []
        assert not any(line.startswith("fake:") for line in text.splitlines())
    return "".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("fault", [{"FAKE_FAILS": "plain 1"}, {"FAKE_JUDGE_FAILS": "1"}, {"FAKE_DRAW_FAILS": "1"}])
def test_messages_of_exceptions(command, tmp_path, fault):
    done = command("reproduce", "--out", "run", FAKE_MESSAGE=HOSTILE, **fault)
    assert done.returncode == 1
    printed = check(done)
    if "FAKE_FAILS" not in fault:  # of a traceback only the last line is told, and the message has several
        assert "\\x1b[2J[red]notred[/red][link=file:x]\\x9b31m\\u202egnp" in printed
    again = command("report", "run", FAKE_MESSAGE=HOSTILE, **fault)
    check(again)
    for name in ("results.json", "failures.txt", "report/index.html"):
        path = tmp_path / "run" / name
        assert "\x1b" not in (path.read_text(encoding="utf-8") if path.exists() else "")


def test_the_last_line_of_a_failed_cell_is_told_without_its_escape_codes(command):
    done = command("reproduce", "--out", "run", FAKE_MESSAGE="no\x1b[31m [bold]number[/bold]", FAKE_FAILS="plain 1")
    assert "ValueError: no\\x1b[31m [bold]number[/bold]" in done.stdout
    assert "ValueError: no\\x1b[31m [bold]number[/bold]" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        {"settings": {HOSTILE: 1}, "claims": []},
        {"settings": {"scale": HOSTILE}, "claims": []},
        {"settings": {"part": [HOSTILE]}, "claims": ["capture"]},
        {"settings": {"part": [f"{HOSTILE}=1"]}, "claims": ["capture"]},
        {"settings": {"part": [f"kind={HOSTILE}"]}, "claims": ["capture"]},
    ],
)
def test_settings_of_a_strangers_folder(command, tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text(json.dumps(content), encoding="utf-8")
    done = command("report", "run")
    assert done.returncode == 2
    check(done)


def test_the_name_of_the_folder(command):
    name = "run \x1b[31m[red]λ"
    assert command("reproduce", "--out", name).returncode == 0
    done = command("report", name)
    assert done.returncode == 0
    assert "Report:     run \\x1b[31m[red]λ" in done.stdout
    check(done)
    check(command("report", name + "/nothing"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("reproduce", HOSTILE),
        ("reproduce", "--where", HOSTILE),
        ("reproduce", "--data", HOSTILE),
        ("reproduce", "--data", "~nobody-at-all/x"),
        ("reproduce", "--data", "x" * 5000),
        ("reproduce", f"--{HOSTILE}"),
        ("reproduce", "--device", HOSTILE),
        ("reproduce", "--seed", HOSTILE),
        ("reproduce", "--scale", HOSTILE),
        ("report",),
        (HOSTILE,),
        (f"--{HOSTILE}",),
        ("floor", "--optimizer", HOSTILE, "--lr", "0.1", "--lam", "0.1"),
        ("floor", "--optimizer", "sgd", "--lr", HOSTILE, "--lam", "0.1"),
    ],
)
def test_arguments_that_are_refused(command, arguments):
    done = command(*arguments)
    assert done.returncode == 2
    check(done)


def test_a_figure_that_cannot_be_drawn_is_noted_and_costs_nothing_else(command, tmp_path):
    done = command("reproduce", "--out", "run", FAKE_UNDRAWABLE="1")
    assert done.returncode == 0, done.stderr
    capture = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["claims"][0]
    assert capture["verdict"] == "reproduced"
    assert capture["notes"][-1].startswith("The figure “Values” cannot be drawn: KeyError")
    page = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert "This figure cannot be drawn:" in page
    assert 'id="capture-figure-1"' in page
