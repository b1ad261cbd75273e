"""The model card as a page: what was measured (`card.py`), in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corelib.core import model_folder
from corelib.mini.vocabulary import words
from corelib.tasks import DOMAINS, TASKS
from corelib.tasks.documents import Documents
from corelib.tasks.scenes import Scenes
from corelib.tasks.text import Needle
from corelib.tasks.video import Video

SCENES, DOCUMENTS, VIDEO, NEEDLE = Scenes(), Documents(), Video(), Needle()
DATA = {
    "scenes": f"Referring expressions: a handwritten digit on one of {SCENES.objects} coloured shapes, or on its "
    "neighbour.",
    "documents": f"Find the field, read its value: {DOCUMENTS.pages} printed pages with {DOCUMENTS.fields} fields "
    f"each, {DOCUMENTS.digits} digits a value.",
    "video": f"Which object, which frame: {VIDEO.frames} frames with {VIDEO.regulars + 1} objects each, through the "
    "video path.",
    "needle": f"Text only: a key → value list of {NEEDLE.entries} entries.",
    "arithmetic": "Text only, nothing to retrieve: sums of two digits.",
}

ABOUT = {  # by room
    "mini": {
        "origin": "trained from scratch",
        "training": "The vision tower was first taught by itself what stands where and beside what, then left as it "
        "is; the language model was trained behind it",
        "limits": f"It knows {len(words())} words, one style of picture and one way to ask.",
    },
    "bridge": {
        "origin": "with a pretrained language model, SmolLM2-135M-Instruct (Apache-2.0; here its GGUF in 4 bits, "
        "dequantised), and a new vision tower, connector and adapters",
        "training": "The vision tower and the connector were first taught by themselves what stands where and beside "
        "what, then the tower was left as it is; the connector and low-rank adapters on the language model's attention "
        "were trained behind it, all else in the language model stayed as it was",
        "limits": "Its language model knows English, but it was shown one style of picture and one way to ask. It "
        "cannot read pages with fewer or more fields than the default: SmolVLM counts places in parts of the canvas, "
        "and the tower has learned each domain on one canvas. Only what was trained is in this folder.",
    },
}


def _interval(part: Mapping[str, Any] | None) -> str:
    return "–" if part is None else f"{part['accuracy']:.3f} ({part['low']:.3f}–{part['high']:.3f})"


def _machine(facts: Mapping[str, Any]) -> str:
    where = "no accelerator" if facts["device"] == "cpu" else f"an accelerator ({facts['device']})"
    return f"{facts['cores']} {facts['processor']} cores and {where}"


def render(card: Mapping[str, Any]) -> str:
    """A card, as `measure_card` returns it, as Markdown."""
    model, test, recipe, training = (card[key] for key in ("model", "test", "recipe", "training"))
    results, about = test["results"], ABOUT[model_folder.room(model["name"])]
    unfinished = []
    if training["steps"] < training["planned"]:
        unfinished = [
            f"> **An unfinished stage**: step {training['steps']} of {training['planned']}. These weights let the rest "
            "of the project run; no conclusion about heads may be drawn from them.",
            "",
        ]
    trained = about["training"]
    if recipe.get("begins_with"):
        trained = (
            f"It began with the weights of `{recipe['begins_with']}`. The vision tower was left as it is; the language "
            "model went on with longer and longer sequences"
        )
    precision = ", in mixed precision (bfloat16)" if recipe.get("fast") else ""  # cards of older runs do not name it
    lines = [
        f"# {model['name']}",
        "",
        f"A real multimodal LLM of {model['parameters'] / 1e6:.2f} million parameters: a stock "
        f"`{model['class']}`, {about['origin']}. "
        f"{model['layers']} layers × {model['heads']} query heads ({model['kv_heads']} KV heads).",
        "",
        f"Weights: half precision, sha256 `{model['sha256']}`.",
        "",
        *unfinished,
        "## Accuracy",
        "",
        f"Split `test`, seed {test['seed']}, default difficulty, {results['scenes']['base']['samples']} samples "
        "a task; 95 % Wilson intervals. Handwritten digits and photographs of this split were never trained on. "
        "A value of several digits counts only if all of them are right."
        + (f" Computed in {test['autocast']}." if test["autocast"] else ""),
        "",
        "| task | accuracy | picture (or text) swapped | bar |",
        "|---|---|---|---|",
    ]
    for name in TASKS:
        bar = card["bars"].get(name)
        verdict = "–" if bar is None else f"{bar['bar']:.2f}: {'met' if bar['met'] else 'not met'}"
        base, swapped = (_interval(results[name].get(key)) for key in ("base", "swapped"))
        lines.append(f"| {name} | {base} | {swapped} | {verdict} |")
    lines += ["", "By kind of question:", "", "| task | kind | accuracy | samples |", "|---|---|---|---|"]
    for name in DOMAINS:
        for key, part in results[name].items():
            if key.startswith("base/"):
                lines.append(f"| {name} | {key[5:]} | {_interval(part)} | {part['samples']} |")
    lines += [
        "",
        "Reading one handwritten digit on one object, with nothing to search: "
        f"{_interval(results['single digit']['base'])}. "
        "No scene can be answered better than its digit can be read.",
        "",
        "## Is the evidence the evidence?",
        "",
        "All heads, at all rows after the pictures, blind to some visual tokens.",
        "",
        "| domain | sees all | blind to the evidence | blind to all but the evidence | picture swapped |",
        "|---|---|---|---|---|",
    ]
    for name in DOMAINS:
        shown = (_interval(results[name].get(key)) for key in ("base", "without", "only", "swapped"))
        lines.append(f"| {name} | {' | '.join(shown)} |")
    lines += [
        "",
        *_lengths(card),
        *_language(card),
        "## Training",
        "",
        f"{training['steps']} steps, {training['hours']} hours on {_machine(training['machine'])} (shared with other "
        "work). "
        f"{trained} (`corelib/training/stages.py`, `tower_supervision.py`). "
        f"Seed {recipe['seed']}, AdamW, learning rate {recipe['learning_rate']}{precision}. The rest, and how the "
        "recipe came about, is in `recipe.toml`; `corelib train recipe.toml --out run` follows it.",
        "",
        "## Data",
        "",
        *(f"* `{name}`: {text}" for name, text in DATA.items()),
        "",
        "Drawn on the fly from real parts: 1,797 handwritten digits (UCI, through scikit-learn), photographs that "
        "scikit-learn, scikit-image and matplotlib ship, and matplotlib's DejaVu fonts. Splits share no digit and no "
        "photograph.",
        "",
        "## Limits",
        "",
        f"{about['limits']} It is made to be studied, not used.",
        "",
    ]
    return "\n".join(lines)


def _lengths(card: Mapping[str, Any]) -> list[str]:
    """The section on long prompts."""
    if "lengths" not in card:
        return []
    found = dict(card["lengths"])
    rows, questions, bars = (found.pop(name) for name in ("rows", "questions", "bars"))
    lines = []
    for length, by_domain in found.items():
        for domain, one in by_domain.items():
            bar = bars.get(length)
            verdict = "–" if bar is None else f"{bar:.2f}: {'met' if one['accuracy'] >= bar else 'not met'}"
            shown = f"{one['accuracy']:.3f} ({one['low']:.3f}–{one['high']:.3f})"
            lines.append(f"| {length} | {domain} | {one['tokens']:,} | {shown} | {verdict} |")
    return [
        "## Long prompts",
        "",
        f"{rows} rows of pages or pictures, {questions} questions about each, split `test`; the intervals are a "
        "bootstrap over rows. Scenes are asked for things alone, not for their neighbours.",
        "",
        "| about | domain | tokens | accuracy | bar |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ]


WHEN = ("before", "after")


def _language(card: Mapping[str, Any]) -> list[str]:
    """The section on what became of a pretrained language model."""
    if "language" not in card:
        return []
    language = card["language"]
    loss = language["loss"]
    return [
        "## What became of the language model",
        "",
        "| | before | after it learned to see |",
        "|---|---|---|",
        f"| loss on {language['texts']} ordinary texts, nats a token | {loss['before']:.3f} | {loss['after']:.3f} |",
        *(
            f"| accuracy on `{name}` | " + " | ".join(_interval(language[f"{name} {when}"]) for when in WHEN) + " |"
            for name in ("needle", "recital")
        ),
        "",
        "`needle` asks in the words that the bridge was trained on. `recital` is a list that is said once more, a text "
        "to be continued: nobody was trained on it.",
        "",
    ]
