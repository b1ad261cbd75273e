"""Names beside dots, none upon another."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from corelib.plots.style import INK

LIFTS = (3, -11, 15, -23)  # how far above its dot a name may stand, in points


def name_points(panel: Axes, points: Sequence[tuple[float, float, str]], size: float = 9.5) -> None:
    """Write a name beside each point (x, y, name), where no earlier name stands.

    The scales and limits of the panel must be set before.
    """
    inches = panel.figure.dpi_scale_trans.inverted()
    taken: list[tuple[float, float]] = []
    middle = sum(panel.transAxes.transform([(0, 0), (1, 0)])[:, 0]) / 2
    for x, y, name in sorted(points, key=lambda point: -point[0]):  # from the right, where there is least room
        place = panel.transData.transform((x, y))
        across, up = 72 * inches.transform(place)  # in points
        width = 0.65 * size * len(name)
        sides = (True, False) if place[0] > middle else (False, True)
        for left, lift in ((left, lift) for lift in LIFTS for left in sides):
            spot = (across + (-7 - width if left else 7), up + lift)
            if all(abs(spot[0] - one[0]) > width or abs(spot[1] - one[1]) > 1.3 * size for one in taken):
                break
        taken.append(spot)
        panel.annotate(
            name, (x, y), (-7 if left else 7, lift),
            textcoords="offset points", ha="right" if left else "left", fontsize=size, color=INK, zorder=5,
        )  # fmt: skip
