"""Published checkpoints on disk, and what is said when one cannot be had."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from corelib import load, task
from corelib.core import memory
from corelib.core.errors import (
    BadInput,
    BadWeights,
    CorelibError,
    HubUnreachable,
    MissingPackage,
    UnknownName,
    UnsupportedArchitecture,
)
from corelib.core.model_folder import bundled_folder
from corelib.core.weights import count_weights
from corelib.families import tiny, tiny_configs

FAMILIES = tuple(tiny_configs.KINDS)


@pytest.fixture(autouse=True)
def the_extra(monkeypatch):
    """As if the extra `hub` were there, in every environment."""
    monkeypatch.setattr("corelib.models.hub.find_spec", lambda name: name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints as they lie on the hub, written by transformers' own `save_pretrained`."""
    home = tmp_path_factory.mktemp("checkpoints")

    def get(name: str):
        folder = home / name
        if not folder.exists():
            model, family = tiny.build_tiny(name)
            model.save_pretrained(folder)
            family.tokenizer.save_pretrained(folder)
            family.image_processor.save_pretrained(folder)
            (folder / "chat_template.jinja").write_text(family.template, encoding="utf-8")
        return folder

    return get


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_in_a_folder_is_the_model_that_was_saved(name, folders):
    mine, saved = load(f"tiny-random:{name}"), load(folders(name))
    samples = list(task("scenes").samples("test", 0, 2))
    torch.testing.assert_close(saved.answer(saved.encode(samples)).logprob, mine.answer(mine.encode(samples)).logprob)
    assert (saved.name, saved.facts.num_layers, saved.facts.num_heads) == (name, 4, 8)
    assert len(saved.sha256) == len(mine.sha256) == 64


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tiny_model_is_the_same_every_time(name):
    one, two = load(f"tiny-random:{name}"), load(f"tiny-random:{name}")
    assert one.sha256 == two.sha256
    assert isinstance(one.ask([Image.new("RGB", (64, 64))], "What is it?", tokens=2), str)


def test_half_precision_is_said_in_results(folders):
    vlm = load(folders("qwen3-vl"), dtype="bfloat16")
    assert vlm.facts.dtype == "bfloat16"
    encoded = vlm.encode([task("scenes").sample("test", 0, 0)])
    assert encoded.inputs["pixel_values"].dtype == torch.bfloat16
    assert vlm.answer(encoded).logprob.isfinite().all()
    assert load("mini-s").facts.dtype is None


def test_the_settings_of_the_video_processor_are_found_where_transformers_looks(folders, tmp_path):
    """In processor_config.json if they are in there, in a file of their own, or those for pictures; or nowhere."""
    folder = shutil.copytree(folders("internvl"), tmp_path / "clips")

    def told(name: str, settings: dict) -> dict | None:
        (folder / name).write_text(json.dumps(settings), encoding="utf-8")
        video = load(folder).family.video
        return video and video["size"]

    images = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert load(folder).family.video == images
    assert told("video_preprocessor_config.json", {"size": 1}) == 1
    assert told("processor_config.json", {"processor_class": "InternVLProcessor"}) == 1
    assert told("processor_config.json", {"image_processor": images, "video_processor": {"size": 2}}) == 2
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).unlink()
    assert told("processor_config.json", {"image_processor": images}) is None


def test_the_template_is_found_where_older_checkpoints_keep_it(folders, tmp_path):
    folder = shutil.copytree(folders("internvl"), tmp_path / "old")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="no chat template"):
        load(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load(folder).family.template == template


def test_other_weights_than_safetensors_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders("qwen3-vl"), tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadWeights, match=r"no .safetensors file"):
        load(folder)


def test_another_family_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders("qwen3-vl"), tmp_path / "other")
    config = (folder / "config.json").read_text().replace('"model_type": "qwen3_vl"', '"model_type": "paligemma"')
    (folder / "config.json").write_text(config)
    with pytest.raises(UnsupportedArchitecture, match="'paligemma' model; supported: qwen3_vl"):
        load(folder)


