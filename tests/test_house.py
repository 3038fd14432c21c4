"""The house rules that no single module can hold: what an import costs, what the files may say, what a claim is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import nonsmooth
from nonsmooth.claims.framework.claim import SCALES, Settings
from nonsmooth.claims.framework.registry import CLAIM_IDS, CLAIMS, load_claim
from nonsmooth.claims.framework.study import Study

REPOSITORY = Path(__file__).resolve().parents[1]
HEAVY = ("sklearn", "scipy", "pandas", "plotly", "datasets", "torchvision", "dask", "distributed", "jinja2", "rich")
HOSTS = {"arxiv.org", "doi.org", "github.com", "keepachangelog.com", "semver.org", "www.w3.org", "localhost"}
"""Where links may lead: to what is cited, not to where packages or data happen to be kept."""

SEPARATOR = "/"
MACHINE_PATH = re.compile(
    rf"(?<![\w.{{}}<>*~-]){SEPARATOR}(?:work|root|home|Users|tmp|opt|mnt){SEPARATOR}\w|[A-Z]:\\\\?Users"
)
LEFT_OPEN = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|WI" r"P)\b")
WHOLE_NUMBERS = {"len", "int", "round", "ceil", "floor", "numel"}
LIMITS = {"eps", "precision", "_precision"}
MEASURE_NOTHING = {
    # Counts, places in a list, classes.
    "max((parameter.nbytes for parameter in made))",
    "max(-2, -count)",
    "max(0, round(share * len(values)) - 1)", "max(FIRST_WINDOW, ensemble.steps)",
    "max(dictionary, unpacked)",
    "max(found.get(key, candidate), candidate)", "max(most, lists)", "max(order)",
    "max(positions.values())", "max(seeds, default=0)", "max(self.peak, sum(self._live.values()))",
    "max(signs)",
    "min((c for c in classes if c is not Smoothness.UNKNOWN), default=Smoothness.SMOOTH)",
    "min((row.seeds for row in own))", "min(EARLY, steps)",
    "min([*operands(), sign_of_number(argument('value') or 0)])", "min(count, 1 / (1 - self._decay))",
    "min(count, ROW_LENGTH)", "min(1.0, start + size)", "min(count, features)",
    "min(epoch * per_epoch, total)", "min(hidden, classes, 1 if rows is None else rows)",
    "min(len(content) - 12, FOOTER_LIMIT)", "min(max_products, size)",
    "min(operands(), default=Sign.UNKNOWN)", "min(pixels.shape[-2:])", "min(positions.values())",
    "min(16 if adaptive else 32, groups * length * scarce // (32 * A_THREAD))",
    "max(4, min(16 if adaptive else 32, groups * length * scarce // (32 * A_THREAD)))",
    "max(SPARE, 4 * aligned)", "max(neighbours, SMALL_TILE // scarce // length)",
    "min(ratio, LONGEST)", "min(rows, length - first)", "min(seeds, default=0)", "min(self._matrix(point).shape)",
    "min(self.sign, sign)", "min(signs())", "min(signs)", "min(starts)", "min(widths)", "min(workers, cores)",
    "min(GROUPS, *seeds, GROUPS)", "max((_seeds_in(r.cell) for r in runs), default=0)",
    "max(right, default=None)", "max(evidence[minimum].by('steps'))", "max(0.0, 2 * step / steps - 1)",
    # Settings, seconds.
    "max((share for _, share in shares))",
    "max(-threshold, 0)", "max(0.0, self._factor(cell.claim) * cell.cost - elapsed)", "max(agree)", "max(busy)",
    "max(sum(missing) / workers, *missing, 0.0)",
    "min(1.0, (first + fraction * block) / instances)",
    "min(largest, torch.finfo(value.dtype).max)",
    "min(math.sqrt(factor) * math.sqrt(strength) * math.sqrt(step), kind.max)",
    "min(max(0.0, end - start), sys.float_info.max)", "min(roots)", "min(strength * step, largest)",
    "min(strength, kind.max)", "min(weights, limit)",
    # Measured, and a number that is none is kept, or known not to be there.
    "max(0.0, end - start)",
    "max(abs(again), abs(loss))", "max(abs(first), abs(second))",
    "max(float(precision ** (1 / 3)) / 4, 2 * precision * float(self._probe.weights().norm()))", "max(positive)",
    "max(unit.one.total, 1.0)", "min(FACTOR * max(unit.one.total, 1.0), room / together)",
    "min(laws.items(), key=lambda item: abs(math.log(item[0] / lam)))",
    "min(means, key=lambda rate: (math.isnan(means[rate]), means[rate]), default=None)", "min(positive)",
    "min(strength * float(step), kind.max)",
}  # fmt: skip
"""Other calls of `max` and `min` that cannot lose a measurement that is not a number, as `ast.unparse` writes them."""

HIDING_NAN = {"nanmax", "nanmin", "nanmean", "nanmedian", "nansum", "nanquantile", "nan_to_num", "fmax", "fmin"}
MEANT_TO_HIDE = {
    "src/nonsmooth/models/activations.py": "an index has to lie in its range",
    "src/nonsmooth/claims/huber/huber_runs.py": "a loss that is no number counts as infinite",
    "src/nonsmooth/penalties/elastic_net.py": "0/0 where a coordinate is feasible in any case",
    "src/nonsmooth/kinks/penalty_terms/graph_terms.py": "no entry is present",
    "benchmarks/support_noise.py": "an excess that is no number counts as infinite",
}

QUICK_CORE_SECONDS = 2 * 5 * 60


@cache
def tracked_texts() -> dict[str, str]:
    """The text files under version control, by their path in the repository."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is not a checkout, so nothing says which files are part of the project")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    texts = {}
    for name in filter(None, listing.stdout.split("\0")):
        path = REPOSITORY / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            texts[name] = content.decode()
    return texts


