"""The rooms of the house and who imports whom, drawn from the imports: `python -m tests.house.picture` writes it anew.

Each room stands above all that it imports. Of the arrows those are drawn that no chain of others implies.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tests.house.count import ROOT, Source, arrows, sources

PICTURE: Final = ROOT / "docs" / "architecture.svg"
GROUND: Final = ("errors", "units", "records", "settings", "factors")
LEFT: Final = ("plots", "laws")  # beside the rooms of estimate; the others stand to the right
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 124, 36, 22, 48, 24
INK, FAINT, PAPER, BOX, FRAME = "#1f2933", "#8a97a6", "#ffffff", "#f3f6f9", "#e6edf5"

HEAD: Final = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    f'<path d="M0 0 8 4 0 8z" fill="{FAINT}"/></marker></defs>'
)


def rooms(found: list[Source]) -> dict[str, dict[str, int]]:
    """Room -> rooms that it imports -> how often."""
    found = [source for source in found if source.module not in ("lawfit", "lawfit.__main__")]
    between: dict[str, dict[str, int]] = {room_of(source): {} for source in found}
    for (one, other), count in arrows(found, room_of).items():
        between[one][other] = count
    return between


def room_of(source: Source) -> str:
    """``lawfit/estimate/loss/law.py`` -> ``estimate/loss``; what lies below `api` or `train` is a part of it."""
    if source.room == "lawfit":
        stem = source.module.rpartition(".")[2]
        return "ground floor" if stem in GROUND else stem
    room = source.room.removeprefix("lawfit/")
    return room if room.startswith("estimate") else room.partition("/")[0]


def layers(between: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """How many rooms stand below each, on the longest way down.

    Raises
    ------
    ValueError
        Rooms import each other in a circle.
    """

    @cache
    def depth(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            raise ValueError(f"a circle of imports: {' -> '.join((*above[above.index(room) :], room))}")
        return 1 + max((depth(below, (*above, room)) for below in between[room]), default=-1)

    return {room: depth(room) for room in between}


def implied(between: Mapping[str, Mapping[str, int]], one: str, other: str) -> bool:
    """Whether a longer way leads from the one to the other."""

    @cache
    def reaches(room: str) -> bool:
        return room == other or any(map(reaches, between[room]))

    return any(reaches(step) for step in between[one] if step != other)


def places(between: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[float, float]]:
    """Left upper corner of each room: what thinks to the left, what reads, stores and trains to the right."""
    level = layers(between)
    top = max(level.values())
    rows: dict[tuple[int, bool], list[str]] = {}
    for room in sorted(level):
        rows.setdefault((level[room], _left(room)), []).append(room)
    lane = max(len(row) for (_, left), row in rows.items() if left) * (WIDTH + GAP_X)
    at = {}
    for (number, left), row in rows.items():
        for k, room in enumerate(row):
            x = (lane - len(row) * (WIDTH + GAP_X)) / 2 if left else lane + GAP_X
            at[room] = MARGIN + x + k * (WIDTH + GAP_X), MARGIN + (top - number) * (HEIGHT + GAP_Y)
    return at


def _left(room: str) -> bool:
    return room.startswith("estimate") or room in LEFT


def draw(found: list[Source]) -> str:
    """The picture as SVG."""
    between = rooms(found)
    at = places(between)
    wide, high = max(x for x, _ in at.values()) + WIDTH + MARGIN, max(y for _, y in at.values()) + HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" font-family="system-ui, sans-serif">',
        "<title>Rooms of lawfit: each stands above what it imports</title>",
        f'<rect width="{wide:g}" height="{high:g}" fill="{PAPER}"/>',
        _frame([at[room] for room in at if room.startswith("estimate")]),
        HEAD,
    ]
    for one, others in sorted(between.items()):
        for other in sorted(others):
            if not implied(between, one, other):
                parts.append(_arrow(at[one], at[other], f"{one} imports {other}"))
    for room, (x, y) in sorted(at.items()):
        name = room.removeprefix("estimate/") if room != "estimate" else "all laws"
        middle = x + WIDTH / 2
        parts += [
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{BOX}" stroke="{FAINT}"/>',
            f'<text x="{middle:g}" y="{y + 22:g}" text-anchor="middle" font-size="13" fill="{INK}">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(corners: list[tuple[float, float]]) -> str:
    """Around the rooms of estimate."""
    x, y = min(x for x, _ in corners) - GAP_X / 2, min(y for _, y in corners) - GAP_Y / 3
    wide = max(x for x, _ in corners) + WIDTH + GAP_X / 2 - x
    high = max(y for _, y in corners) + HEIGHT + GAP_Y / 3 - y
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="10" fill="{FRAME}"/>'
        f'<text x="{x + 12:g}" y="{y + 20:g}" font-size="12" fill="{FAINT}">estimate</text>'
    )


def _arrow(one: tuple[float, float], other: tuple[float, float], words: str) -> str:
    (x1, y1), (x2, y2) = (one[0] + WIDTH / 2, one[1] + HEIGHT), (other[0] + WIDTH / 2, other[1])
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" fill="none" '
        f'stroke="{FAINT}" marker-end="url(#head)"><title>{words}</title></path>'
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(sources()), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE}")
