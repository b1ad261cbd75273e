"""The kinds of committed results: a folder each, a file a model and name.

    cells/mini-s/scenes.json                  the scores of all heads
    ablations/mini-s/scenes.json              heads ranked in scenes, removed in scenes: the primary analysis
    ablations/mini-s/scenes-mean.json         the same heads, their output at its mean; also -resample, -knockout
    ablations/mini-s/scenes-on-needle.json    ranked in scenes, removed in another task; -on-arithmetic, where nothing
                                              is to be fetched
    effects/mini-s/scenes-validate.json       every head alone and in company, and what predicts it; also -test
    knockouts/mini-s/scenes.json              which looks the answer travels by
    redirections/mini-s/scenes.json           what the top heads look at is moved, and the answer with it; also
                                              scenes-on-video.json: ranked in scenes, tested in video; and
                                              video-frame.json: one kind of question, by its own ranking
    transfers/mini-s/video.json               heads ranked in every task, tested in video: what is lost without them,
                                              and what they keep alone
    reductions/mini-s/documents-validate.json    ways to read RAM over several tokens, compared; also -test
    hybrids/mini-s/scenes.json                few heads see everything, all others sinks and a window
    hybrids/mini-s-long/scenes.json           the same with thousands of visual tokens, in the model that learned them
    tradeoffs/mini-s-long/scenes.json         what is lost, and how much time is gained, under several windows
    inheritance/bridge/pictures.json          which heads learn to look, if others may not see the picture
    stories/bridge/documents-L24H4.json       where one head looks, what it writes, what goes wrong without it
    relays/bridge/scenes.json                 by which heads the answer's row reads what was fetched at another
    curves/bridge/scenes.json                 how much of the top heads few samples find, and of what they do
    gaze/bridge/scenes.json                   the gaze of every head moved alone, and which score predicts that
    decoys/bridge/scenes.json                 heads that look and say nothing: which scores take them for real
    rankings/bridge-long/documents-4k.json    the scores of all heads on long prompts
    trials/bridge-long/documents-4k-w256.json    what few dense heads keep, the others short-sighted
    rests/bridge-long/documents-2k.json       what the heads see that are not dense, taken apart and replaced
    choices/bridge-long/documents-1k.json     which heads should stay dense: rankings compared
    adaptations/mini-s-long/windows.json      a little training under windows, with other heads dense
    locating/bridge/documents.json            heads read as a pointer to the evidence
    written/bridge/documents.json             heads ranked at the right answers, and at what the model writes itself
    variations/bridge/scenes-which.json       the same heads with other words, fonts, backgrounds, or more things

What each of them holds is told by its class, in `KINDS`.
"""

from __future__ import annotations

from corelib.benchmarks.tradeoff import Tradeoff
from corelib.core.head_scores import HeadScores
from corelib.experiments.ablation_result import Ablation
from corelib.experiments.decoys import Decoys
from corelib.experiments.dense_choices import DenseChoices
from corelib.experiments.gaze_effects import GazeEffects
from corelib.experiments.head_effects import HeadEffects
from corelib.experiments.head_story_result import HeadStory
from corelib.experiments.hybrid import Hybrid
from corelib.experiments.inheritance_result import Inheritance
from corelib.experiments.knockout import PathKnockouts
from corelib.experiments.locating_result import Locating
from corelib.experiments.redirection_result import Redirection
from corelib.experiments.reductions_result import Reductions
from corelib.experiments.relays import Relays
from corelib.experiments.rest_result import Rests
from corelib.experiments.sample_curve import SampleCurve
from corelib.experiments.transfer import Transfer
from corelib.experiments.trial_result import Trial
from corelib.experiments.variation import Variation
from corelib.experiments.windowed_run import WindowAdaptation
from corelib.experiments.written_rows import WrittenRows

Causal = (
    Ablation
    | HeadEffects
    | PathKnockouts
    | Redirection
    | Transfer
    | Reductions
    | Hybrid
    | Tradeoff
    | Inheritance
    | HeadStory
    | Relays
    | SampleCurve
    | GazeEffects
    | Decoys
    | Variation
    | HeadScores
    | Trial
    | Rests
    | DenseChoices
    | WindowAdaptation
    | Locating
    | WrittenRows
)
KINDS: dict[str, type[Causal]] = {
    "ablations": Ablation,
    "effects": HeadEffects,
    "knockouts": PathKnockouts,
    "redirections": Redirection,
    "transfers": Transfer,
    "reductions": Reductions,
    "hybrids": Hybrid,
    "tradeoffs": Tradeoff,
    "inheritance": Inheritance,
    "stories": HeadStory,
    "relays": Relays,
    "curves": SampleCurve,
    "gaze": GazeEffects,
    "decoys": Decoys,
    "variations": Variation,
    "rankings": HeadScores,
    "trials": Trial,
    "rests": Rests,
    "choices": DenseChoices,
    "adaptations": WindowAdaptation,
    "locating": Locating,
    "written": WrittenRows,
}
