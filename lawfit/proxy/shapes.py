"""Shapes for sizes that nobody has run: like those of the runs, or where there are none, like those that are usual.

A recipe's models differ in size along one line (layers, and width with it, everything else in proportion). The laws are
those of that line, so a further size has to lie on it; and a size is what a shape counts to, not any number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lawfit.proxy.pack import Model
from lawfit.records import Json

Shape = Mapping[str, Json]  # layers, width, heads, hidden, and what else of a `Model` differs from its defaults

SAME_SIZE: Final = 0.02  # of ln params
_HIDDEN_STEP: Final = 16  # kernels like inner widths that it divides
_SAME_STD: Final = 0.02  # relative


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models along one line of sizes."""

    depth: tuple[float, float]  # ln layers = first + second * ln params
    head: int  # width of one
    hidden: float  # inner width over width
    least_layers: int = 1
    same: Mapping[str, Json]  # what all have alike: qk_norm, embedding_std, ...
    init_scale: float | None = None  # init_std is this over the root of the width; None: as `same` has it

    def shape(self, params: float) -> dict[str, Json]:
        """The one whose non-embedding parameters come nearest."""
        first, second = self.depth
        layers = max(self.least_layers, round(math.exp(first + second * math.log(params))))
        width = math.sqrt(params / (layers * (4 + 3 * self.hidden)))
        heads = {max(1, math.floor(width / self.head)), math.floor(width / self.head) + 1}
        return min(
            (self._of(layers, count) for count in heads), key=lambda made: abs(math.log(params_of(made) / params))
        )

    def _of(self, layers: int, heads: int) -> dict[str, Json]:
        width = heads * self.head
        hidden = max(1, round(self.hidden * width / _HIDDEN_STEP)) * _HIDDEN_STEP
        shape: dict[str, Json] = {"layers": layers, "width": width, "heads": heads, "hidden": hidden, **self.same}
        if self.init_scale is not None:
            shape["init_std"] = float(f"{self.init_scale / math.sqrt(width):.3g}")
        return shape


# Width 64 times the layers, as GPT-2 and those after it; the rest as our own sweep has it (data/README.md).
USUAL: Final = Family(
    depth=(-math.log(12 * 64**2) / 3, 1 / 3),
    head=32,
    hidden=8 / 3,
    least_layers=3,  # with two, runs were noisy: "Other shapes" there
    same={"qk_norm": True, "embedding_std": 1.0},
    init_scale=1.0,
)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What models of a recipe look like, size by size."""

    known: tuple[tuple[float, Shape], ...]  # params and shape, of sizes that were run
    family: Family

    def shape(self, params: float) -> Shape:
        """Of a size that was run, its own; else the nearest along the line."""
        near = [shape for size, shape in self.known if abs(math.log(size / params)) < SAME_SIZE]
        return near[0] if near else self.family.shape(params)

    def params(self, params: float) -> float:
        """What the model nearest to a size counts to."""
        near = [size for size, _ in self.known if abs(math.log(size / params)) < SAME_SIZE]
        return near[0] if near else float(params_of(self.family.shape(params)))


def usual_shapes() -> Shapes:
    """Where nothing was run yet."""
    return Shapes(known=(), family=USUAL)


def shapes_like(stated: Sequence[tuple[float, Shape]]) -> Shapes:
    """Those of the sizes that were run, and others along their line.

    Parameters
    ----------
    stated : params and shape of each size, one or more
    """
    sizes = np.log([size for size, _ in stated])
    layers = np.log([shape["layers"] for _, shape in stated])
    slope = float(np.polyfit(sizes, layers, 1)[0]) if np.ptp(sizes) > SAME_SIZE else 0.0
    heads = Counter(shape["width"] // shape["heads"] for _, shape in stated)
    scaled = [shape["init_std"] * math.sqrt(shape["width"]) for _, shape in stated if "init_std" in shape]
    grows = len(scaled) == len(stated) and max(scaled) < (1 + _SAME_STD) * min(scaled)
    own = {"layers", "width", "heads", "hidden", *(["init_std"] if grows else [])}
    alike = Counter(tuple(sorted((k, v) for k, v in shape.items() if k not in own)) for _, shape in stated)
    family = Family(
        depth=(float(layers.mean() - slope * sizes.mean()), slope),
        head=heads.most_common(1)[0][0],
        hidden=float(np.median([shape["hidden"] / shape["width"] for _, shape in stated])),
        same=dict(alike.most_common(1)[0][0]),
        init_scale=float(np.median(scaled)) if grows else None,
    )
    return Shapes(known=tuple(stated), family=family)


def params_of(shape: Shape) -> int:
    """Non-embedding parameters, as the trainer counts them.

    Raises
    ------
    PackError
        No model has that shape.
    """
    return Model(**shape, vocab=1, seq_len=1).non_embedding_params