def test_options_are_checked(folders):
    folder = folders("qwen3-vl")
    with pytest.raises(UnknownName, match="allowed: float32, bfloat16, float16"):
        load(folder, dtype="fp16")
    with pytest.raises(BadInput, match="needs an NVIDIA GPU"):
        load(folder, quantize="8bit", device="cpu")
    with pytest.raises(BadInput, match="is a folder on disk"):
        load(folder, revision="main")
    with pytest.raises(BadInput, match="takes no such options"):
        load("mini-s", dtype="float16")
    with pytest.raises(BadInput, match="it is of bundled models"):
        load("tiny-random:qwen3-vl", checkpoint="at")
    with pytest.raises(UnknownName, match="did you mean 'tiny-random:qwen3-vl'"):
        load("tiny-random:qwen3vl")
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="device cuda: torch finds no cuda device here"):
            load(folder, device="cuda")


def test_a_missing_package_is_named(folders, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match="pip install accelerate"):
        load(folders("qwen3-vl"), device_map="auto")


def test_what_does_not_fit_is_refused_before_it_is_loaded(folders, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    with pytest.raises(BadInput, match=r"take a smaller model, dtype='float16'"):
        load(folders("qwen3-vl"))


def changed(folder, change):
    """The folder with other weights in its file."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["qwen3-vl", "smolvlm"])
def test_weights_that_are_not_all_there_are_refused(folders, tmp_path, name):
    """transformers would fill them with random numbers, and say so to nobody."""
    folder = shutil.copytree(folders(name), tmp_path / "less")
    one = next(key for key in load_file(folder / "model.safetensors") if "layers.1.self_attn.q_proj" in key)
    changed(folder, lambda weights: weights.pop(one))
    with pytest.raises(BadWeights, match=r"missing weights \(.*layers\.1\.self_attn\.q_proj"):
        load(folder)
    changed(folder, lambda weights: weights.update({one: torch.zeros(3, 3)}))
    with pytest.raises(BadWeights, match=r"do not fit|mismatched"):
        load(folder)


def test_a_config_with_another_number_of_layers_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders("qwen3-vl"), tmp_path / "deep")
    config = json.loads((folder / "config.json").read_text())
    for layers, what in ((9, "missing"), (2, "unexpected")):
        config["text_config"].update(num_hidden_layers=layers)
        config["text_config"].pop("layer_types", None)
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(BadWeights, match=f"{what} weights"):
            load(folder)


def test_a_bundled_model_with_another_config_is_refused(tmp_path):
    folder = shutil.copytree(bundled_folder("mini-s"), tmp_path / "mini")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(num_hidden_layers=9)
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadWeights, match="missing weights"):
        load(folder)


def test_weights_are_counted_whatever_their_dtype(tmp_path):
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.int8)}, tmp_path / "one.safetensors")
    save_file({"c": torch.zeros(2, dtype=torch.float8_e4m3fn)}, tmp_path / "two.safetensors")
    assert count_weights(sorted(tmp_path.glob("*"))) == 19
    (tmp_path / "one.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BadWeights, match="is damaged"):
        count_weights([tmp_path / "one.safetensors"])


def test_batches_fit_into_free_memory(monkeypatch):
    vlm = load("tiny-random:qwen3-vl")
    each = memory.working_bytes(vlm.model, 1000)
    monkeypatch.setattr(memory, "free_memory", lambda device: 20 * each)
    assert memory.fitting_batch(vlm.model, 1000, torch.device("cuda")) == 10
    monkeypatch.setattr(memory, "free_memory", lambda device: each)
    assert memory.fitting_batch(vlm.model, 1000, torch.device("cuda")) == 1
    assert memory.fitting_batch(vlm.model, 1000, torch.device("cpu")) == 32


# --- the hub itself, as its client answers ---------------------------------------------------------------------------


class Info:
    sha = "a" * 40

    def __init__(self, **files: int) -> None:
        self.siblings = [type("File", (), {"rfilename": name, "size": size}) for name, size in files.items()]


def answering(monkeypatch, answer) -> None:
    """Let the hub's client answer so."""
    import huggingface_hub

    def model_info(self, name, **options):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    answering(monkeypatch, OSError("no route"))
    with pytest.raises(HubUnreachable, match=r"give the folder of a download .*tiny-random:qwen3-vl"):
        load("Qwen/Qwen3-VL-99B-Instruct")


def test_a_mistyped_path_is_not_looked_up(monkeypatch, tmp_path, run):
    monkeypatch.setattr(socket.socket, "connect", lambda *given: pytest.fail("something left the machine"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    done = run("score", "--model", "runs/mini-s", "--out", "x.json")
    assert done.returncode == 2 and "there is a folder runs here, and no mini-s in it" in done.stderr
    with monkeypatch.context() as patch:
        patch.setattr("corelib.models.hub.find_spec", lambda name: None)
        with pytest.raises(MissingPackage, match=r"only with the extra hub: pip install 'corelib-heads\[hub\]'"):
            load("others/mini-s")
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_it_is_said_that_the_hub_is_asked(monkeypatch, caplog):
    answering(monkeypatch, OSError("no route"))
    with pytest.raises(HubUnreachable):
        load("others/mini-s")
    assert "others/mini-s is no folder here: asking the hub" in caplog.text


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", "{}", "is no model configuration"),
        ("config.json", '{"model_type": "qwen3_vl"}', "describes a model of"),
        (
            "config.json",
            '{"model_type": "qwen3_vl", "text_config": {"hidden_size": "many"}}',
            "config.json cannot be used",
        ),
        ("config.json", "\x00", "is no model configuration"),
        ("tokenizer.json", "{", "cannot be used"),
        ("tokenizer.json", "{}", "cannot be used"),
        ("preprocessor_config.json", "[", "cannot be used"),
        ("preprocessor_config.json", '{"patch_size": "wide"}', "cannot be used"),
        ("chat_template.jinja", "{% for %}", "cannot be used"),
        ("chat_template.jinja", "{{ messages[7].none.none }}", "cannot be used"),
        ("model.safetensors", "", "is damaged"),
    ],
)
def test_a_damaged_download_is_one_line(folders, tmp_path, run, file, content, told):
    folder = shutil.copytree(folders("qwen3-vl"), tmp_path / "model")
    (folder / file).write_text(content)
    done = run("score", "--model", folder, "--samples", 2, "--out", tmp_path / "x.json")
    assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("file", "content"), [("config.json", '{"model_type": "qwen3_vl"}'), ("tokenizer.json", "{"), ("config.json", "[")]
)
def test_a_damaged_bundled_model_is_one_line(tmp_path, file, content):
    folder = shutil.copytree(bundled_folder("mini-s"), tmp_path / "mini")
    (folder / file).write_text(content)
    with pytest.raises((BadWeights, BadInput)):
        load(folder)


