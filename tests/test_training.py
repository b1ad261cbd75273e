"""Training: a run that was killed goes on as if nothing had happened; the curriculum climbs; recipes are checked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from corelib.core import model_folder
from corelib.core.errors import BadInput, BadResults, CannotWrite, UnknownName
from corelib.experiments.formation import Formation, log_scores, turning_points
from corelib.mini.architecture import SIZES, build_mini
from corelib.mini.processing import MiniProcessor
from corelib.mini.vocabulary import build_tokenizer
from corelib.models.load import load
from corelib.tasks import TASKS, task
from corelib.training import run
from corelib.training.batches import ANSWER, CAPTION, TrainingBatch, pack
from corelib.training.build_trainable import build_trainable
from corelib.training.curriculum import Curriculum, Rung, Stage
from corelib.training.parallel import contribute
from corelib.training.recipe import SNAPSHOTS, Recipe
from corelib.training.run import ship, train
from corelib.training.stages import EVERYTHING, FINDING, MINI, PLACING, POLISHING, RELATING, SEEING
from corelib.training.state import read_log, write_log
from corelib.training.tower_supervision import FACTS, directions, facts, label, state_facts
from corelib.training.trainer import Trainer

TINY = Recipe(
    processes=1,
    steps=4,
    warmup_steps=2,
    decay_steps=2,
    batch_scale=0.04,
    checkpoint_every=2,
    evaluate_every=50,
    evaluate_samples=2,
)


@pytest.fixture
def few(monkeypatch):
    """A run logs the scores of its heads on so few samples that it costs nothing."""
    monkeypatch.setattr(run, "log_scores", partial(log_scores, samples=2))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The folder of a run that stopped after one step. Tests copy it."""
    folder = tmp_path_factory.mktemp("runs") / "begun"
    Trainer(TINY, folder).run(until=1)
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a whole run, without a stop. Tests read it, and leave it as it is."""
    folder = tmp_path_factory.mktemp("runs") / "straight"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "log_scores", partial(log_scores, samples=2))
        assert train(TINY, folder) == folder / "model"
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_a_packed_batch_teaches_answers_and_captions(name):
    processor = MiniProcessor(build_tokenizer())
    work = task(name)
    drawn = [work.draw_picture("train", 0, index) for index in range(3)]
    batch = pack(processor, work, drawn, 2)
    tokenizer = processor.tokenizer
    for row, role, (picture, _) in zip(batch.labels, batch.roles, drawn, strict=True):
        captions = tokenizer.decode(row[role == CAPTION], skip_special_tokens=True)
        assert captions == " ".join(tokenizer.tokenize(picture.caption[1]))
        answers = "".join(tokenizer.convert_ids_to_tokens(row[role == ANSWER])).split("<|im_end|>")[:-1]
        assert len(answers) == 2 and set(answers) <= {question.answer for question in picture.questions}


def test_a_batch_without_questions_is_scored_by_its_captions():
    processor = MiniProcessor(build_tokenizer())
    work = task("scenes", objects=2)
    batch = pack(processor, work, [work.draw_picture("train", 0, 0)], 0)
    assert ANSWER not in batch.roles and CAPTION in batch.roles
    perfect = torch.nn.functional.one_hot(batch.labels.roll(-1, 1), len(processor.tokenizer)) * 100.0
    loss, accuracy = batch.loss(perfect[:, :-1][batch.learned], caption_weight=1.0)
    assert loss.item() == pytest.approx(0, abs=1e-5) and accuracy == 1
    told = (batch.roles == CAPTION) & (batch.labels != batch.end)
    row, last = told.nonzero()[-1].tolist()
    perfect[row, last - 1] = 0  # one caption token wrong: the first word of the vocabulary is guessed
    assert batch.loss(perfect[:, :-1][batch.learned], caption_weight=1.0)[1] == pytest.approx(1 - 1 / told.sum().item())


def test_turns_can_be_read_apart():
    """▦ ▦ | a 1 | b 2: each turn sees the picture and itself, and stands right behind the picture."""
    none = torch.zeros(1, 7, dtype=torch.long)
    batch = TrainingBatch({"input_ids": none}, none, torch.tensor([[-1, 0, 0, 1, 1, 2, 2]]), end=0)
    apart = batch.apart()
    sees = [
        [1, 0, 0, 0, 0, 0, 0],  # padding sees padding: no row may see nothing
        [0, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
        [0, 1, 1, 0, 0, 1, 1],
    ]
    assert ((apart["attention_mask"][0, 0] == 0) == torch.tensor(sees).bool()).all()
    assert apart["position_ids"].tolist() == [[0, 0, 1, 2, 3, 2, 3]]


@pytest.mark.parametrize("name", TASKS)
def test_every_token_belongs_to_a_turn(name):
    processor, work = MiniProcessor(build_tokenizer()), task(name)
    batch = pack(processor, work, [work.draw_picture("train", 0, index) for index in range(3)], 2)
    assert ((batch.turns == -1) == (batch.inputs["attention_mask"] == 0)).all()
    assert (batch.turns[batch.roles > 0] > 0).all()
    closing = (batch.labels == batch.end) & (batch.roles > 0)
    assert (batch.turns.diff(dim=1)[closing[:, :-1]] == 1).all()  # a turn ends where an answer does


def test_a_mastered_task_rests():
    ladders = {name: (Rung(difficulty={}, pictures=1, questions=1),) for name in ("needle", "arithmetic")}
    for rests, expected in ((True, 0.25), (False, 1.0)):
        curriculum = Curriculum(0.8, stages=(Stage(ladders, rests=rests),), running={"needle": 0.99, "arithmetic": 0.5})
        chosen = [curriculum.choose(np.random.default_rng(step)) for step in range(400)]
        assert all("arithmetic" in one for one in chosen)
        assert np.mean(["needle" in one for one in chosen]) == pytest.approx(expected, abs=0.08)
    every = Curriculum(0.8, stages=(Stage(ladders, rests=True),), running={"needle": 0.99, "arithmetic": 0.99})
    assert all(every.choose(np.random.default_rng(step)) for step in range(50))  # a step always has something to do
    aimed = Curriculum(0.8, stages=(Stage(ladders, goal=("needle",), rests=True),))
    assert aimed.rests("arithmetic") and not aimed.rests("needle")  # what is not the goal is only kept in mind


def test_a_stage_may_ask_for_less():
    ladders = {"needle": tuple(Rung(difficulty={"entries": n}, pictures=1, questions=1) for n in (2, 8))}
    for enough, climbs in ((None, False), (0.6, True)):
        curriculum = Curriculum(0.8, stages=(Stage(ladders, enough=enough),))
        for _ in range(60):
            curriculum.learn("needle", 0, 0.7)
        assert (curriculum.rung["needle"] == 1) == climbs


def test_a_batch_can_do_without_captions():
    processor, work = MiniProcessor(build_tokenizer()), task("scenes", objects=4)
    drawn = [work.draw_picture("train", 0, 0)]
    with_them, without = (
        pack(processor, work, drawn, 2),
        pack(processor, work, [work.draw_picture("train", 0, 0)], 2, False),
    )
    assert CAPTION in with_them.roles and CAPTION not in without.roles
    assert (without.roles == ANSWER).sum() == (with_them.roles == ANSWER).sum()


def test_the_curriculum_climbs_and_remembers():
    curriculum = Curriculum(0.8, MINI)
    for _ in range(60):
        curriculum.learn("scenes", curriculum.rung["scenes"], 1.0)
    top = len(SEEING.ladders["scenes"]) - 1
    assert curriculum.rung == {"scenes": top, "documents": 0}
    curriculum.learn("documents", 1, 1.0)  # a rung that is not the current one teaches nothing about it
    assert curriculum.running["documents"] == 0
    chosen = [curriculum.choose(np.random.default_rng(k))["scenes"] for k in range(200)]
    assert 0.6 < chosen.count(top) / 200 < 0.9 and max(chosen) == top


def _climb(curriculum, *names):
    for _ in range(200):
        for name in names:
            curriculum.learn(name, curriculum.rung[name], 1.0)


def test_the_next_stage_begins_when_the_goal_is_reached():
    curriculum = Curriculum(0.8, MINI)
    _climb(curriculum, "scenes")
    assert curriculum.advance() is None  # documents have not climbed
    _climb(curriculum, "documents")
    assert curriculum.advance() is PLACING and set(curriculum.rung.values()) == {0}
    for stage, following in pairwise((PLACING, POLISHING, FINDING, RELATING)):  # these have their time
        assert [curriculum.advance() for _ in range(stage.steps - 1)] == [None] * (stage.steps - 1)
        assert curriculum.advance() is following
    assert curriculum.advance() is None
    _climb(curriculum, *RELATING.goal)
    assert curriculum.advance() is EVERYTHING and set(curriculum.rung) == set(TASKS)
    _climb(curriculum, *TASKS)
    assert curriculum.rung == {name: len(ladder) - 1 for name, ladder in EVERYTHING.ladders.items()}
    assert curriculum.advance() is None  # there is nothing after it


def test_every_task_is_trained_to_its_default_difficulty_or_beyond():
    assert MINI[-1] is EVERYTHING and set(EVERYTHING.ladders) == set(TASKS)
    for name, ladder in EVERYTHING.ladders.items():
        for field, value in ladder[-1].difficulty.items():
            assert value >= getattr(task(name), field), (name, field)


def test_a_new_language_model_keeps_the_tower_and_survives_a_restart(tmp_path):
    trainer = Trainer(TINY, tmp_path)
    trainer.run(until=2)
    eyes = trainer.model.model.visual.patch_embed.proj.weight.clone()
    trainer.renew_language()
    trainer.save()
    again = Trainer(TINY, tmp_path)
    fresh = build_mini(SIZES[TINY.size], TINY.seed).model
    torch.testing.assert_close(again.model.model.visual.patch_embed.proj.weight, eyes.half().float(), atol=0, rtol=0)
    assert not torch.equal(eyes.float(), fresh.visual.patch_embed.proj.weight)
    for one, two in zip(again.model.model.language_model.parameters(), fresh.language_model.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert again.began == 2 and again.recipe.rate(2, again.began) < again.recipe.rate(2)
    again.run(until=3)


def test_the_stage_survives_a_restart(tmp_path):
    trainer = Trainer(TINY, tmp_path)
    tasks, stage = RELATING.ladders, MINI.index(RELATING)
    trainer.curriculum = Curriculum(TINY.promote_at, MINI, stage, taken=7)
    trainer.curriculum.rung["documents"] = 1
    trainer.run(until=1)
    again = Trainer(TINY, tmp_path).curriculum
    assert again.ladders is tasks and again.rung["documents"] == 1 and again.running == trainer.curriculum.running
    assert again.taken == 8


def test_relations_come_side_by_side():
    asked = [rung.difficulty["relations"] for rung in RELATING.ladders["scenes"]]
    assert [len(names) for names in asked] == [1, 2, 1, 2, 4] and asked[-1] == task("scenes").relations
    picture, _ = task("scenes", relations=asked[0]).draw_picture("train", 0, 0)
    whole, _ = task("scenes").draw_picture("train", 0, 0)
    mine = [q for q in whole.questions if q.kind == "attribute" or asked[0][0] in q.text]
    assert list(picture.questions) == mine  # the rest is as it was, distractors too
    with pytest.raises(UnknownName, match="relation"):
        task("scenes", relations=("beside",)).draw_picture("train", 0, 0)


def test_a_cooling_stage_ends_cold():
    stage = MINI.index(POLISHING)
    assert [Curriculum(0.8, MINI, stage, {}, {}, taken=k).lr_factor for k in (0, POLISHING.steps // 2)] == [1.0, 0.5]
    assert Curriculum(0.8, MINI, MINI.index(PLACING), {}, {}, taken=PLACING.steps - 1).lr_factor == 1.0
    with pytest.raises(BadInput, match="number of its steps"):
        replace(POLISHING, steps=None)


def test_every_token_states_the_questions_it_answers():
    """Facts stand where the evidence is, and only there; a tower that states them exactly has nothing to learn."""
    picture, _ = task("scenes", objects=9, rows=3, columns=3).draw_picture("train", 0, 0)
    labelled = label([picture], build_trainable(TINY).family.grid)
    assert labelled.shape == (9, len(FACTS))
    for cell, holds in enumerate(labelled):  # a full grid: one object a token, in raster order
        x, y = 32 * (cell % 3) + 16, 32 * (cell // 3) + 16
        here = [q for q in picture.questions if (b := q.evidence[0]).x0 < x < b.x1 and b.y0 < y < b.y1]
        assert {FACTS[k] for k in holds.nonzero().flatten()} == {fact for q in here for fact in facts(q)}
        sides = {fact.split()[0] for q in here for fact in facts(q) if q.kind == "relation"} - {"digit"}
        assert len(sides) == 2 + (x == 48) + (y == 48)

    known = labelled.float() @ directions(128)[: len(FACTS)]
    known = torch.nn.functional.rms_norm(known, (128,))
    loss, accuracy = state_facts([known, known], labelled)
    assert accuracy == 1 and loss < 2
    worse, accuracy = state_facts([known.roll(1, 0)] * 2, labelled)
    assert accuracy < 0.2 and worse > 10 * loss


def test_pages_and_frames_are_labelled_each_for_itself():
    page, _ = task("documents").draw_picture("train", 0, 0)
    clip, _ = task("video", frames=2).draw_picture("train", 0, 0)
    labelled = label([page, clip], build_trainable(TINY).family.grid)
    parts = labelled.split([48, 48, 9, 9])
    told = [{FACTS[k].split()[0] for k in part.any(0).nonzero().flatten()} for part in parts]
    assert told == [{"field", "digit"}] * 2 + [{"on", "digit"}] * 2


def test_the_tower_learns_alone(tmp_path):
    trainer = Trainer(TINY, tmp_path)
    stage = MINI.index(PLACING)
    trainer.curriculum = Curriculum(0.8, MINI, stage)
    trainer.renew_language()
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.run(until=2)
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(".visual." in name for name in moved)


def learned(folder):
    """The log of a run, but for its seconds, and for the accuracies at a stop."""
    told = [dict(entry) for entry in read_log(folder)]
    for entry in told:
        entry.pop("seconds")
        entry.pop("validate", None)
    return told


def test_resume_is_exact(straight, few, tmp_path):
    train(TINY, tmp_path, until=3)  # stops after a checkpoint at 2 and one at 3
    train(TINY, tmp_path)
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (straight, tmp_path))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=0, rtol=0, msg=name)
    assert [entry["step"] for entry in learned(straight)] == [0, 1, 2, 3]
    assert learned(tmp_path) == learned(straight)
    snapshots = {int(path.stem) for path in (straight / "snapshots").iterdir()}
    assert snapshots == {*(step for step in SNAPSHOTS if step <= TINY.steps), TINY.steps}


def test_steps_after_the_last_checkpoint_are_done_again(straight, tmp_path):
    trainer = Trainer(TINY, tmp_path)
    trainer.run(until=2)
    trainer.advance()  # killed here: step 2 is done but not saved
    again = Trainer(TINY, tmp_path)
    assert again.step == 2
    again.run()
    kept = load_file(straight / f"state-{TINY.steps:06d}.safetensors")
    for name, parameter in again.trained.items():
        torch.testing.assert_close(parameter.detach(), kept[f"model.{name}"], atol=0, rtol=0, msg=name)


def test_another_recipe_may_not_go_on_with_a_run(tmp_path):
    Trainer(TINY, tmp_path).run(until=2)
    with pytest.raises(BadResults, match="learning_rate"):
        Trainer(replace(TINY, learning_rate=0.5), tmp_path)
    assert Trainer(replace(TINY, steps=9), tmp_path).step == 2  # a longer run is the same run


def test_head_scores_are_logged_at_every_snapshot(straight, tmp_path):
    folder = shutil.copytree(straight, tmp_path / "run")
    table = load_file(folder / "formation.safetensors")
    steps = table["steps"].tolist()
    assert steps == sorted({*(step for step in SNAPSHOTS if step <= TINY.steps), TINY.steps})
    assert table["scenes/answer/mean/raw"].shape == (len(steps), 6, 8)
    facts = json.loads((folder / "formation.json").read_text())
    assert facts["task"]["split"] == "select" and facts["steps"] == steps
    assert facts["model"]["sha256"]
    before = (folder / "formation.safetensors").read_bytes()
    log_scores(folder / "snapshots", load(folder / "model"), folder / "formation.safetensors")
    assert (folder / "formation.safetensors").read_bytes() == before


def test_snapshots_are_told_apart_in_half_precision(tmp_path):
    """Autocast keeps the weights that it has cast: the second snapshot must not be scored with the first one's."""
    vlm, home = load("mini-s"), model_folder.bundled_folder("mini-s")
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    shutil.copy(model_folder.stage_file(home, "before"), snapshots / "000001.safetensors")
    shutil.copy(home / model_folder.WEIGHTS, snapshots / "000002.safetensors")
    with torch.autocast("cpu", torch.bfloat16):
        log_scores(snapshots, vlm, tmp_path / "formation.safetensors", samples=4, domains=("scenes",))
    table = load_file(tmp_path / "formation.safetensors")
    early, late = table["scenes/logprob"].tolist()
    assert early < -2 and late > -0.5


