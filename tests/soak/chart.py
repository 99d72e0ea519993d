"""Samples as a picture: an SVG with a panel for each figure, over the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, TOP, GAP = 720, 120, 70, 40, 36
PANELS = {
    "rss": (
        "memory of the host process (MiB): as it is (blue), and after malloc_trim (orange)",
        ("rss", "kept"),
        2**20,
    ),
    "fds": ("descriptors of the host process", ("fds",), 1),
    "threads": ("threads of the host process", ("threads",), 1),
    "containers": ("containers on the engine, two of which wait", ("containers",), 1),
}
COLOURS = ("#4c78a8", "#f58518")


def svg(samples: Sequence[dict[str, float]], title: str) -> str:
    """The picture."""
    whole = TOP + len(PANELS) * (HEIGHT + GAP)
    last = max(one["seconds"] for one in samples) or 1
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{whole + 10}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{title}</text>',
    ]
    for number, (about, names, unit) in enumerate(PANELS.values()):
        top = TOP + number * (HEIGHT + GAP)
        most = 2 * math.ceil(max(one[name] / unit for one in samples for name in names) * 0.55 or 1)
        out.append(f'<text x="{LEFT}" y="{top + 12}">{about}</text>')
        for part in (0.0, 0.5, 1.0):
            y = top + 18 + HEIGHT * (1 - part)
            out.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * part:.0f}</text>')
        for name, colour in zip(names, COLOURS, strict=False):
            points = " ".join(
                f"{LEFT + WIDTH * one['seconds'] / last:.1f},{top + 18 + HEIGHT * (1 - one[name] / unit / most):.1f}"
                for one in samples
            )
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LEFT + WIDTH * part
        out.append(f'<text x="{x:.0f}" y="{whole}" text-anchor="middle">{last * part / 60:.1f} min</text>')
    return "\n".join([*out, "</svg>\n"])