def found_in_tracked_files(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked_texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_importing_the_package_loads_nothing_heavy():
    program = "import sys, json, nonsmooth; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert set(HEAVY).isdisjoint(json.loads(output))


def test_the_package_says_that_it_is_typed():
    assert resources.files(nonsmooth).joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (MACHINE_PATH, 'open("' + SEPARATOR + "home" + SEPARATOR + 'ada/x")', True),
        (MACHINE_PATH, "<path>" + SEPARATOR + "home" + SEPARATOR + "x", False),
        (MACHINE_PATH, "docs/work/overview", False),
        (LEFT_OPEN, "# TO" + "DO: finish", True),
        (LEFT_OPEN, "# nothing to do", False),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, text, expected):
    assert bool(pattern.search(text)) is expected


def test_no_tracked_file_names_a_path_of_some_machine():
    assert found_in_tracked_files(MACHINE_PATH) == []


def test_no_tracked_file_says_that_it_is_unfinished():
    assert found_in_tracked_files(LEFT_OPEN) == []


def is_whole(node: ast.AST) -> bool:
    """Whether an expression is a whole number other than 0, or some of them, by the look of it."""
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", getattr(node.func, "id", "")) in WHOLE_NUMBERS
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return is_whole(node.elt)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.FloorDiv | ast.Mod | ast.LShift)
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value != 0


def is_setting(node: ast.AST) -> bool:
    """Whether an expression is made of constants and of limits of a type alone, by the look of it."""
    if isinstance(node, ast.GeneratorExp):
        return is_setting(node.elt)
    if isinstance(node, ast.BinOp):
        return is_setting(node.left) and is_setting(node.right)
    if isinstance(node, ast.Call | ast.Starred):
        return is_setting(node.func if isinstance(node, ast.Call) else node.value)
    name = getattr(node, "attr", getattr(node, "id", ""))
    return isinstance(node, ast.Constant) or name.isupper() or name in LIMITS


def hides_nan(node: ast.AST, path: str) -> bool:
    """Whether a call may drop a measurement that is not a number."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr in HIDING_NAN and path not in MEANT_TO_HIDE
    return (
        isinstance(node.func, ast.Name)
        and node.func.id in ("max", "min")
        and not all(is_setting(each) for each in node.args)
        and not any(is_whole(each) for each in node.args)
        and ast.unparse(node) not in MEASURE_NOTHING
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("max(part.residual for part in parts)", True),
        ("min(first, second)", True),
        ("max(0.0, gap)", True),
        ("np.nanmax(losses)", True),
        ("losses.nan_to_num()", True),
        ("max(1, count)", False),
        ("max(len(row) for row in rows)", False),
        ("max(PENALTIES)", False),
        ("max(torch.finfo(part.dtype).eps for part in parts)", False),
        ("max(torch.finfo(part.dtype).eps, error)", True),
        ("max(error * EPS for error in errors)", True),
        ("extremes.largest(gaps)", False),
        ("losses.max()", False),  # a tensor's and an array's keep it
    ],
)
def test_the_search_for_what_hides_nan_finds_it(code, expected):
    assert hides_nan(ast.parse(code, mode="eval").body, "src/nonsmooth/x.py") is expected


def test_no_call_is_excused_that_is_not_there():
    texts = (text for name, text in tracked_texts().items() if name.endswith(".py"))
    code = (ast.parse(text) for text in texts if "max(" in text or "min(" in text)
    calls = (node for tree in code for node in ast.walk(tree) if isinstance(node, ast.Call))
    assert {ast.unparse(call) for call in calls if getattr(call.func, "id", "") in ("max", "min")} >= MEASURE_NOTHING


def test_no_reduction_over_measurements_drops_nan():
    """Python's `max` keeps a NaN only where it comes first: use `nonsmooth.extremes`, or list what loses nothing."""
    assert [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, text in tracked_texts().items()
        if name.startswith(("src/nonsmooth/", "benchmarks/")) and name.endswith(".py")
        and name != "src/nonsmooth/extremes.py"
        for node in ast.walk(ast.parse(text))
        if hides_nan(node, name)
    ] == []  # fmt: skip