def test_a_step_computes_with_the_weights_of_the_last_one_inside_any_autocast(tmp_path):
    """Autocast keeps the weights that it has cast until its outermost context is left: a run inside one would go on
    with the weights of its first step."""
    recipe = replace(TINY, evaluate_samples=0, steps=3)
    with torch.autocast("cpu", torch.bfloat16):
        around = Trainer(recipe, tmp_path / "around")
        around.run(until=3)
    alone = Trainer(recipe, tmp_path / "alone")
    for step in (1, 2, 3):
        with torch.autocast("cpu", torch.bfloat16):
            alone.run(until=step)
    for name, one in around.trained.items():
        assert torch.equal(one, alone.trained[name]), name


def test_a_shipped_run_keeps_the_turn_of_its_training(straight, few, tmp_path, monkeypatch):
    folder, steps = shutil.copytree(straight, tmp_path / "run"), TINY.steps + 1
    train(replace(TINY, steps=steps), folder)  # a longer run is the same run
    table = load_file(folder / "formation.safetensors")
    assert table["steps"].tolist() == [0, TINY.steps, steps]
    table["scenes/accuracy"] = torch.tensor([0.1, 0.5, 0.9]).half()
    save_file(table, folder / "formation.safetensors")
    monkeypatch.setattr(model_folder, "PACKAGE", tmp_path / "package")
    shipped = ship(folder, "mini-s")
    found = {name: stage["step"] for name, stage in model_folder.stages(shipped).items()}
    assert found == {"before": 0, "at": TINY.steps, "after": steps}
    assert load(shipped, checkpoint="before").sha256 != load(shipped).sha256


