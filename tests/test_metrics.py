"""The neighbours of RAM and the traits, by hand; and all metrics on one model against eager attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from corelib.core.errors import BadInput
from corelib.experiments.reading import ALL_QUANTITIES, read_heads, readable
from corelib.metrics import (
    METRICS,
    QUANTITIES,
    Metric,
    audit,
    box_hit,
    contrastive,
    copy_hit,
    copy_paste,
    entropy,
    locality,
    output_norm,
    spatial_entropy,
    top_k_evidence,
)
from corelib.metrics.descriptors import keys_before
from corelib.metrics.localization import knee, selected
from corelib.tasks import task

close = torch.testing.assert_close
# One sample, three heads, one row, five keys.
ATTENTION = torch.tensor([[[[0.1, 0.4, 0.3, 0.2, 0.0]], [[0.6, 0.0, 0.4, 0.0, 0.0]], [[0.0] * 5]]])
EVIDENCE = torch.tensor([[False, True, True, False, False]])


def test_box_hit_by_hand():
    """Head 0 looks most at key 1, in the evidence of two tokens; head 1 at key 0; head 2 at nothing."""
    close(box_hit(ATTENTION, EVIDENCE), torch.tensor([[[0.5], [0.0], [0.0]]]))


def test_copy_paste_counts_only_what_was_produced():
    hits = torch.tensor([[[0.5, 0.5], [0.0, 0.5]]])
    close(copy_paste(hits, torch.tensor([[True, False]])), torch.tensor([[[0.5, 0.0], [0.0, 0.0]]]))


def test_a_copy_hit_is_on_the_token_that_is_written():
    """Head 0 looks most at key 1, head 1 at key 0, outside of the evidence; head 2 at nothing."""
    for key, first in ((1, 0.5), (2, 0.0), (0, 0.0)):
        shown = one_hot(torch.tensor([[key]]), 5).bool()
        close(copy_hit(ATTENTION, EVIDENCE, shown), torch.tensor([[[first], [0.0], [0.0]]]))
    close(copy_hit(ATTENTION, EVIDENCE, torch.ones(1, 1, 5, dtype=torch.bool)), box_hit(ATTENTION, EVIDENCE))


def retrieval_scores(attention, tokens, needle, rows, produced):
    """Wu et al.'s score of one sample, written as a loop: for each token that the model writes, each head scores
    1 / |needle| if its most looked-at key lies in the needle and holds that token; the mean over tokens."""
    layers, heads = len(attention), attention[0].shape[0]
    found = torch.zeros(layers, heads)
    for row in rows:
        for layer in range(layers):
            for head in range(heads):
                key = int(attention[layer][head, row].argmax())
                if key in needle and int(tokens[key]) == produced[row]:
                    found[layer, head] += 1 / len(needle) / len(rows)
    return found


@pytest.mark.parametrize("domain", ["needle", "scenes"])
def test_copy_paste_is_the_published_loop(vlm, domain):
    """In text. In a picture no key holds a token: there the most looked-at key of the evidence shows any."""
    encoded = vlm.encode(list(task(domain).samples("select", 0, 8)))
    found = read_heads(vlm, encoded, ["copy_paste", "box_hit"]).scores
    vlm.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = vlm.model(**encoded.inputs, output_attentions=True, use_cache=False)
    finally:
        vlm.model.set_attn_implementation("sdpa")
    written, totals = out.logits.argmax(-1), {"expected": 0.0, "any token": 0.0}
    for sample, evidence in enumerate(encoded.evidence):
        rows = encoded.rows("answer")[sample].nonzero()[:, 0].tolist()
        right = {row: int(written[sample, row]) for row in rows}
        wrong = [row for row in rows if right[row] != int(encoded.tokens[sample, row + 1])]
        right.update(dict.fromkeys(wrong, -1))  # teacher-forced: a wrong token is not written on
        tokens = encoded.tokens[sample].clone()
        if domain == "scenes":
            tokens[evidence] = int(encoded.tokens[sample, rows[0] + 1])
            assert len(rows) == 1
        needle = set(evidence.nonzero()[:, 0].tolist())
        expected = retrieval_scores([one[sample] for one in out.attentions], tokens, needle, rows, right)
        close(found["answer/mean/copy_paste"][sample], expected, atol=1e-6, rtol=0)
        totals["expected"] += float(expected.sum())
        totals["any token"] += float(found["answer/mean/box_hit"][sample].sum())
    assert totals["expected"] > 0
    if domain == "needle":
        assert totals["any token"] > totals["expected"]  # heads that look at another word of the needle


def test_top_k_evidence_by_hand():
    """The two most looked-at keys of head 0 are 1 and 2, both evidence: 0.7 / 2. Of head 1: 0 and 2, one of them is."""
    close(top_k_evidence(ATTENTION, EVIDENCE), torch.tensor([[[0.35], [0.2], [0.0]]]))


def test_contrastive_by_hand():
    """Evidence 0.7 against a rival of 0.2, at τ = 0.5: 1 / (1 + e^(−1)). The second region only fills up the tensor."""
    rivals = torch.tensor([[[False, False, False, True, False], [False] * 5]])
    found = contrastive(ATTENTION, EVIDENCE, rivals, temperature=0.5)
    close(found[0, 0, 0], torch.sigmoid(torch.tensor(0.5 / 0.5)))
    close(found[0, 1, 0], torch.sigmoid(torch.tensor(0.4 / 0.5)))
    close(found[0, 2, 0], torch.tensor(0.5))  # nothing against nothing
    with pytest.raises(BadInput, match="temperature"):
        contrastive(ATTENTION, EVIDENCE, rivals, temperature=0)
    with pytest.raises(BadInput, match="temperature"):
        contrastive(ATTENTION, EVIDENCE, rivals, temperature=float("nan"))


@pytest.mark.parametrize("temperature", [0.1, 0.001])
def test_rows_averaged_first_is_the_published_contrastive_score(temperature):
    """Tran et al.'s order, by hand: the mean row, the mass of each document, one softmax. Row by row it differs."""
    attention = torch.rand(1, 4, 6, 12, generator=torch.Generator().manual_seed(0)).softmax(-1)
    spans = [(1, 4), (4, 6), (8, 12)]  # the positive document and two hard negatives
    masks = torch.stack([(torch.arange(12) >= first) & (torch.arange(12) < past) for first, past in spans])
    mean = attention[0].mean(1)  # [head, key]
    masses = torch.stack([mean[:, first:past].sum(-1) for first, past in spans], 1)
    published = (masses / temperature).softmax(1)[:, 0]
    regions = {"evidence": masks[None, 0], "distractors": masks[None, 1:], "temperature": temperature}
    close(contrastive(attention.mean(-2, keepdim=True), **regions)[0, :, 0], published)
    assert (contrastive(attention, **regions).mean(-1)[0] - published).abs().max() > 1e-3
    assert METRICS["contrastive"].source.startswith("variant of")


