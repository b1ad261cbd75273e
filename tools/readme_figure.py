"""Draw the README's figure: a scene with its evidence, and where the CoRe heads of `mini-s` look in it.

    python tools/readme_figure.py        # book/_static/where_heads_look.png

The heads are the top 5 % by RAM in the committed results. They were ranked on other pictures than this one.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from corelib import atlas, load, task
from corelib.models.attention_map import map_attention
from corelib.plots.style import EVIDENCE, INK, PAPER, STYLE, bare, sheet

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "book" / "_static" / "where_heads_look.png"


def main() -> None:
    vlm, sample = load("mini-s"), task("scenes").sample("validate", seed=0, index=2)
    (image,), (box,) = sample.images, sample.evidence
    answer = vlm.ask(sample.images, sample.question)
    heads = atlas.cell("mini-s", "scenes").scores().top()
    (seen,) = (np.asarray(one) for one in map_attention(vlm, sample.images, sample.question, heads=heads).maps)
    rows, columns = seen.shape
    tall, wide = image.height // rows, image.width // columns
    pixels = np.asarray(image, dtype=float) / 255
    faded = 0.4 * pixels.mean(-1, keepdims=True) + 0.6 * np.array(to_rgb(PAPER))
    shown = np.sqrt(np.clip(seen / seen.max(), 0, 1)).repeat(tall, 0).repeat(wide, 1)[..., None]
    halo = [withStroke(linewidth=4.5, foreground="white")]
    with rc_context(STYLE):
        figure, axes = sheet(8.6, 4.7, 1, 2)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
        left, right = (bare(one) for one in axes[0])
        for panel, picture in ((left, pixels), (right, shown * pixels + (1 - shown) * faded)):
            panel.imshow(picture, interpolation="nearest", extent=(0, image.width, image.height, 0))
            corner, size = (box.x0 - 1.5, box.y0 - 1.5), (box.x1 - box.x0 + 3, box.y1 - box.y0 + 3)
            outline = {"edgecolor": EVIDENCE, "linewidth": 2.6, "path_effects": halo}
            panel.add_patch(Rectangle(corner, *size, fill=False, **outline))
        for row, column in zip(*np.nonzero(seen >= 0.02), strict=True):
            above = (row + (0 if row else 1)) * tall + (-3 if row else 3)
            place = ((column + 0.5) * wide, above)
            style = {"ha": "center", "va": "bottom" if row else "top", "fontsize": 12, "fontweight": "bold"}
            right.text(*place, f"{seen[row, column]:.0%}", color=INK, path_effects=halo, **style)
        left.set_title(f"“{sample.question}”   mini-s answers: {answer}")
        right.set_title(f"Attention of {', '.join(heads.to_json())}, mean")
        left.set_xlabel("Orange: the evidence, what has to be read", loc="left")
        right.set_xlabel("In colour: where the last token attends", loc="left")
        paper = io.BytesIO()
        figure.savefig(paper, dpi=110)
    Image.open(paper).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(FILE, optimize=True)
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size / 1000:.0f} kB, the answer is {sample.answer}")


if __name__ == "__main__":
    main()