@pytest.mark.parametrize("name", ["bridge", "mini-m", "mini-s-seed1"])
def test_other_shipped_models_keep_no_checkpoints(tmp_path, monkeypatch, name):
    """Three of them take more room than the model itself."""
    for file in ("model/config.json", "formation.safetensors", "formation.json"):
        (tmp_path / "run" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / file).write_text("{}")
    monkeypatch.setattr(model_folder, "PACKAGE", tmp_path / "package")
    folder = ship(tmp_path / "run", name)
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"config.json", "recipe.toml", "formation.safetensors", "formation.json"}


def test_a_run_that_learned_nothing_has_no_turning_points():
    with pytest.raises(BadResults, match=r"from 0.30 to 0.10 over 3 snapshots"):
        turning_points(torch.tensor([0.3, 0.2, 0.1]))


def test_recipes_are_checked(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("steps = 5\nlearning_rats = 1\n")
    with pytest.raises(UnknownName, match="did you mean 'learning_rate'"):
        Recipe.load(path)
    path.write_text("steps = ")
    with pytest.raises(BadInput, match="cannot read the recipe"):
        Recipe.load(path)
    with pytest.raises(BadInput, match="steps must be 1 or more"):
        Recipe(steps=0)
    with pytest.raises(BadInput, match="fast is for mini models"):
        Recipe(size="bridge", fast=True)
    for size, other in (("bridge", "mini-s"), ("mini-s", "bridge")):
        with pytest.raises(BadInput, match="goes on from a model of its kind"):
            Recipe(size=size, begins_with=other)
    with pytest.raises(BadInput, match="renewed is for a bridge"):
        Recipe(size="bridge", renewed=True)
    with pytest.raises(BadInput, match="unseeing names heads of the bridge"):
        Recipe(unseeing="L0H1")
    with pytest.raises(BadInput, match="is not a head"):
        Recipe(size="bridge", unseeing="L0")
    with pytest.raises(UnknownName, match="curriculum"):
        Trainer(replace(TINY, curriculum="log"), tmp_path / "run")
    with pytest.raises(BadInput, match="batch_scale must be above 0"):
        Recipe(batch_scale=0)
    with pytest.raises(UnknownName, match="size"):
        Recipe(size="mini-xxl")
    path.write_text("steps = 7\nbatch_scale = 0.5\n")
    assert Recipe.load(path).steps == 7
    with pytest.raises(BadInput, match="until"):
        train(TINY, tmp_path / "run", until=0)
    with pytest.raises(BadInput, match="is not a training run"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('steps = "many"', "steps is 'many': give a whole number"), ("steps = 2.5", "steps is 2.5: give a whole"),
        ("steps = true", "steps is True"), ("learning_rate = nan", "learning_rate is nan: give a number"),
        ("learning_rate = inf", "is inf"), ("weight_decay = -inf", "is -inf"), ("fast = 1", "fast is 1: give true or"),
        ("size = 7", "size is 7: give a text"), ("dense = [1]", r"dense is \[1\]"), ("study = 3", "give a table"),
        ("decay_steps = -5", "decay_steps must be 0 or more"), ("seed = -1", "seed must be 0 or more"),
        ("learning_rate = -1e-3", "learning_rate must be 0 or more"), ("clip = 0", "clip must be above 0"),
        ("processes = 1000000", "processes must be 64 or fewer"), ("promote_at = 0.0", "promote_at must be above 0"),
        ("seed = 1" + "0" * 400, "seed is 1000"),
    ],
)  # fmt: skip
def test_an_entry_of_another_kind_is_named(tmp_path, line, told):
    (tmp_path / "recipe.toml").write_text(line + "\n")
    with pytest.raises(BadInput, match=told):
        Recipe.load(tmp_path / "recipe.toml")