def test_a_download_that_is_there_is_taken(monkeypatch, folders):
    answering(monkeypatch, OSError("no route"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: str(folders("smolvlm")))
    vlm = load("HuggingFaceTB/SmolVLM2-500M-Video-Instruct")
    assert vlm.name == "HuggingFaceTB/SmolVLM2-500M-Video-Instruct" and vlm.sha256 == "smolvlm"


def test_a_revision_becomes_its_commit(monkeypatch, folders):
    asked = {}

    def download(name, **options):
        asked.update(options)
        return str(folders("qwen3-vl"))

    answering(monkeypatch, Info(**{"model.safetensors": 1000, "pytorch_model.bin": 1000}))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load("Qwen/Qwen3-VL-2B-Instruct", revision="main").sha256 == "a" * 40
    assert asked["revision"] == "a" * 40 and not any("bin" in pattern for pattern in asked["allow_patterns"])


def test_too_large_for_the_disk_or_the_memory(monkeypatch):
    answering(monkeypatch, Info(**{"model.safetensors": 10**15}))
    with pytest.raises(BadInput, match="are free on cpu"):
        load("Qwen/Qwen3-VL-32B-Instruct", device="cpu")
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    with pytest.raises(BadInput, match="GiB on disk"):
        load("Qwen/Qwen3-VL-32B-Instruct", device="cpu")
    answering(monkeypatch, Info(**{"pytorch_model.bin": 1000}))
    with pytest.raises(BadWeights, match="other formats can run code"):
        load("someone/old-model")


def test_a_bug_is_not_called_a_network_error(monkeypatch):
    answering(monkeypatch, ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        load("Qwen/Qwen3-VL-2B-Instruct")
    assert not issubclass(ZeroDivisionError, CorelibError)
