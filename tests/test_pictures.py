"""Pictures as people have them: turned, transparent, deep, animated, damaged, huge."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from corelib.core.errors import BadInput
from corelib.core.pictures import MOST_PIXELS, open_picture
from corelib.tasks import task
from corelib.tasks.hub import shown

ORIENTATION = 0x0112  # the EXIF tag


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int = 64, height: int = 40) -> Image.Image:
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


@given(st.integers(1, 8), st.sampled_from(["PNG", "JPEG"]))
@settings(max_examples=16, deadline=None)
def test_photographs_are_upright(orientation, kind):
    upright, note = noise(), Image.Exif()
    note[ORIENTATION] = orientation
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what a camera held so writes
    stored = upright if turned is None else upright.transpose(Image.Transpose(turned))
    file = encoded(stored, kind, exif=note.tobytes(), **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    found = open_picture(file)
    assert found.size == (64, 40) and found.mode == "RGB"
    away = np.abs(np.asarray(found, dtype=int) - np.asarray(upright, dtype=int)).mean()
    assert away == 0 if kind == "PNG" else away < 8


def test_orientation_of_a_box_is_that_of_a_viewer(tmp_path):
    note = Image.Exif()
    note[ORIENTATION] = 6
    (tmp_path / "portrait.jpg").write_bytes(encoded(noise(320, 200), "JPEG", exif=note.tobytes()))
    line = {"image": "portrait.jpg", "question": "What?", "answer": "cup", "boxes": [[10, 210, 190, 310]]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(line) + "\n")
    work = task(f"folder:{tmp_path}")
    split = next(name for name, mine in work.dealt.items() if mine)
    assert work.sample(split, 0, 0).images[0].size == (200, 320)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "PA"])
def test_transparency_is_laid_on_white(kind):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 2, 4))  # black writing on nothing
    if kind == "P":
        image = clear.quantize(4, method=Image.Quantize.FASTOCTREE)
    else:
        image = clear.convert("RGBA" if kind == "PA" else kind)
    found = open_picture(encoded(image))
    assert found.getpixel((0, 0)) == (0, 0, 0) and found.getpixel((3, 0)) == (255, 255, 255)


def test_sixteen_bits_become_eight():
    deep = Image.fromarray(np.array([[0, 300, 40_000, 65_535]], dtype=np.uint16))
    for source in (encoded(deep), encoded(deep, "TIFF"), deep):
        assert np.abs(np.asarray(open_picture(source))[0, :, 0].astype(int) - [0, 1, 156, 255]).max() <= 1
    clear = io.BytesIO()
    deep.save(clear, "PNG", transparency=40_000)
    assert np.asarray(open_picture(clear.getvalue()))[0, :, 0].tolist() == [0, 1, 255, 255]
    with pytest.raises(BadInput, match="without a known scale"):
        open_picture(encoded(Image.new("F", (2, 2)), "TIFF"))


@pytest.mark.parametrize("mode", ["CMYK", "1", "L", "YCbCr", "LAB"])
def test_other_modes_are_read(mode):
    image = Image.new("RGB", (3, 2), (255, 255, 255))
    image = ImageOps.grayscale(image).convert(mode) if mode == "1" else Image.new(mode, (3, 2))
    assert open_picture(image).mode == "RGB"


def test_several_pictures_in_a_file_are_refused():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP"):
        with pytest.raises(BadInput, match=r"a\.gif holds 2 pictures"):
            open_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), name="a.gif")
    phone = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])  # what is behind the first is a preview
    assert open_picture(phone).getpixel((4, 4))[0] > 240


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_damaged_files_are_named(kind):
    whole = encoded(noise(), kind)
    for keep in (0.5, 0.9):
        with pytest.raises(BadInput, match=r"cannot read the picture page.png \(.+\): give a PNG or JPEG file") as told:
            open_picture(whole[: int(keep * len(whole))], name="page.png")
        assert "\n" not in str(told.value)
    for wrong in (b"", b"no picture", b"GIF89a"):
        with pytest.raises(BadInput, match="cannot read the picture"):
            open_picture(wrong)


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(BadInput, match="Is a directory"):
        open_picture(tmp_path)


def test_large_pictures_are_refused_before_they_are_decoded():
    side = 1 + int(MOST_PIXELS**0.5)
    with pytest.raises(BadInput, match=f"has {side} × {side} pixels: give at most 64,000,000"):
        open_picture(encoded(Image.new("1", (side, side))))
    with pytest.raises(BadInput, match=r"20000 × 20000|decompression bomb"):
        open_picture(encoded(Image.new("1", (20_000, 20_000))))
    with pytest.raises(BadInput, match="at most 100"):
        open_picture(noise(), most=100)
    assert shown(encoded(noise())).size == (64, 40)


def test_asking_about_a_damaged_picture_is_one_line(run, tmp_path):
    (tmp_path / "half.jpg").write_bytes(encoded(noise(), "JPEG")[:600])
    done = run("ask", "--image", tmp_path / "half.jpg", "--question", "digit on red square ?")
    assert done.returncode == 2 and done.stderr.startswith("corelib: cannot read the picture"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 or "Traceback" not in done.stderr


LINE = {"image": "a.png", "question": "What?", "answer": "cup", "boxes": [[0, 0, 9, 9]]}


def test_a_folder_names_the_line_of_a_damaged_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    (tmp_path / "b.png").write_bytes(encoded(noise())[:900])
    lines = [json.dumps(LINE), json.dumps({**LINE, "image": "b.png"})]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadInput, match=r"line 2: cannot read the picture .*b.png"):
        task(f"folder:{tmp_path}")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path, separator):
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    line = json.dumps({**LINE, "question": f"What{separator}now?"}, ensure_ascii=False)
    marked = "\ufeff" + line + "\r\n"  # a byte-order mark before it
    (tmp_path / "questions.jsonl").write_text(marked, encoding="utf-8", newline="")
    (record,) = task(f"folder:{tmp_path}").records
    assert record.question == f"What{separator}now?"


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise()))
    text = json.dumps(LINE) + "\n" + json.dumps({**LINE, "answer": "café"}, ensure_ascii=False)
    (tmp_path / "questions.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"questions.jsonl, line 2: this is not UTF-8"):
        task(f"folder:{tmp_path}")
