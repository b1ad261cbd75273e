"""What single heads do, against plain hooks and eager attention: stories, relays, decoys, the gaze of every head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from corelib import ablate, atlas
from corelib.analysis.reliability import share_found, tops_of_few
from corelib.attention.head_outputs import head_outputs
from corelib.attention.interface import attention_implementation
from corelib.core.errors import BadInput, UnknownName
from corelib.core.heads import HeadSet
from corelib.experiments.decoys import measure_decoys, silenced
from corelib.experiments.gaze_effects import measure_gaze_effects
from corelib.experiments.head_story import tell_story
from corelib.experiments.one_word import differs_in_one_word, one_word_pairs
from corelib.experiments.redirecting import Intervention, Redirecting
from corelib.experiments.relays import find_relays
from corelib.experiments.rivals import Asked, rival_pairs
from corelib.experiments.sample_curve import enough_samples, sample_curve
from corelib.experiments.token_kinds import token_kinds
from corelib.experiments.variation import vary
from corelib.metrics.logit_attribution import logit_attribution, word_direction
from corelib.models.head_writes import head_writes
from corelib.models.last_norm import LastNorm
from corelib.tasks import RETRIEVING, task
from corelib.tasks.wording import reworded


@pytest.fixture(scope="module")
def draw():
    return task("scenes", relational=0.0).draw("validate", samples=24, questions=12)


@pytest.fixture(scope="module")
def story(vlm, draw):
    return tell_story(vlm, draw, HeadSet("L0H4"), atlas.cell("mini-s", "scenes").scores().top())


def test_what_heads_and_mlps_and_the_embedding_add_up_to_is_the_logit(vlm, draw):
    """Every writer of the last row, read by plain hooks: their attributions sum to the model's own logit difference."""
    batch = vlm.encode([draw[0], draw[12]])
    text, rows = vlm.model.model.language_model, batch.rows("last")
    seen, parts = {}, []
    hooks = [
        text.layers[0].register_forward_pre_hook(
            lambda m, a, k: seen.update(first=a[0] if a else k["hidden_states"]), with_kwargs=True
        )
    ]
    hooks.append(text.norm.register_forward_pre_hook(lambda m, a: seen.update(last=a[0])))
    for number, layer in enumerate(text.layers):
        hooks.append(
            layer.self_attn.o_proj.register_forward_pre_hook(lambda m, a, n=number: seen.update({("z", n): a[0]}))
        )
        hooks.append(layer.mlp.register_forward_hook(lambda m, a, out, n=number: seen.update({("mlp", n): out})))
    logits = vlm.model(**batch.inputs, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    norm, targets = LastNorm.of(vlm), torch.tensor([[5], [7]])
    rivals = torch.tensor([5, 7, 9])
    direction = word_direction(norm.unembedding, norm.gain, targets, rivals)
    scale = norm.scale(seen["last"][rows][:, None])
    for number, layer in enumerate(text.layers):
        z = seen["z", number][rows].reshape(2, 1, 8, -1).transpose(1, 2)  # [batch, head, row, dim]
        parts.append(logit_attribution(head_writes(layer.self_attn.o_proj, z), scale, direction).sum(1))
        parts.append(logit_attribution(seen["mlp", number][rows][:, None, None], scale, direction)[:, 0])
    begun = seen["first"][rows][:, None, None]
    parts.append(logit_attribution(begun, scale, direction)[:, 0])
    row = logits[rows]
    wanted = row.gather(1, targets) - row[:, rivals].mean(1, keepdim=True)
    torch.testing.assert_close(torch.stack(parts).sum(0), wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(BadInput, match="give"):
        logit_attribution(begun, scale[:, :0], direction)
    with pytest.raises(BadInput, match="above 0"):
        logit_attribution(begun, 0 * scale, direction)


def test_looks_are_those_of_eager_attention(vlm, draw, story):
    batch = vlm.encode(list(draw))
    with attention_implementation(vlm.model, "eager"):
        out = vlm.model(**batch.inputs, use_cache=False, output_attentions=True)
    look, kinds = out.attentions[0][:, 4], token_kinds(vlm, batch)
    rows = kinds["sought words"] & batch.after_image
    on = (look * kinds["template words"][:, None]).sum(-1)[rows].mean()
    assert story.looks["sought words"]["template words"] == pytest.approx(float(on), abs=2e-4)
    assert all(sum(keys.values()) == pytest.approx(1, abs=0.05) for keys in story.looks.values())


def test_a_head_is_patched_as_a_plain_hook_does(vlm, draw, story):
    pairs = one_word_pairs(list(draw))
    own, other = vlm.encode([one.sample for one in pairs]), vlm.encode([one.rival for one in pairs])
    rows = own.after_image & ~own.rows("last").roll(1, 1)
    o_proj, kept = vlm.model.model.language_model.layers[0].self_attn.o_proj, []
    hook = o_proj.register_forward_pre_hook(lambda module, z: kept.append(z[0].clone()))
    vlm.model(**other.inputs)
    hook.remove()

    def patch(module, z):
        z = z[0].clone()
        z[..., 128:160] = torch.where(rows[..., None], kept[0][..., 128:160], z[..., 128:160])
        return (z,)

    plain = vlm.answer(own).correct
    hook = o_proj.register_forward_pre_hook(patch)
    said = vlm.answer(own).next_tokens[own.rows("last")]
    hook.remove()
    moved = (said == other.tokens[:, -1])[plain].float().mean()
    assert story.patched.moved.value == pytest.approx(float(moved)) and story.patched.moved.value > 0.2
    assert story.patched.whole_layer == 1.0 and story.patched.pairs == int(plain.sum())


def test_a_binding_head_works_through_the_heads_that_fetch(vlm, draw, story):
    """Known of mini-s: without L0H4 the CoRe heads lose the evidence; with their outputs put back nothing is lost."""
    batch = vlm.encode(list(draw))
    with ablate(vlm.model, "L0H4", rows=batch.after_image):
        without = vlm.answer(batch).accuracy
    assert story.restored.without.accuracy == pytest.approx(without)
    assert story.restored.put_back.accuracy > story.restored.without.accuracy + 0.3
    assert all(after < before / 2 for before, after in story.stops.values())
    assert story.repeats[0][0] == pytest.approx(without, abs=1e-4)  # kept to four digits
    with pytest.raises(BadInput, match="a story is of one head"):
        tell_story(vlm, draw, HeadSet("L0H4 L0H5"), HeadSet("L2H3"))
    with pytest.raises(BadInput, match="no sample is of the kind"):
        tell_story(vlm, draw, HeadSet("L0H4"), HeadSet("L2H3"), kind="relation")


def test_pairs_differ_in_one_word(draw):
    pairs = one_word_pairs(list(draw))
    assert len(pairs) > 10
    for one in pairs:
        mine, theirs = one.sample.question.split(), one.rival.question.split()
        assert sum(a != b for a, b in zip(mine, theirs, strict=True)) == 1
        assert one.sample.cluster == one.rival.cluster and one.sample.answer != one.rival.answer
    one = pairs[0].sample
    assert not differs_in_one_word(one, replace(one, answer="x"))
    assert not differs_in_one_word(one, replace(one, question=f"{one.question} now", answer="x"))


def test_silenced_heads_write_nothing_and_come_back(vlm, draw):
    batch, heads = vlm.encode([draw[0]]), HeadSet("L2H3 L4H0")
    plain = vlm.model(**batch.inputs).logits
    with ablate(vlm.model, heads):
        ablated = vlm.model(**batch.inputs).logits
    with silenced(vlm.model, heads):
        torch.testing.assert_close(vlm.model(**batch.inputs).logits, ablated)
    assert torch.equal(vlm.model(**batch.inputs).logits, plain)
    with pytest.raises(BadInput, match="L2H8"), silenced(vlm.model, HeadSet("L1H0 L2H8")):
        pass
    assert torch.equal(vlm.model(**batch.inputs).logits, plain)


def test_scores_of_attention_are_fooled_by_decoys(vlm):
    draw = task("scenes").draw("validate", samples=32)
    top = atlas.cell("mini-s", "scenes").scores().top()
    found = measure_decoys(vlm, draw, top)
    assert found.kept["RAM"] >= 2 / 3 and found.kept["value-weighted"] == 0 < found.before["value-weighted"]
    with pytest.raises(BadInput, match="no decoy"):
        measure_decoys(vlm, draw, HeadSet())


def test_gaze_effects_are_those_of_single_redirections(vlm):
    draw = task("scenes").draw("validate", samples=24, questions=4)
    cell = atlas.cell("mini-s", "scenes")
    tables = {"RAM": cell.scores().values, "norm": cell.scores("answer/mean/output_norm").values}
    found = measure_gaze_effects(vlm, draw, tables, main="RAM")
    pairs = rival_pairs(draw)
    pairs = [one for one, apart in zip(pairs, Asked.of(vlm, pairs).apart.tolist(), strict=True) if apart]
    under = Redirecting.of(vlm, draw, pairs)
    right = under.plain()
    lost = (under.logprob() - under.logprob(Intervention(HeadSet("L2H3"))))[right].mean()
    assert found.alone[2][3] == pytest.approx(float(lost), rel=2e-3) and found.task.counted == int(right.sum())
    top = cell.scores().top()
    assert found.moved["RAM"].value == pytest.approx(float(under(Intervention(top))[0][right].float().mean()))
    rho = spearmanr(np.ravel(tables["RAM"]), np.ravel(found.alone)).statistic
    assert found.agreement["RAM"].value == pytest.approx(rho, abs=2e-3)
    ahead = found.ahead["norm"]
    assert ahead.moved.value == pytest.approx(found.moved["RAM"].value - found.moved["norm"].value)
    assert ahead.alone.value == pytest.approx(found.agreement["RAM"].value - found.agreement["norm"].value, abs=1e-6)
    with pytest.raises(UnknownName, match="score"):
        measure_gaze_effects(vlm, draw, tables, main="lift")
    with pytest.raises(BadInput, match="one finite number"):
        measure_gaze_effects(vlm, draw, {"RAM": [[1.0]]}, main="RAM")


def test_relays_are_found_and_tested_on_other_samples(vlm):
    work = task("scenes", relational=0.0)
    scan, test = (work.draw(split, samples=16, questions=4) for split in ("validate", "test"))
    core = atlas.cell("mini-s", "scenes").scores().top()
    found = find_relays(vlm, scan, test, core, row=-2)  # the last word of the description
    assert len(found.relays) == len(found.cut) == 4 and 0 < found.p <= 1 and len(found.null) <= 20
    single = np.array(found.single)
    assert single[0].max() == single[0].min()  # layers before the first of the moved heads are not scanned
    assert found.both.value >= found.cut_all.value
    with pytest.raises(BadInput, match="the same samples"):
        find_relays(vlm, scan, scan, core)
    pages = task("documents").draw("validate", samples=4, questions=4)
    with pytest.raises(BadInput, match="several tokens"):
        find_relays(vlm, pages, test, core)


def test_few_samples_find_less_and_all_find_all(vlm):
    values = atlas.sample_scores("mini-s", "scenes")
    draw, facts = task("scenes").draw("test", samples=16, questions=4), atlas.cell("mini-s", "scenes").task
    found = sample_curve(vlm, draw, values, facts)
    assert (
        found.counts[-1] == 256
        and found.found.value[-1] == 1.0
        and found.moved.value[-1] == pytest.approx(found.moved_by_all, abs=1e-4)
    )
    assert found.found.value[0] < 0.8 and str(found.final) == str(atlas.cell("mini-s", "scenes").scores().top())
    assert enough_samples([found, replace(found, counts=found.counts[1:])]) in (*found.counts, None)
    low = replace(found, found=replace(found.found, value=tuple(0.5 for _ in found.counts)))
    assert enough_samples([found, low]) is None
    with pytest.raises(BadInput, match="no curve"):
        enough_samples([])
    with pytest.raises(BadInput, match="ranked on these samples"):
        sample_curve(vlm, task("scenes").draw("select", samples=4), values, facts)
    with pytest.raises(BadInput, match="give 1 to 256"):
        tops_of_few(values, 257)
    assert share_found([HeadSet("L0H0")], HeadSet("L0H0 L1H0")).tolist() == [0.5]


def test_the_commands_default_is_enough_in_every_committed_curve():
    """`corelib score` reads as many samples as the rule asks for, which was written before a curve was measured."""
    import inspect

    from corelib.cli.score import score

    curves = [
        atlas.sample_curve(model, domain) for model in ("bridge", "mini-s") for domain in atlas.results("curves", model)
    ]
    assert enough_samples(curves) == inspect.signature(score).parameters["samples"].default == 128


def test_unusual_samples_are_unusual_in_one_way_only(vlm):
    usual, crowded = (task("scenes", objects=count) for count in (12, 24))
    scores = atlas.cell("mini-s", "scenes").scores()
    found = vary(vlm, scores, crowded.draw("select", samples=8), crowded.draw("test", samples=16, questions=4))
    assert found.old == scores.top() and found.task.difficulty == {"objects": 24} and 0 <= found.moved.value <= 1
    plain, worded = usual.sample("test", 0, 0), task("scenes", wording="which").sample("test", 0, 0)
    assert worded.question == reworded(plain.question, "which") and worded.answer == plain.answer
    assert worded.images[0].tobytes() == plain.images[0].tobytes()
    with pytest.raises(UnknownName, match="wording"):
        task("scenes", wording="who").sample("test", 0, 0)
    with pytest.raises(BadInput, match="pictures at 1"):
        task("scenes", wording="which", pictures=2).sample("test", 0, 0)
    mine, other = (task("documents", faces=faces).sample("test", 0, 0) for faces in (("cmr10",), ("cmtt10",)))
    assert mine.answer == other.answer and mine.images[0].tobytes() != other.images[0].tobytes()
    with pytest.raises(UnknownName, match="font"):
        task("documents", faces=("Comic",)).sample("test", 0, 0)


def test_scores_of_every_sample_are_those_of_the_cell():
    for model in ("bridge", "mini-m", "mini-s"):
        for domain in RETRIEVING:
            values = atlas.sample_scores(model, domain)
            np.testing.assert_allclose(values.mean(0), np.asarray(atlas.cell(model, domain).scores()), atol=2e-4)
            norms = atlas.sample_scores(model, domain, "answer/mean/output_norm").mean(0)
            stored = np.asarray(atlas.cell(model, domain).scores("answer/mean/output_norm"))
            np.testing.assert_allclose(norms, stored, rtol=2e-3)
    with pytest.raises(UnknownName, match="lift"):
        atlas.sample_scores("mini-s", "scenes", "answer/mean/lift")


def test_head_outputs_of_another_prompt_are_put_where_they_stood(vlm, draw):
    """A replacement is laid out by position, also where a question is read again behind its picture."""
    from corelib.replay.from_question import replay_from_question

    own, other = vlm.encode([draw[0]]), vlm.encode([draw[1]])
    with head_outputs(vlm.model, [0]) as there:
        vlm.model(**other.inputs, use_cache=False)
    rows = own.after_image
    again = replay_from_question(vlm, own)
    with ablate(vlm.model, "L0H4", replacement=there, rows=rows):
        torch.testing.assert_close(again().logprob, vlm.answer(own).logprob.cpu(), rtol=1e-4, atol=1e-5)