def test_a_recipe_that_cannot_be_read_is_one_line(tmp_path, run):
    (tmp_path / "latin.toml").write_bytes('size = "mini-é"'.encode("latin-1"))
    for name in (tmp_path / "latin.toml", "a" * 300, "none.toml", tmp_path):
        done = run("train", name, "--out", tmp_path / "run")
        assert done.returncode == 2 and done.stderr.startswith("corelib: cannot read the recipe"), done.stderr
        assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["zzz", "meta", "cuda:99"])
def test_a_device_that_is_not_there_begins_no_run(tmp_path, run, device):
    done = run("train", "mini-s", "--out", tmp_path / "run", "--device", device)
    assert done.returncode == 2 and "device" in done.stderr and not (tmp_path / "run").exists()


def broken(folder, kind):
    """Damage the state of a run."""
    state, (tensors,) = folder / "state.json", folder.glob("state-*.safetensors")
    told = json.loads(state.read_text())
    if kind == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-7])
    elif kind == "flipped":
        content = bytearray(tensors.read_bytes())
        content[-3] ^= 4
        tensors.write_bytes(content)
    elif kind == "gone":
        tensors.unlink()
    elif kind == "few":
        whole = load_file(tensors)
        whole.pop(next(name for name in whole if name.startswith("model.")))
        save_file(whole, tensors)
    elif kind == "shapes":
        save_file({name: value.reshape(-1)[:1] for name, value in load_file(tensors).items()}, tensors)
    elif kind == "moments":
        save_file({k: v for k, v in load_file(tensors).items() if not k.startswith("optimiser.exp_avg.")}, tensors)
    elif kind == "short":
        state.write_text(state.read_text()[:50])
    elif kind == "key":
        state.write_text(json.dumps({name: value for name, value in told.items() if name != "rung"}))
    elif kind == "type":
        state.write_text(json.dumps({**told, "step": "one"}))
    elif kind == "stage":
        state.write_text(json.dumps({**told, "stage": 99}))
    elif kind == "rung":
        state.write_text(json.dumps({**told, "rung": dict.fromkeys(told["rung"], 99)}))
    elif kind == "log":
        (folder / "log.jsonl").write_text("[]\n" + (folder / "log.jsonl").read_text())


