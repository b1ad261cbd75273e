"""Results as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from corelib.cli.console import out

if TYPE_CHECKING:
    from corelib.benchmarks.speed import Speed
    from corelib.core.head_scores import HeadScores
    from corelib.experiments.ablation_result import Ablation
    from corelib.experiments.redirection_result import Redirection


def show_scores(scores: HeadScores, count: int = 8) -> None:
    """The best heads of a ranking, with their intervals, and what the ranking is worth."""
    task, metric = scores.task, scores.metric
    name = f"{metric.quantity}, {metric.reduce} over {metric.rows} rows"
    title = f"{scores.model.name} on {task.domain}/{task.split}: {name}; {task.samples} samples"
    table = Table("rank", "head", "score", "95 % interval", title=title, title_justify="left")
    for rank, head in enumerate(scores.order()[:count], 1):
        one = scores.estimate(head)
        table.add_row(str(rank), str(head), f"{one.value:.3f}", f"{one.low:.3f} – {one.high:.3f}")
    out.print(table)
    facts = [] if task.accuracy is None else [f"accuracy {task.accuracy:.3f}"]
    if scores.chance is not None:
        facts.append(f"chance {scores.chance:.3f}")
    if scores.reliability is not None:
        both = 2 * scores.reliability.jaccard / (1 + scores.reliability.jaccard)  # |A ∩ B| / |A|, of two equal sets
        facts.append(f"split-half reliability {scores.reliability.whole:.3f}; halves share {both:.0%} of the top 5 %")
    if scores.model.reach is not None:
        counted = ", ".join(map(str, scores.layers))
        facts.append(f"only heads of layers {counted} count: the others see a window, and reach no far evidence")
    if facts:
        out.print("; ".join(facts), highlight=False)


def show_ablation(found: Ablation) -> None:
    """What is lost without the heads on top of a ranking, and how often others cost as much."""
    where = f"{found.model.name} on {found.task.domain}/{found.task.split}, {found.task.samples} samples"
    table = Table(
        "removed", "heads", "accuracy", "lost, 95 % interval", title=f"{where}: {found.mode}", title_justify="left"
    )
    table.add_row("nothing", "0", f"{found.base.accuracy:.3f}", "")
    for name, part in found.conditions.items():
        loss = part.loss.accuracy
        interval = f"{loss.value:+.3f} [{loss.low:+.3f}, {loss.high:+.3f}]"
        table.add_row(name, str(len(part.heads)), f"{part.accuracy:.3f}", interval)
    out.print(table)
    for name, null in found.null.items():
        out.print(
            f"{name.replace('_', '-')}: {'all ' * bool(null.complete)}{len(null.accuracy)} sets, mean accuracy "
            f"{sum(null.accuracy) / len(null.accuracy):.3f}; at least as much harm as the top: "
            f"{found.percentile[name].accuracy:.1%}{_power(len(null.accuracy))}",
            highlight=False,
        )
    if found.dose:
        for name, dose in vars(found.dose.d50).items():
            value = "not reached" if dose is None or dose.value is None else f"{dose.value:.1%}"
            out.print(f"D50, {name.replace('_', '-')}: {value}", highlight=False)


def show_redirection(found: Redirection) -> None:
    """Where the answers go when the gaze of heads is moved."""
    where = f"{found.model.name} on {found.task.domain}/{found.task.split}, {found.task.counted} questions"
    title = f"{where}: {found.strength}, rows: {found.rows}"
    table = Table("gaze moved of", "heads", "moved", "stayed", "neither", title=title, title_justify="left")
    named = {f"the top {found.ranking.fraction or 0:.0%}": found.core, "all others": found.complement}
    named |= {f"the first {name}": one for name, one in found.doses.items()}
    named |= {f"the top, {name}": one for name, one in found.other_strengths.items()}
    named |= {f"the top, rows: {name}": one for name, one in found.other_rows.items()}
    named |= {f"the top, {name}": one for name, one in found.specificity.items()}
    for name, one in named.items():
        table.add_row(name, str(len(one.heads)), str(one.moved), str(one.stayed), str(one.neither))
    out.print(table)
    if found.null is None:
        out.print("no set of other heads matches these by layer and key/value group: there is no disjoint control")
    else:
        null = found.null
        out.print(
            f"matched by layer and key/value group: {'all ' * null.complete}{len(null.sets)} sets, at most "
            f"{max(null.moved):.2f} moved; as many as the top: p = {null.p:.3f}{_power(len(null.sets))}",
            highlight=False,
        )


def _power(sets: int) -> str:
    """What so few control sets cannot decide."""
    from corelib.atlas.verdicts import ALPHA

    least = 1 / (1 + sets)
    return f" (undecided: {sets} sets allow no p below {least:.3f})" if least >= ALPHA else ""


def show_speed(found: Speed) -> None:
    """Dense against hybrid attention, by length."""
    facts = found.model
    title = (
        f"{facts.name}, {facts.weights} weights, {facts.measured_layers} of {facts.num_layers} layers, {facts.dtype}: "
        f"{len(found.dense)} heads dense, the others {found.window.width} keys and {found.window.sinks} sinks"
    )
    table = Table("tokens", "what", "dense", "hybrid", "ratio", "by counting", title=title, title_justify="left")
    several = len({row.backend for row in found.lengths}) > 1
    for row in found.lengths:
        tokens = f"{row.tokens}, {row.backend}" if several else str(row.tokens)
        for name in ("attention", "prefill", "first", "decode"):
            one = getattr(row, name)
            if one is not None:
                promised = "" if one.ideal is None else f"{one.ideal:.2f}×"
                times = (f"{each.seconds:.3f} s" for each in (one.dense, one.hybrid))
                table.add_row(tokens, name, *times, f"{one.speedup:.2f}×", promised)
        for name in ("memory", "cache"):
            sizes = getattr(row, name)
            if sizes.dense and sizes.hybrid:  # the system may not tell
                told = (f"{each / 2**20:.1f} MiB" for each in (sizes.dense, sizes.hybrid))
                table.add_row(tokens, name, *told, f"{sizes.dense / sizes.hybrid:.2f}×", "")
    out.print(table)
    pays = found.crossover()
    shortest, longest = min(row.tokens for row in found.lengths), max(row.tokens for row in found.lengths)
    if pays is None:
        out.print(f"windows do not pay at up to {longest} tokens here: dense prefill is faster", highlight=False)
    elif pays > shortest:
        out.print(f"windows pay from {pays} tokens on here: below, dense prefill is faster", highlight=False)
    if found.other_work is not None:
        out.print(str(found.other_work), highlight=False)
    if found.accuracy:
        kept = found.accuracy
        loss = kept.hybrid.loss
        out.print(
            f"accuracy: dense {kept.dense.accuracy:.3f}, hybrid {kept.hybrid.accuracy:.3f}; lost {loss.value:.3f} "
            f"[{loss.low:.3f}, {loss.high:.3f}], {kept.task.counted} questions out of the window's reach",
            highlight=False,
        )
