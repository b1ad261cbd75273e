"""Files are written whole or not at all, and refused when they are not what they should be."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from corelib.atlas import library
from corelib.core.checked_tensors import read_tensors, write_tensors
from corelib.core.errors import BadInput, BadResults, CannotWrite
from corelib.core.results import check_writable, read_json, software, write_json
from corelib.core.sample_store import SampleStore
from corelib.tasks import task

SETTINGS = {"model": "mini-s", "seed": 0}


def test_round_trip(tmp_path):
    path = write_json(tmp_path / "a.json", {"schema": "s/1", "x": torch.tensor([1.0, 2.0]), "y": np.float64(3)})
    assert read_json(path, "s/1") == {"schema": "s/1", "x": [1.0, 2.0], "y": 3.0}
    write_json(path, {"schema": "s/1", "x": 2})  # over the old one
    assert read_json(path)["x"] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_nothing_and_harms_nothing(tmp_path, monkeypatch):
    with pytest.raises(CannotWrite, match="does not exist; create it"):
        write_json(tmp_path / "none" / "a.json", {})
    with pytest.raises(CannotWrite, match="is a folder"):
        write_json(tmp_path, {})
    path = write_json(tmp_path / "a.json", {"x": 1})
    for value in (float("nan"), object()):
        with pytest.raises(BadResults, match="JSON cannot"):
            write_json(path, {"x": value})

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CannotWrite, match="No space left") as caught:
        write_json(path, {"x": 2})
    assert "\n" not in str(caught.value)
    assert read_json(path) == {"x": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_permission_is_checked_early(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CannotWrite, match="no permission"):
        check_writable(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [('{"schema": "s/1", "x": [1, ', "cut short"), ("", "cut short"), ("[1]", "holds a list"), ("{}", "schema None")],
)
def test_damaged_files_are_refused(tmp_path, text, reason):
    path = tmp_path / "a.json"
    with pytest.raises(BadResults, match="No such file"):
        read_json(path)
    path.write_text(text)
    with pytest.raises(BadResults, match=reason):
        read_json(path, "s/1")


def test_software_is_read_without_heavy_imports():
    assert software()["torch"] == torch.__version__
    assert software().keys() == {"python", "corelib", "torch", "transformers", "numpy"}
    code = "import sys, corelib.core.results; corelib.core.results.software(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_store_resumes(tmp_path):
    store = SampleStore(tmp_path / "run", SETTINGS)
    with pytest.raises(BadResults, match="no sample"):
        store.load()
    store.add([4, 2], {"raw": torch.tensor([[[4.0]], [[2.0]]])})
    again = SampleStore(tmp_path / "run", SETTINGS)
    assert again.done == {2, 4}
    again.add([0], {"raw": torch.tensor([[[0.0]]])})
    loaded = SampleStore(tmp_path / "run", SETTINGS).load()
    assert loaded["index"].tolist() == [0, 2, 4]
    assert loaded["raw"].flatten().tolist() == [0.0, 2.0, 4.0]


@pytest.mark.parametrize("keep", [0, 5, -1])
def test_a_cut_shard_is_done_again(tmp_path, keep):
    store = SampleStore(tmp_path, SETTINGS)
    store.add([0, 1], {"raw": torch.ones(2, 2, 3)})
    store.add([2, 3], {"raw": torch.ones(2, 2, 3)})
    shard = tmp_path / "00000002.safetensors"
    shard.write_bytes(shard.read_bytes()[:keep])
    again = SampleStore(tmp_path, SETTINGS)
    assert again.done == {0, 1}
    again.add([2, 3], {"raw": torch.zeros(2, 2, 3)})
    assert SampleStore(tmp_path, SETTINGS).load()["raw"][:, 0, 0].tolist() == [1, 1, 0, 0]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_flipped_bit_of_a_shard_is_used(data):
    """Either the samples are done again, or the shard is refused, or nothing has changed."""
    scores = torch.arange(12.0).reshape(2, 2, 3)
    with TemporaryDirectory() as folder:
        SampleStore(folder, SETTINGS).add([0, 1], {"raw": scores})
        shard = Path(folder) / "00000000.safetensors"
        content = bytearray(shard.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        shard.write_bytes(content)
        try:
            again = SampleStore(folder, SETTINGS)
        except BadResults:
            return
        assert again.done in (set(), {0, 1})
        if again.done:
            assert again.load()["index"].tolist() == [0, 1] and torch.equal(again.load()["raw"], scores)


def test_a_damaged_value_is_found(tmp_path):
    write_tensors(tmp_path / "one", {"a": torch.ones(3), "b": torch.tensor([True])}, {"of": "two"})
    assert read_tensors(tmp_path / "one")[1] == {"of": "two"}
    content = bytearray((tmp_path / "one").read_bytes())
    content[-1] ^= 1
    (tmp_path / "one").write_bytes(content)
    with pytest.raises(BadResults, match="does not hold what was written"):
        read_tensors(tmp_path / "one")
    with pytest.raises(BadResults, match="missing"):
        read_tensors(tmp_path / "two")


def test_a_store_of_other_settings_is_refused(tmp_path):
    SampleStore(tmp_path, SETTINGS).add([0], {"raw": torch.ones(1)})
    with pytest.raises(BadResults, match=r"other settings \(seed, split\)"):
        SampleStore(tmp_path, {"model": "mini-s", "seed": 1, "split": "test"})
    (tmp_path / "00000000.safetensors").write_bytes(save({"a": torch.ones(1)}))
    with pytest.raises(BadResults, match="no shard of a sample store"):
        SampleStore(tmp_path, SETTINGS)


def test_what_a_store_does_not_take(tmp_path):
    store = SampleStore(tmp_path, SETTINGS)
    store.add([0], {"raw": torch.ones(1, 2)})
    for indices in ([0], [1, 1], []):
        with pytest.raises(BadInput, match="already stored"):
            store.add(indices, {"raw": torch.ones(len(indices), 2)})
    for tensors in ({"raw": torch.ones(2, 2)}, {}, {"index": torch.ones(1)}, {"raw": torch.tensor(1.0)}):
        with pytest.raises(BadInput, match="give tensors"):
            store.add([1], tensors)
    store.add([1], {"other": torch.ones(1, 2)})
    with pytest.raises(BadResults, match="different scores"):
        store.load()
    Path(tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot write"):
        SampleStore(tmp_path / "file", SETTINGS)


def test_devices_and_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(CannotWrite, match="a device or a pipe"):
            write_json(path, {"a": 1})
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_link_stays_one(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "real.json")
    write_json(tmp_path / "link.json", {"a": 1})
    write_json(tmp_path / "link.json", {"a": 2})
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "there" / "real.json").read_text()) == {"a": 2}


def test_what_is_read_is_not_written_over(tmp_path, run):
    image = tmp_path / "scene.png"
    task("scenes").sample("test", 0, 0).images[0].save(image)
    before = image.read_bytes()
    for arguments in (
        ["ask", "--image", image, "--question", "digit on red square ?", "--save", image],
        ["ablate", "--scores", tmp_path / "h.json", "--out", tmp_path / "h.json", "--samples", "8"],
        ["redirect", "--scores", tmp_path / "h.json", "--out", tmp_path / "h.json", "--samples", "8"],
    ):
        library.cell("mini-s", "scenes").scores().save(tmp_path / "h.json")
        done = run(*arguments)
        assert done.returncode == 2 and "it is read by this command" in done.stderr
    assert image.read_bytes() == before
    other = run("ask", "--image", image, "--question", "digit on red square ?", "--save", tmp_path / "look.xyz")
    assert other.returncode == 2 and "ends in .png, .svg, .pdf" in other.stderr