def test_links_lead_only_to_what_is_cited():
    links = re.compile(r"https?://[^\s)\"'>`\]}]+")
    found = {(name, link) for name, text in tracked_texts().items() for link in links.findall(text)}
    assert [(name, link) for name, link in sorted(found) if urlsplit(link).hostname not in HOSTS] == []


def test_the_version_is_the_same_everywhere():
    assert f"version: {nonsmooth.__version__}" in (REPOSITORY / "CITATION.cff").read_text().splitlines()
    assert f'version = "{nonsmooth.__version__}"' in (REPOSITORY / "pyproject.toml").read_text().splitlines()


def test_the_pins_cover_every_dependency_that_is_named():
    """A dependency that is added without a pin would make two installations differ."""
    metadata = (REPOSITORY / "pyproject.toml").read_text()
    named = {
        re.sub(r"[-_.]+", "-", name).lower()
        for name in re.findall(r'"([A-Za-z0-9_.-]+)(?:\[\w+\])?>=', metadata.split("[tool.", 1)[0])
    }
    pins = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==\w[\w.]*", pin)] == []
    assert named - {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins} == set()


@pytest.mark.parametrize("claim_id", CLAIM_IDS)
def test_a_claim_is_a_study_with_a_sentence_for_everybody_and_a_test(claim_id):
    study = load_claim(claim_id)
    assert isinstance(study, Study)
    assert study.CLAIM.id == claim_id
    assert study.CLAIM.plain.endswith(".")
    assert study.missing() == ()
    path = CLAIMS[claim_id].replace(".", "/test_")
    assert (REPOSITORY / "tests" / "claims" / f"{path}.py").is_file()


@pytest.mark.parametrize("claim_id", CLAIM_IDS)
@pytest.mark.parametrize("scale", SCALES)
def test_a_plan_names_each_cell_once_and_the_same_each_time(claim_id, scale):
    plan = load_claim(claim_id).plan
    cells = plan(Settings(scale=scale))
    assert cells
    assert {cell.claim for cell in cells} == {claim_id}
    assert len({cell.key for cell in cells}) == len(cells)
    assert [cell.key for cell in cells] == [cell.key for cell in plan(Settings(scale=scale))]


@pytest.mark.parametrize("claim_id", CLAIM_IDS)
@pytest.mark.parametrize("scale", SCALES)
def test_a_cell_does_not_carry_the_scale_so_no_verdict_can_depend_on_it(claim_id, scale):
    for cell in load_claim(claim_id).plan(Settings(scale=scale)):
        assert "scale" not in cell.parameters
        assert {"quick", "standard"}.isdisjoint(map(str, cell.parameters.values()))


def test_the_quick_scale_is_planned_to_take_five_minutes_on_two_cores():
    planned = sum(cell.cost for claim_id in CLAIM_IDS for cell in load_claim(claim_id).plan(Settings(scale="quick")))
    assert planned <= QUICK_CORE_SECONDS


def calls(folder: str) -> list[tuple[str, ast.Call, str]]:
    """Every call in a folder's Python files: the file, the call, and the last part of the function's name."""
    found = []
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                found.append((f"{path.relative_to(REPOSITORY).as_posix()}:{node.lineno}", node, name))
    return found


@pytest.mark.parametrize("folder", ["src", "benchmarks", "tools"])
def test_text_files_are_read_and_written_in_an_encoding_that_is_named(folder):
    """The platform's own is cp1252 on Windows, which has no λ."""

    def is_named(call: ast.Call, name: str) -> bool:
        constants = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        binary = any(re.fullmatch("[rwax+]*b[rwax+]*", text) for text in constants)
        positional = name == "read_text" and bool(call.args)
        own = name == "write_text" and isinstance(call.func, ast.Name)  # ours, which names it
        return binary or positional or own or any(keyword.arg == "encoding" for keyword in call.keywords)

    of_files = [(at, call, name) for at, call, name in calls(folder) if name in ("open", "read_text", "write_text")]
    others = {"Image", "os"}  # pictures, and file descriptors
    assert [
        at
        for at, call, name in of_files
        if not is_named(call, name)
        and not (isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in others)
    ] == []


def test_only_one_module_decides_how_the_commands_print():
    """A console of rich's own reads markup in foreign text, and dies of an encoding that lacks a character."""
    places = [at for at, _, name in calls("src") if name in ("Console", "print")]
    assert [at for at in places if not re.match(r"src/nonsmooth/cli/", at)] == []
    consoles = [at for at, _, name in calls("src/nonsmooth/cli") if name == "Console"]
    assert consoles == []
