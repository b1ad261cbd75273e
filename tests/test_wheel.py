"""The wheel holds everything, and works in an environment that knows nothing of this checkout."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling comes with the extra test")

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 65 * 2**20  # bytes: what the embedded models may weigh together

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]  # one worker builds it, for all of them


def run(*command: object, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess:
    """Run a command; fail with all that it said."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "COVERAGE"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=environment, timeout=600
    )
    assert not ok or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory) -> Path:
    """The `bin` folder of an environment with the wheel in it, and our dependencies within reach."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip()
    # A folder named in a .pth file is searched last, and .pth files in it (an editable corelib) are not read.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps"]
    run(*pip, "--ignore-installed", wheel, cwd=folder)
    return python.parent


def test_the_wheel_holds_every_file_of_the_package(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("corelib/")}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "corelib").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert inside == tracked


def test_the_wheel_is_small_and_licensed(wheel):
    assert wheel.stat().st_size < LIMIT
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).name for name in names} >= {"LICENSE", "LICENSE-TEXT", "NOTICE"}
    assert {name.split("/")[0] for name in names} == {"corelib", "corelib_heads-0.1.0.dist-info"}


def test_the_wheel_names_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [one for one in archive.namelist() if one.endswith("entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(archive.read(name).decode())
    assert dict(points["console_scripts"]) == {"corelib": "corelib.cli:main"}


def test_the_library_is_imported_from_the_wheel(clean, tmp_path):
    where = run(clean / "python", "-c", "import corelib; print(corelib.__file__)", cwd=tmp_path).stdout.strip()
    assert Path(where).is_relative_to(clean.parent)


def test_a_profile_runs_outside_the_repository(clean, tmp_path):
    shown = run(clean / "corelib", "--help", cwd=tmp_path).stdout
    assert "score" in shown
    options = ["--model", "mini-s", "--domain", "scenes", "--samples", "4", "--out", "scores.json"]
    done = run(clean / "corelib", "score", *options, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert scores["schema"].startswith("corelib/head-scores/")


def test_a_mistake_is_one_line_and_no_traceback(clean, tmp_path):
    options = ["--model", "no-such-model", "--samples", "4", "--out", "scores.json"]
    done = run(clean / "corelib", "score", *options, cwd=tmp_path, ok=False)
    assert done.returncode != 0
    assert not (tmp_path / "scores.json").exists()
    assert "Traceback" not in done.stdout + done.stderr
    assert "no-such-model" in done.stdout + done.stderr