KINDS = ("cut", "flipped", "gone", "few", "shapes", "moments", "short", "key", "type", "stage", "rung", "log")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_run_does_not_go_on(begun, tmp_path, kind):
    folder = shutil.copytree(begun, tmp_path / "run")
    broken(folder, kind)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises((BadResults, BadInput)):
        Trainer(TINY, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_torn_last_line_of_the_log_is_none(begun, tmp_path):
    folder = shutil.copytree(begun, tmp_path / "run")
    whole = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_bytes(whole.encode() + '{"step": 1, "stage": "é'.encode()[:-1])
    assert len(read_log(folder)) == 1
    assert Trainer(TINY, folder).step == 1 and (folder / "log.jsonl").read_text() == whole


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_its_log_anew(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 0}\n{"step": 1}\n')
    Trainer(TINY, tmp_path)
    assert read_log(tmp_path) == []


def test_a_full_disk_leaves_the_last_state(begun, tmp_path, at_most):
    folder = shutil.copytree(begun, tmp_path / "run")
    trainer = Trainer(TINY, folder)
    state = {path.name: path.read_bytes() for path in folder.glob("state*")}
    trainer.step = 2
    with at_most(100_000):  # bytes in a file
        for write in (trainer.save, trainer.snapshot):
            with pytest.raises(CannotWrite, match="cannot write"):
                write()
        with pytest.raises(CannotWrite, match="cannot write"):
            write_log(folder, {"step": 2, "much": "x" * 200_000})
    assert {path.name: path.read_bytes() for path in folder.glob("state*")} == state
    assert not list(folder.glob("**/.*"))


def test_two_processes_do_the_work_of_one(tmp_path):
    """The shares of a batch add up to its gradient, and a team of two trains like one process."""
    recipe = replace(TINY, batch_scale=0.25, steps=2)
    rungs = {"needle": EVERYTHING.ladders["needle"][1]}
    gradients = []
    for processes in (1, 2):
        plan = replace(recipe, processes=processes)
        pupil = build_trainable(plan)
        for share in range(processes):
            contribute(pupil, plan, 3, rungs, EVERYTHING, share)
        gradients.append([p.grad for p in pupil.model.model.language_model.parameters()])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-3)
    logs = []
    for processes in (1, 2):
        trainer = Trainer(replace(recipe, processes=processes), tmp_path / str(processes))
        trainer.run()
        assert trainer.team is None
        logs.append([entry["documents"]["loss"] for entry in read_log(tmp_path / str(processes))])
    assert logs[0] == pytest.approx(logs[1], abs=1e-3)


