"""How heads form: the scores of all heads at log-spaced steps of a training run.

For each snapshot, each domain: mean RAM of every head, for every choice of query rows, reduction and variant, and
the accuracy, on the same pictures of the `select` split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from corelib.core.errors import BadResults, check_known
from corelib.core.progress import Progress, silent
from corelib.core.results import read_json, software, write_json, write_whole
from corelib.experiments.score_heads import measure_heads
from corelib.metrics.catalogue import PRIMARY, Metric
from corelib.models.vlm import VLM
from corelib.tasks import DOMAINS, task

SCHEMA = "corelib/formation/1"


def turning_points(accuracy: Float[Tensor, " snapshot"]) -> dict[str, int]:
    """The snapshots before, at and after the phase transition, by position (our definition).

    With accuracy rising from its first to its last value: `before` is the last snapshot that has made less than 10 %
    of the rise before `at`, the first to have made half of it; `after` is the first from there on with 90 %.

    Raises: BadResults if accuracy did not rise.

    >>> turning_points(torch.tensor([0.10, 0.12, 0.15, 0.60, 0.80, 0.93, 0.95]))
    {'before': 2, 'at': 3, 'after': 5}
    """
    rise = float(accuracy[-1] - accuracy[0])
    if not rise > 0:
        raise BadResults(
            f"accuracy goes from {accuracy[0]:.2f} to {accuracy[-1]:.2f} over {len(accuracy)} snapshots: "
            "only a run that learned has turning points"
        )
    risen = (accuracy - accuracy[0]) / rise
    at = int((risen >= 0.5).nonzero()[0])
    before = int((risen[:at] < 0.1).nonzero()[-1])
    after = at + int((risen[at:] >= 0.9).nonzero()[0])
    return {"before": before, "at": at, "after": after}


@dataclass(frozen=True)
class Formation:
    """The scores of all heads over a training run."""

    facts: dict[str, Any]  # model, task, software
    steps: tuple[int, ...]
    tables: dict[str, Tensor]

    @classmethod
    def load(cls, folder: str | Path) -> Formation:
        """What is kept beside a model, or in a finished run.

        Raises: BadResults if it cannot be read.
        """
        path = Path(folder) / "formation.safetensors"
        facts = read_json(path.with_suffix(".json"), SCHEMA)
        try:
            tables = load_file(path)
        except (OSError, SafetensorError) as error:
            raise BadResults(f"cannot read {path}: {error}") from error
        return cls(facts, tuple(tables.pop("steps").tolist()), {key: value.float() for key, value in tables.items()})

    def scores(self, domain: str, metric: Metric = PRIMARY) -> Float[Tensor, "step layer head"]:
        """The mean score of every head at every step."""
        return self._table(f"{domain}/{metric.key}")

    def accuracy(self, domain: str) -> Float[Tensor, " step"]:
        """The accuracy at every step."""
        return self._table(f"{domain}/accuracy")

    def _table(self, key: str) -> Tensor:
        return self.tables[check_known("table of this formation", key, tuple(self.tables))]


def score_model(vlm: VLM, *, samples: int, seed: int, domains: tuple[str, ...] = DOMAINS) -> dict[str, Tensor]:
    """`{domain}/{rows}/{reduction}/{variant}` → [layer, head], and `{domain}/accuracy` → a number."""
    training = vlm.model.training
    vlm.model.eval()
    scores: dict[str, Tensor] = {}
    for domain in domains:
        found = measure_heads(vlm, task(domain).draw("select", samples=samples, seed=seed), batch_size=64)
        assert found is not None  # one process has them all
        scores |= {f"{domain}/{key}": value.mean(0) for key, value in found.scores.items()}
        scores[f"{domain}/accuracy"] = torch.tensor(found.accuracy)
        scores[f"{domain}/logprob"] = found.logprob.mean()
    vlm.model.train(training)
    return scores


def log_scores(
    snapshots: Path,
    vlm: VLM,
    out: Path,
    *,
    samples: int = 96,
    seed: int = 0,
    domains: tuple[str, ...] = DOMAINS,
    progress: Progress = silent,
) -> Path:
    """Score every snapshot of a run (`000123.safetensors`, …) and write one compact file.

    `vlm` is the finished model; its weights are overwritten. `out` gets `steps` and one tensor a quantity,
    [step, layer, head]; `out` with `.json` says what it is. Snapshots that were scored before are not scored again.
    """
    paths = sorted(Path(snapshots).glob("*.safetensors"))
    kept = load_file(out) if out.exists() else {}
    done = kept.pop("steps").tolist() if kept else []
    rows = {step: {key: value[k] for key, value in kept.items()} for k, step in enumerate(done)}
    parameters = dict(vlm.model.named_parameters())
    for number, path in enumerate(paths):
        step = int(path.stem)
        if step not in rows:
            for name, tensor in load_file(path).items():
                parameters[name].data.copy_(tensor)
            torch.clear_autocast_cache()  # else the last snapshot's weights, already cast, would be used again
            rows[step] = score_model(vlm, samples=samples, seed=seed, domains=domains)
        progress(number + 1, len(paths))
    steps = sorted(rows)
    table = {key: torch.stack([rows[step][key].float() for step in steps]).half() for key in rows[steps[0]]}
    table["steps"] = torch.tensor(steps)
    write_whole(out, lambda beside: save_file(table, beside))
    write_json(
        out.with_suffix(".json"),
        {
            "schema": SCHEMA,
            "model": {"name": vlm.name, "sha256": vlm.sha256},
            "task": {"domains": domains, "split": "select", "seed": seed, "samples": samples},
            "steps": steps,
            "software": software(),
        },
    )
    return out
