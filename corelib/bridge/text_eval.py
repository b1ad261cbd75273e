"""Ordinary text: what a language model must still be able to do after it has learned to see.

Two dozen passages, written for this book, with nothing in them of shapes that carry digits, forms or frames.
`text_loss` is the mean cross-entropy of their tokens; the bridge reports it before and after.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

TEXTS = (
    "The river rises in the hills north of the town. In spring it floods the meadows, and by August one can "
    "walk across it.",
    "To make a simple bread, mix flour, water, salt and a little yeast. Let the dough rest overnight, then "
    "bake it until the "
    "crust is brown.",
    "She opened the letter at the kitchen table. It was from her brother, who had moved to the coast and "
    "wanted to know when "
    "she would visit.",
    "A thermometer measures temperature. The liquid inside it expands when it is warm and shrinks when it is cold.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))",
    "The train was late again. Passengers stood on the platform and looked at their phones, and nobody said a word.",
    "Photosynthesis is the process by which plants use sunlight, water and carbon dioxide to make sugar and oxygen.",
    "Dear Mr. Harris, thank you for your application. We would like to invite you to an interview next week.",
    "When the war ended, the city was rebuilt stone by stone. Today only a plaque in the square recalls what happened.",
    "Cats sleep for most of the day. They are most active at dawn and at dusk, when their prey is awake.",
    "The theory was simple, but it took twenty years before anyone could test it. When they did, it turned "
    "out to be wrong.",
    "What is the capital of France? The capital of France is Paris.",
    "He had played the piano since he was a child, and although he never became famous, he never stopped practising.",
    "Water boils at a lower temperature in the mountains, because the air pressure there is lower.",
    "The committee will meet on Tuesday to discuss the budget. Members who cannot attend should inform the secretary.",
    "Once upon a time there was a king who had three daughters. The youngest was the cleverest of them all.",
    "If you want to learn a language, read a little every day, speak whenever you can, and do not be afraid "
    "of mistakes.",
    "The heart pumps blood through the body. Arteries carry it away from the heart, and veins carry it back.",
    "import math\n\ndef area(radius):\n    return math.pi * radius ** 2",
    "The museum is open from Tuesday to Sunday. Admission is free for children and students.",
    "They climbed for six hours before they reached the summit. The view was hidden by clouds, but nobody complained.",
    "A good question is often worth more than a good answer, because it makes other people think.",
    "Prices rose quickly last year, and many families had to choose between heating and food.",
    "The moon has no air and no weather. Footprints that were left there fifty years ago are still there today.",
)


@torch.no_grad()
def text_loss(model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: tuple[str, ...] = TEXTS) -> float:
    """Mean cross-entropy, in nats a token, of `texts` under a language model (or the one inside a multimodal
    model).

    Every token counts once, the first of a text not at all.
    """
    total, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
        total += nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    return total / count