def test_output_norm_by_hand():
    """Four heads on two value heads: the second pair reads values twice as large."""
    attention = torch.tensor([0.5, 0.5]).expand(1, 4, 1, 2)
    values = torch.tensor([[[[6.0, 0.0], [0.0, 8.0]], [[12.0, 0.0], [0.0, 16.0]]]])
    close(output_norm(attention, values), torch.tensor([[[5.0], [5.0], [10.0], [10.0]]]))


def test_traits_by_hand():
    visual = torch.tensor([[False, True, True, True, False]])
    shares = torch.tensor([0.4, 0.3, 0.2]) / 0.9
    spread = -(shares * shares.log()).sum() / torch.tensor(3.0).log()
    close(entropy(ATTENTION, visual), torch.tensor([[[spread], [0.0], [1.0]]]))
    close(locality(ATTENTION, torch.tensor([[3]]), window=2), torch.tensor([[[0.5], [0.4], [0.0]]]))
    close(keys_before(visual, torch.tensor([[True] * 5])), torch.tensor([[True, False, False, False, False]]))
    with pytest.raises(BadInput, match="two visual tokens"):
        entropy(ATTENTION, torch.tensor([[True, False, False, False, False]]))
    with pytest.raises(BadInput, match="window"):
        locality(ATTENTION, torch.tensor([[3]]), window=0)


def test_idle_heads_are_found():
    sink = np.array([[0.95, 0.2, 0.9], [0.1, 0.1, 0.91]])
    norm = np.array([[2.0, 1.0, 4.0], [0.09, 2.0, 2.0]])
    found = audit(sink, norm)
    assert found.sinks.to_json() == ["L0H0", "L1H2"] and found.dead.to_json() == ["L1H0"]
    with pytest.raises(BadInput, match="both must be"):
        audit(sink, norm[0])


