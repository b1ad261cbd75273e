"""The mini models' parts: tokenizer, pixels, weights on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLImageProcessorPil

from corelib.core import model_folder
from corelib.core.errors import BadInput, BadWeights, UnknownName, UnsupportedArchitecture
from corelib.core.weights import add_stage, to_half
from corelib.mini import checkpoint
from corelib.mini.architecture import SIZES, build_mini
from corelib.mini.processing import MiniProcessor, fit, patchify
from corelib.mini.vocabulary import build_tokenizer, token_id
from corelib.models.load import load
from corelib.tasks import TASKS, task


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    checkpoint.save(folder, build_mini(SIZES["mini-s"], 0), MiniProcessor(build_tokenizer()))
    return folder


def test_every_word_of_every_task_is_in_the_vocabulary():
    tokenizer = build_tokenizer()
    for name in TASKS:
        for index in range(8):
            picture, _ = task(name).draw_picture("train", 0, index)
            texts = [picture.context, *picture.caption, *(t for q in picture.questions for t in (q.text, q.answer))]
            ids = tokenizer([t for t in texts if t], add_special_tokens=False)["input_ids"]
            assert all(tokenizer.unk_token_id not in row for row in ids)


def test_pixels_are_those_of_transformers():
    stock = Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        temporal_patch_size=1,
        min_pixels=32 * 32,
        max_pixels=4096 * 32 * 32,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    rng = np.random.default_rng(0)
    for width, height in ((192, 192), (96, 160), (100, 70)):
        image = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        theirs = stock(images=[image], return_tensors="pt")
        ours, grid = patchify(image)
        assert theirs["image_grid_thw"][0].tolist() == list(grid)
        torch.testing.assert_close(ours, theirs["pixel_values"], atol=1e-5, rtol=0)


def test_fit_rounds_to_whole_tokens():
    assert fit(Image.new("RGB", (100, 50))).size == (96, 64)
    assert fit(Image.new("L", (10, 10))).size == (32, 32)
    wide, high = fit(Image.new("RGB", (9000, 3000))).size
    assert wide * high <= 1.05 * 4096 * 32 * 32


def test_placeholders_must_match_the_pictures():
    processor = MiniProcessor(build_tokenizer())
    picture = Image.new("RGB", (32, 32))
    with pytest.raises(BadInput, match="2 pictures for 1 placeholders"):
        processor(["<|image_pad|>"], images=[[picture, picture]])
    with pytest.raises(BadInput, match="one size"):
        processor(["<|video_pad|> <|video_pad|>"], videos=[[picture, Image.new("RGB", (64, 32))]])


def test_saving_and_loading_round_trips_in_half_precision(saved):
    model, processor, digest = checkpoint.load(saved)
    original = build_mini(SIZES["mini-s"], 0)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), original.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.half().float(), atol=0, rtol=0, msg=name)
    assert digest == model_folder.sha256(saved / model_folder.WEIGHTS) and len(processor.tokenizer) == len(
        build_tokenizer()
    )


def test_the_parameter_count_is_what_the_issue_allows():
    assert 2e6 <= sum(p.numel() for p in build_mini(SIZES["mini-s"], 0).parameters()) <= 4e6


def _copy(saved, tmp_path):
    import shutil

    return shutil.copytree(saved, tmp_path / "copy")


def test_damaged_weights_are_refused(saved, tmp_path):
    folder = _copy(saved, tmp_path)
    weights = folder / model_folder.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadWeights, match="is damaged"):
        checkpoint.load(folder)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadWeights, match="is damaged"):
        checkpoint.load(folder)
    weights.unlink()
    with pytest.raises(BadWeights, match="missing"):
        checkpoint.load(folder)
    weights.write_bytes(whole)
    (folder / model_folder.CHECKSUM).write_text("{")
    with pytest.raises(BadWeights, match="unreadable"):
        checkpoint.load(folder)


def test_earlier_checkpoints_are_kept_beside_the_weights(saved, tmp_path):
    folder = _copy(saved, tmp_path)
    with pytest.raises(UnknownName, match="checkpoint of copy 'at'"):
        checkpoint.load(folder, "at")
    earlier = tmp_path / "000010.safetensors"
    weights = to_half(dict(build_mini(SIZES["mini-s"], 1).named_parameters()))
    final = load_file(folder / model_folder.WEIGHTS)
    same = [name for name, tensor in weights.items() if torch.equal(tensor, final[name])]  # norms, which begin at 1
    save_file(weights, earlier)
    add_stage(folder, "before", earlier, 10)
    add_stage(folder, "at", earlier, 12)
    assert {name: stage["step"] for name, stage in model_folder.stages(folder).items()} == {"before": 10, "at": 12}
    vlm = load(folder, checkpoint="at")
    kept = folder / model_folder.EARLIER / "at.safetensors"
    assert vlm.name == "copy (at)" and vlm.sha256 == model_folder.sha256(kept) != model_folder.verify(folder)
    assert same and {*load_file(kept)} == {*weights} - {*same}  # only what differs is kept
    for (name, ours), (_, theirs) in zip(
        vlm.model.named_parameters(), build_mini(SIZES["mini-s"], 1).named_parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs.half().float(), atol=0, rtol=0, msg=name)
    with pytest.raises(UnknownName, match="allowed: before, at"):
        load(folder, checkpoint="after")
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(BadWeights, match="is damaged"):
        load(folder, checkpoint="at")
    assert load(folder).sha256 == model_folder.verify(folder)  # the finished weights are as they were


def test_what_is_not_a_model_is_refused(saved, tmp_path):
    with pytest.raises(UnknownName, match="unknown model 'mini-z'"):
        model_folder.find_model("mini-z")
    with pytest.raises(BadInput, match="is not a model"):
        model_folder.find_model(tmp_path)
    with pytest.raises(BadInput, match="is not a model"):
        model_folder.find_model(tmp_path / "nowhere")
    folder = _copy(saved, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(UnsupportedArchitecture, match="'gpt2'"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json"):
        load(folder)


def test_a_token_that_does_not_exist_has_no_id():
    tokenizer = build_tokenizer()
    assert token_id(tokenizer, "red") == tokenizer.get_vocab()["red"]
    tokenizer.unk_token = None
    with pytest.raises(BadInput, match="no token 'mauve'"):
        token_id(tokenizer, "mauve")