def test_a_run_may_go_on_from_an_embedded_model(vlm, tmp_path):
    """Its weights are those of the model; its tower stays; and its sequences grow."""
    recipe = replace(Recipe.load("mini-s-long"), processes=1, steps=1, evaluate_samples=2, batch_scale=0.25)
    trainer = Trainer(recipe, tmp_path / "run")
    theirs = dict(vlm.model.named_parameters())
    assert all(torch.equal(mine, theirs[name]) for name, mine in trainer.trained.items())
    entry = trainer.advance()
    assert {"documents", "scenes", "video", "needle"} <= entry.keys()
    moved = {name for name, mine in trainer.trained.items() if not torch.equal(mine, theirs[name])}
    assert moved and all(".language_model." in name for name in moved)
    top = {name: ladder[-1].difficulty for name, ladder in trainer.curriculum.ladders.items()}
    for name in ("documents", "scenes"):
        sample = task(name, **top[name]).sample("select", 0, 0)
        assert 4000 <= int(vlm.encode([sample]).visual.sum()) <= 4200


def test_a_fast_recipe_computes_the_same_gradient_in_mixed_precision():
    rungs = {"needle": EVERYTHING.ladders["needle"][1]}
    losses, gradients = [], []
    for fast in (False, True):
        recipe = replace(TINY, batch_scale=0.25, fast=fast)
        pupil = build_trainable(recipe)
        layers = pupil.model.model.language_model.layers
        assert all((layer._compiled_call_impl is not None) == fast for layer in layers)
        with torch.compiler.set_stance("force_eager"):  # what the compiler makes of them is its own affair
            losses.append(contribute(pupil, recipe, 3, rungs, EVERYTHING, 0)["needle"][0])
        gradients.append(torch.cat([p.grad.flatten() for p in pupil.model.model.language_model.parameters()]))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_a_formation_can_be_read_back():
    found = Formation.load(model_folder.bundled_folder("mini-s"))
    assert found.scores("scenes").shape == (len(found.steps), 6, 8) and found.accuracy("video")[-1] > 0.9
    with pytest.raises(UnknownName, match="table of this formation"):
        found.scores("needle")
    with pytest.raises(BadResults, match="cannot read"):
        Formation.load("nowhere")