def test_spatial_entropy_by_hand():
    """Mean 0.25. Excess 0.75 at a corner and at its diagonal neighbour is one component; apart they are two, equal."""
    together, apart = np.zeros((2, 4)), np.zeros((2, 4))
    together[0, 0] = together[1, 1] = apart[0, 0] = apart[1, 3] = 1
    close(spatial_entropy([np.stack([together, apart])]), np.array([0, np.log(2)]))
    flat = np.ones((1, 2, 4))
    assert np.isinf(spatial_entropy([flat])[0])  # nowhere in particular
    # Two pictures are two sheets: what touches the edge of one does not go on in the other.
    left, right = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    left[0, :, 1] = right[0, :, 0] = 1
    close(spatial_entropy([left, right]), np.array([np.log(2)]))
    # Heads do not touch each other either.
    close(spatial_entropy([np.stack([together, together, apart])]), np.array([0, 0, np.log(2)]))
    with pytest.raises(BadInput, match="no picture"):
        spatial_entropy([])


def farthest_from_the_chord(values):
    """The published rule, in its own geometry: perpendicular distances in the plane of (rank, value)."""
    rising = np.sort(values)
    points = np.stack([np.arange(len(rising)), rising], 1) - [0, rising[0]]
    x, y = points[-1] / np.linalg.norm(points[-1])
    return rising[np.argmax(np.abs(points[:, 0] * y - points[:, 1] * x))]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([9, 8, 1, 0.5, 0], 1),  # convex: the foot of the cliff
        ([9, 8.9, 8.5, 8, 1, 0], 8),  # concave: its edge
        ([9, 8.9, 8.8, 4, 0.5, 0.1, 0], 8.8),  # both: 8.8 lies 2.8 above the chord, 0.5 lies 2.5 below it
        ([9, 8.9, 8.8, 4, 0.2, 0.1, 0], 0.2),  # equally far: the lower
        ([4, 3, 2, 1, 0], 0),  # straight: everything is enough
        ([0.3, 0.2, 0.1], 0.1),  # straight but for rounding
        ([2, 2, 2], 2),
        ([5, 1], 1),
        ([3], 3),
    ],
)
def test_the_knee_of(values, expected):
    assert knee(np.array(values, dtype=float)) == expected
    assert knee(np.array(values[::-1], dtype=float)) == expected


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=40))
def test_the_knee_is_the_published_one(values):
    """Perpendicular and vertical distances are proportional; where two are equal, rounding may choose."""
    found, rising = knee(np.array(values)), np.sort(values)
    away = np.abs(rising - np.linspace(rising[0], rising[-1], len(rising)))
    best = np.flatnonzero(away > away.max() - 1e-7)
    assert found in rising[best]
    if len(best) == 1:
        assert found == farthest_from_the_chord(values)


def test_a_knee_of_nothing():
    for values in ([], [1.0, np.nan], [np.inf, 0.0]):
        with pytest.raises(BadInput, match="all finite"):
            knee(np.array(values))


def test_localization_selects_pointed_heads_with_mass():
    """Four of eight heads have mass, a fifth is the knee, and as the published code has it may be chosen too; of those
    the two of lowest spatial entropy are, and no idle ones."""
    mass = np.array([[[0.9, 0.8, 0.85, 0.8], [0.01, 0.0, 0.02, 0.0]]])
    spread = np.array([[[1.0, 0.2, 0.7, 0.1], [0.0, 0.0, 0.5, 0.0]]])
    assert knee(mass.ravel()) == 0.02
    assert selected(mass, spread, fraction=0.25).tolist() == [[[False, True, False, True], [False] * 4]]
    with pytest.raises(BadInput, match="both must be"):
        selected(mass, spread[0])


def test_a_sample_whose_masses_fall_late_still_selects():
    """A concave curve: nearly all heads look at the picture. Flat maps are never chosen."""
    mass = np.array([[[0.9, 0.89, 0.88, 0.87, 0.1]]])
    spread = np.array([[[0.4, 0.3, 0.2, 0.1, 0.0]]])
    assert selected(mass, spread, fraction=0.4).tolist() == [[[False, False, True, True, False]]]
    spread[0, 0, 3] = np.inf
    assert selected(mass, spread, fraction=0.4).tolist() == [[[False, True, True, False, False]]]


