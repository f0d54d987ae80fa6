"""Integrated Gradients with a path refined where completeness fails."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from course.checks import (
    target_logits,
)
from utils import import_lesson

FIRST_PIECES, WORST_PIECES = 10, 5


MAX_GRADIENTS = 300  # where refinement gives up


def on_path(image: Tensor, baseline: Tensor, alpha: Tensor) -> Tensor:
    return baseline + alpha[:, None, None, None] * (image - baseline)


def vanilla_gradient(*args):
    return import_lesson("01_vanilla_gradient_saliency").vanilla_gradient(*args)


class Piece(NamedTuple):
    """A piece of the path: alpha from left to right, the scores at its ends, the gradient at its middle."""

    left: float
    right: float
    score_left: float
    score_right: float
    gradient: Tensor  # (C, H, W), dS/dx at the middle
    slope: float      # gradient . (x - x'), which is dS/d(alpha)

    @property
    def width(self) -> float:
        """The piece's weight in the quadrature."""
        return self.right - self.left

    @property
    def gap(self) -> float:
        """Completeness gap of the midpoint rule on this piece."""
        return self.width * self.slope - (self.score_right - self.score_left)


class Cost(NamedTuple):
    """State after a round of refinement: what was spent, and the completeness gap in logit units."""

    gradients: int
    forwards: int
    gap: float


def refine_path(
    model: nn.Module,
    image: Tensor,
    baseline: Tensor,
    target: int,
    tolerance: float,
    *,
    max_gradients: int = MAX_GRADIENTS,
    batch_size: int = 10,
) -> tuple[list[Piece], list[Cost]]:
    """Cut the path from baseline to image into pieces, finer where completeness fails.

    Starts with FIRST_PIECES equal pieces; each round cuts the WORST_PIECES with the largest |gap| in three.

    Args:
        model: classifier in eval mode.
        image, baseline: (C, H, W).
        target: class index.
        tolerance: stop when the whole gap is at most tolerance x |S_c(image) - S_c(baseline)|.
        max_gradients: or when a further cut would need more than this many. All gradients are kept until the end.
        batch_size: points that go through the network at a time.

    Returns:
        The pieces, and the Cost after each round, the last one being that of the pieces.
    """

    def scores(alphas: list[float]) -> Tensor:
        path = on_path(image, baseline, torch.tensor(alphas).to(image))
        with torch.no_grad():
            return torch.cat([target_logits(model(part), target) for part in path.split(batch_size)])

    def gradients(alphas: list[float]) -> Tensor:
        path = on_path(image, baseline, torch.tensor(alphas).to(image))
        return torch.cat([vanilla_gradient(model, part, target) for part in path.split(batch_size)])

    def pieces_between(ends: list[float], f: list[float], middles: Sequence[Tensor]) -> list[Piece]:
        slopes = [(gradient * (image - baseline)).sum().item() for gradient in middles]
        parts = zip(pairwise(ends), pairwise(f), middles, slopes, strict=True)
        return [Piece(*ab, *f_ab, gradient, slope) for ab, f_ab, gradient, slope in parts]

    ends = [k / FIRST_PIECES for k in range(FIRST_PIECES + 1)]
    f = scores(ends).tolist()
    pieces = pieces_between(ends, f, gradients([(a + b) / 2 for a, b in pairwise(ends)]))
    costs = [Cost(len(pieces), len(f), sum(piece.gap for piece in pieces))]
    while True:
        count = min(WORST_PIECES, (max_gradients - len(pieces)) // 2)
        if abs(costs[-1].gap) <= tolerance * abs(f[-1] - f[0]) or count <= 0:
            return pieces, costs
        # BEGIN SOLUTION 4.4
        pieces.sort(key=lambda piece: abs(piece.gap), reverse=True)
        worst, pieces = pieces[:count], pieces[count:]
        thirds = [[p.left, p.left + p.width / 3, p.right - p.width / 3, p.right] for p in worst]
        inner = scores([alpha for _, b, c, _ in thirds for alpha in (b, c)]).reshape(-1, 2).tolist()
        outer = gradients([middle for a, b, c, d in thirds for middle in ((a + b) / 2, (c + d) / 2)])
        for old, ends, (f_b, f_c), first, last in zip(worst, thirds, inner, outer[::2], outer[1::2], strict=True):
            # the middle third keeps its midpoint, and so its gradient
            pieces += pieces_between(ends, [old.score_left, f_b, f_c, old.score_right], [first, old.gradient, last])
        # END SOLUTION
        # every piece has cost one gradient, every end one score
        costs.append(Cost(len(pieces), len(pieces) + 1, sum(piece.gap for piece in pieces)))


def refined_gradient(
    model: nn.Module, image: Tensor, baseline: Tensor, target: int, tolerance: float, batch_size: int
) -> Tensor:
    """The mean gradient along the refined path, (C, H, W); a warning if MAX_GRADIENTS did not suffice."""
    pieces, costs = refine_path(
        model, image, baseline, target, tolerance, max_gradients=MAX_GRADIENTS, batch_size=batch_size
    )
    difference = sum(piece.score_right - piece.score_left for piece in pieces)
    if abs(costs[-1].gap) > tolerance * abs(difference):
        gap = f"{abs(costs[-1].gap):.3g} of {abs(difference):.3g}"
        warnings.warn(f"the completeness gap is still {gap} after {costs[-1].gradients} gradients", stacklevel=3)
    return sum(piece.width * piece.gradient for piece in pieces)
