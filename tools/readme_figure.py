"""Draw the README's figure: one scene, one question, and the answer before and after the gaze of a few heads is moved.

    python tools/readme_figure.py        # book/_static/moving_the_gaze.png

The heads are the top 5 % of `bridge` by RAM in the committed results. They were ranked on other pictures than this one.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from corelib import atlas, load, record, redirect, task
from corelib.experiments.rivals import Asked, rival_pairs
from corelib.plots.style import ANCHOR, EVIDENCE, PAPER, STYLE, bare, sheet

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "book" / "_static" / "moving_the_gaze.png"


def main() -> None:
    vlm = load("bridge")
    heads = atlas.cell("bridge", "scenes").scores().top()
    pair = rival_pairs(task("scenes").questions_for("validate", 3, 0, 4))[0]
    asked = Asked.of(vlm, [pair])
    batch, evidence, target = asked.batch, asked.evidence[:, 0], asked.target[:, 0]
    plain = vlm.answer(batch).predicted[0]
    with redirect(vlm.model, heads, evidence, target, batch.after_image):
        moved = vlm.answer(batch).predicted[0]
    with record(vlm.model, batch.rows("last")) as recorded, torch.no_grad():
        vlm.model(**batch.inputs, use_cache=False)
    look = torch.stack([recorded.attention[head.layer][0, head.index, 0] for head in heads]).mean(0)
    after = torch.where(evidence[0], 0.0, look)
    after[target[0]] += look[evidence[0]].sum() / target.sum()
    view, image = batch.views[0][0], pair.sample.images[0]
    share = f"{len(heads)} of {vlm.num_layers * vlm.num_heads} heads"
    panels = (
        (look, pair.sample.evidence[0], EVIDENCE, f"bridge answers: {plain}", f"Where {share} look"),
        (after, pair.rival.evidence[0], ANCHOR, f"bridge answers: {moved}", "Their gaze is moved to the green box"),
    )
    pixels = np.asarray(image, dtype=float) / 255
    faded = 0.4 * pixels.mean(-1, keepdims=True) + 0.6 * np.array(to_rgb(PAPER))
    halo = [withStroke(linewidth=4.5, foreground="white")]
    with rc_context(STYLE):
        figure, axes = sheet(8.6, 5.1, 1, 2)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
        for panel, (row, box, colour, heading, below) in zip(map(bare, axes[0]), panels, strict=True):
            seen = row[view.positions].view(view.grid.rows, view.grid.columns).numpy()
            tall, wide = image.height // view.grid.rows, image.width // view.grid.columns
            shown = np.sqrt(np.clip(seen / seen.max(), 0, 1)).repeat(tall, 0).repeat(wide, 1)[..., None]
            picture = shown * pixels + (1 - shown) * faded
            panel.imshow(picture, interpolation="nearest", extent=(0, image.width, image.height, 0))
            corner, size = (box.x0 - 1.5, box.y0 - 1.5), (box.x1 - box.x0 + 3, box.y1 - box.y0 + 3)
            panel.add_patch(
                Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2.6, path_effects=halo, clip_on=False)
            )
            panel.set_title(heading)
            panel.set_xlabel(below, loc="left")
        figure.suptitle(f"“{pair.sample.question}”", x=0.02, ha="left")
        paper = io.BytesIO()
        figure.savefig(paper, dpi=110)
    Image.open(paper).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(FILE, optimize=True)
    print(f"{FILE.relative_to(ROOT)}: {FILE.stat().st_size / 1000:.0f} kB")
    print(f"{pair.sample.question} → {pair.sample.answer}; moved to {pair.rival.question} → {pair.rival.answer}")


if __name__ == "__main__":
    main()
