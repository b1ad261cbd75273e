"""Per-sample scores on disk: what an interrupted run resumes from, and what the bootstrap resamples."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corelib.core.checked_tensors import read_tensors, write_tensors
from corelib.core.distributed import sharing
from corelib.core.errors import BadInput, BadResults, CannotWrite
from corelib.core.progress import Progress, silent

WAIT_SECONDS = 1800  # seconds to wait for the next batch of another process


class SampleStore:
    """Tensors [sample, …] on disk, one shard a batch, each written whole.

    Every shard carries the run's `fingerprint` (model, task, seed, metric, …), so scores made under other settings are
    refused instead of mixed in. A damaged shard counts as not done, and is written over when its samples come again.

        store = SampleStore("runs/scenes", {"model": "mini-s", "seed": 0})
        store.add([0, 1], {"raw": scores})       # scores: [sample, layer, head]
        store.done                               # {0, 1}
        store.load()["raw"]                      # ordered by sample index
    """

    def __init__(self, path: str | Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self._shards: dict[Path, list[int]] = {}
        self._done: set[int] = set()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"cannot write {self.path}: {error.strerror}") from error
        self.refresh()

    def refresh(self) -> None:
        """Look for shards that other processes have written since.

        Raises: BadResults if a shard is of other settings, or no shard.
        """
        for shard in sorted(set(self.path.glob("*.safetensors")) - self._shards.keys()):
            try:
                tensors, said = read_tensors(shard)
            except BadResults:
                continue
            if "fingerprint" not in said or "index" not in tensors:
                raise BadResults(f"{shard} is no shard of a sample store: choose an empty folder")
            found, indices = json.loads(said["fingerprint"]), tensors["index"].tolist()
            if found != self.fingerprint:
                keys = found.keys() | self.fingerprint.keys()
                differ = sorted(key for key in keys if found.get(key) != self.fingerprint.get(key))
                raise BadResults(f"{self.path} holds scores of other settings ({', '.join(differ)}): use a new folder")
            self._enter(shard, indices)

    @property
    def done(self) -> frozenset[int]:
        return frozenset(self._done)

    def _enter(self, shard: Path, indices: list[int]) -> None:
        self._shards[shard] = indices
        self._done.update(indices)

    def add(self, indices: Iterable[int], tensors: dict[str, Tensor]) -> None:
        """Write one batch: every tensor has a first axis of samples.

        Raises: BadInput if a sample is stored already, or if a tensor has another first axis.
        """
        indices = [int(index) for index in indices]
        again = self._done.intersection(indices)
        if again or len(set(indices)) != len(indices) or not indices:
            raise BadInput(f"samples {sorted(again) or indices} are none, twice or already stored: add only new ones")
        wrong = {name: list(t.shape) for name, t in tensors.items() if not t.ndim or t.shape[0] != len(indices)}
        if wrong or not tensors or "index" in tensors:
            raise BadInput(f"give tensors [{len(indices)} samples, …] by name, none called 'index'; wrong: {wrong}")
        shard = self.path / f"{min(indices):08d}.safetensors"
        whole = {**tensors, "index": torch.tensor(indices)}
        write_tensors(shard, whole, {"fingerprint": json.dumps(self.fingerprint)})
        self._enter(shard, indices)

    def load(self) -> dict[str, Tensor]:
        """All samples in one tensor a name, ordered by index; the indices themselves are under `"index"`.

        Raises: BadResults if nothing is stored, if a shard was damaged since, or if shards hold different scores.
        """
        parts = [read_tensors(shard)[0] for shard in self._shards]
        if not parts:
            raise BadResults(f"{self.path} holds no sample yet")
        if any(part.keys() != parts[0].keys() for part in parts):
            raise BadResults(f"{self.path} holds shards with different scores: start again in an empty folder")
        order = torch.cat([part["index"] for part in parts]).argsort()
        return {name: torch.cat([part.pop(name) for part in parts])[order] for name in list(parts[0])}


Measure = Callable[[list[int]], dict[str, Tensor]]  # sample numbers → tensors with a first axis of samples
Batches = Callable[[list[int]], Iterable[list[int]]]  # all sample numbers → batches of them


def collect(
    measure: Measure,
    samples: int,
    batches: Batches,
    fingerprint: Mapping[str, Any],
    path: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Measure samples 0 … `samples` − 1, as `batches` divides them; all of them in one tensor a name, in order.

    With a `path`, every batch is stored as soon as it is done, and what is stored already is not measured again. Inside
    of `distributed.shared`, several processes divide the batches of one path among them, and each gets everything.

    Raises: BadResults if the others' samples do not come.
    """
    process = sharing() if path is not None else (0, 1)
    found = collect_share(measure, samples, batches, fingerprint, path, progress, process)
    if found is None:  # this is not the first process, and wants to read on
        store = SampleStore(path or "", fingerprint)
        _complete(store, samples, progress)
        found = {name: value[:samples] for name, value in store.load().items()}
    return found


def collect_share(
    measure: Measure,
    samples: int,
    batches: Batches,
    fingerprint: Mapping[str, Any],
    path: str | Path | None,
    progress: Progress,
    process: tuple[int, int],
) -> dict[str, Tensor] | None:
    """The same for one of several processes, `process` = (rank, world size), which take the batches in turn and store
    them at the same `path`. The first one waits for the others and gives everything; each other one does its part and
    gives None.

    Raises: BadInput if several processes have no path, BadResults if the others' samples do not come.
    """
    rank, count = process
    if count > 1 and path is None:
        raise BadInput(f"{count} processes need a store that they share: give a path")
    store = None if path is None else SampleStore(path, fingerprint)
    stored = frozenset() if store is None else store.done
    # Dealt from all samples, stored or not: a process that starts later must not deal otherwise.
    dealt = [[index for index in one if index not in stored] for one in batches(list(range(samples)))][rank::count]
    done, parts = len(stored.intersection(range(samples))), []
    progress(done, samples)
    for indices in filter(None, dealt):
        found = measure(indices)
        if store is None:
            parts.append({**found, "index": torch.tensor(indices)})
        else:
            store.add(indices, found)
        done += len(indices)
        progress(done, samples)
    if rank:
        return None  # and touch the store no more: the first process may clear it away
    if store is None:
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    else:
        _complete(store, samples, progress)
        whole = store.load()
    return {name: value[:samples] for name, value in whole.items()}


def _complete(kept: SampleStore, samples: int, progress: Progress) -> None:
    """Wait until the other processes have filled the store."""
    since, before = time.monotonic(), -1
    while (done := len(kept.done & set(range(samples)))) < samples:
        progress(done, samples)
        if done > before:
            since, before = time.monotonic(), done
        elif time.monotonic() - since > WAIT_SECONDS:
            raise BadResults(
                f"{samples - done} samples of other processes did not come within {WAIT_SECONDS} s: what is done is "
                f"kept in {kept.path}; start the same command again"
            )
        time.sleep(0.2)
        kept.refresh()


def in_batches(batch_size: int) -> Callable[[list[int]], Iterable[list[int]]]:
    """Batches of so many samples, one after the other.

    >>> list(in_batches(2)([0, 1, 4]))
    [[0, 1], [4]]
    """
    return lambda todo: (todo[start : start + batch_size] for start in range(0, len(todo), batch_size))