def test_every_document_selects_heads(vlm):
    """In documents nearly all heads look at the page: the masses are a concave curve in most samples."""
    encoded = vlm.encode(list(task("documents").samples("select", 0, 12)))
    chosen = read_heads(vlm, encoded, ["localization"]).scores["last/mean/localization"]
    assert chosen.flatten(1).sum(1).tolist() == [3] * 12


@pytest.mark.parametrize("domain", ["scenes", "documents", "needle"])
def test_all_metrics_agree_with_eager_attention(vlm, domain):
    work = task(domain)
    drawn = list(work.samples("select", 0, 3))
    encoded = vlm.encode(drawn)
    found = read_heads(vlm, encoded, readable(drawn[0], ALL_QUANTITIES))
    vlm.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            out = vlm.model(**encoded.inputs, output_attentions=True, use_cache=False)
            null = vlm.model(**vlm.null_question(encoded).inputs, output_attentions=True, use_cache=False).attentions
    finally:
        vlm.model.set_attn_implementation("sdpa")
    attention, null = (torch.stack(one, 1) for one in (out.attentions, null))  # [batch, layer, head, query, key]
    rows, evidence = encoded.rows("answer")[:, None, None], encoded.evidence
    size = evidence.sum(1)[:, None, None, None]

    def mean(values):
        return (values * rows).sum(-1) / rows.sum(-1)

    hits = (one_hot(attention.argmax(-1), attention.shape[-1]) * evidence[:, None, None, None]).sum(-1) / size
    right = (out.logits[:, :-1].argmax(-1) == encoded.tokens[:, 1:])[:, None, None]
    looked = encoded.tokens[:, None, None].expand(attention.shape[:-1]).gather(-1, attention.argmax(-1))
    shown = (looked == encoded.tokens.roll(-1, 1)[:, None, None]) | bool(drawn[0].images)
    ram = (attention * evidence[:, None, None, None]).sum(-1)
    expected = {
        "box_hit": mean(hits),
        "copy_paste": mean(hits * shown * torch.nn.functional.pad(right, (0, 1))),
        "null_calibrated": mean(ram - (null * evidence[:, None, None, None]).sum(-1)),
        "visual": mean((attention * encoded.source[:, None, None, None]).sum(-1)),
    }
    for name, values in expected.items():
        close(found.scores[f"answer/mean/{name}"], values, atol=2e-5, rtol=0)
    for metric in METRICS.values():
        assert (metric.key in found.scores) == (metric.quantity in readable(drawn[0], ALL_QUANTITIES))


@pytest.mark.parametrize("quantity", ALL_QUANTITIES)
def test_every_metric_can_be_read_alone(vlm, quantity):
    """As in `corelib score --metric`: with the others or without, the numbers are the same."""
    encoded = vlm.encode(list(task("scenes").samples("select", 0, 2)))
    alone, together = read_heads(vlm, encoded, [quantity]), read_heads(vlm, encoded, ALL_QUANTITIES)
    assert alone.scores and all(key.endswith(f"/{quantity}") for key in alone.scores)
    for key, values in alone.scores.items():
        close(values, together.scores[key], atol=0, rtol=0)


def test_a_null_question_asks_for_nothing(vlm):
    drawn = list(task("scenes").samples("select", 0, 4))
    encoded = vlm.encode(drawn)
    null = vlm.null_question(encoded)
    assert null.tokens.shape == encoded.tokens.shape
    changed = null.tokens != encoded.tokens
    assert not (changed & ~encoded.rows("question")).any() and (changed.sum(1) == 2).all()  # colour and shape
    words = vlm.tokenizer.convert_ids_to_tokens(null.tokens[0][encoded.rows("question")[0]])
    assert words[:2] == ["digit", *drawn[0].question.split()[1:2]] and words.count("?") == 3


def test_the_catalogue_is_whole():
    assert {metric.quantity for metric in METRICS.values()} <= {*ALL_QUANTITIES} and {*QUANTITIES} <= {*ALL_QUANTITIES}
    assert len({metric.key for metric in METRICS.values()}) == len(METRICS)
    assert all(metric.source for metric in METRICS.values())
    assert Metric("raw").key == "answer/mean/raw"
