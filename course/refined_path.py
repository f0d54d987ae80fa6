"""A path of integration cut finer where its pieces fail completeness. It knows functions of alpha only, no network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

MAX_GRADIENTS = 300                  # where refinement gives up
FIRST_PIECES, WORST_PIECES = 10, 5   # each round cuts the worst pieces in three, for two new gradients each

Along = Callable[[Tensor], Tensor]   # a function of the place on the path: alphas (k,) float64 -> (k, ...)


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
        """How far the midpoint rule misses what the score really gains on this piece."""
        return self.width * self.slope - (self.score_right - self.score_left)


class Cost(NamedTuple):
    """State after a round of refinement: what was spent, and what is missed, in units of the score."""

    gradients: int
    forwards: int
    gap: float      # of the whole path, signed: the pieces' errors may cancel in it
    gap_sum: float  # sum of |gap| over the pieces, at least |gap|: nothing cancels between pieces


def pieces_between(ends: Sequence[float], scores: Sequence[float], middles: Sequence[Tensor], difference: Tensor
                   ) -> list[Piece]:  # fmt: skip
    """Neighbouring pieces from their n + 1 ends, the scores there, and the n gradients at their middles."""
    slopes = [(gradient * difference).sum().item() for gradient in middles]
    parts = zip(pairwise(ends), pairwise(scores), middles, slopes, strict=True)
    return [Piece(*alphas, *values, gradient, slope) for alphas, values, gradient, slope in parts]


def cost_of(pieces: list[Piece]) -> Cost:
    """Every piece has cost one gradient, every end of one a score."""
    gaps = [piece.gap for piece in pieces]
    return Cost(len(pieces), len(pieces) + 1, sum(gaps), sum(map(abs, gaps)))


def cut(pieces: list[Piece], scores: Along, gradients: Along, difference: Tensor) -> list[Piece]:
    """Each piece as three equal ones. The middle third keeps the middle, and so the gradient: two of three are new."""
    thirds = [[p.left, p.left + p.width / 3, p.right - p.width / 3, p.right] for p in pieces]
    inner = scores(places([alpha for _, b, c, _ in thirds for alpha in (b, c)])).reshape(-1, 2).tolist()
    outer = gradients(places([middle for a, b, c, d in thirds for middle in ((a + b) / 2, (c + d) / 2)]))
    smaller = []
    for old, ends, (f_b, f_c), first, last in zip(pieces, thirds, inner, outer[::2], outer[1::2], strict=True):
        known = [old.score_left, f_b, f_c, old.score_right]
        smaller += pieces_between(ends, known, [first, old.gradient, last], difference)
    return smaller


def places(alphas: Sequence[float]) -> Tensor:
    """Alphas as the callbacks get them."""
    return torch.tensor(alphas, dtype=torch.float64)


def refine_path(
    scores: Along, gradients: Along, difference: Tensor, tolerance: float, *, max_gradients: int = MAX_GRADIENTS
) -> tuple[list[Piece], list[Cost]]:
    """Cut the path from a baseline to an image into pieces, finer where completeness fails.

    Starts with FIRST_PIECES equal pieces; each round cuts the WORST_PIECES with the largest |gap| in three.

    Args:
        scores: the score S at points of the path, alphas (k,) -> (k,). Called without need of gradients.
        gradients: dS/dx there, alphas (k,) -> (k, C, H, W).
        difference: x - x', image minus baseline, (C, H, W).
        tolerance: stop when the sum of |gap| over the pieces is at most tolerance x |S(image) - S(baseline)|. The
            signed sum would stop too early: errors of opposite sign cancel in it, and the map has them still.
        max_gradients: or when a further cut would need more than this many. All gradients are kept until the end.

    Returns:
        The pieces, and the Cost after each round, the last one being that of the pieces.
    """
    ends = [k / FIRST_PIECES for k in range(FIRST_PIECES + 1)]
    f = scores(places(ends)).tolist()
    middles = gradients(places([(a + b) / 2 for a, b in pairwise(ends)]))
    pieces = pieces_between(ends, f, middles, difference)
    costs = [cost_of(pieces)]
    while True:
        count = min(WORST_PIECES, (max_gradients - len(pieces)) // 2)
        if costs[-1].gap_sum <= tolerance * abs(f[-1] - f[0]) or count <= 0:
            return pieces, costs
        pieces.sort(key=lambda piece: abs(piece.gap), reverse=True)
        pieces = pieces[count:] + cut(pieces[:count], scores, gradients, difference)
        costs.append(cost_of(pieces))


def mean_gradient(pieces: list[Piece]) -> Tensor:
    """The gradient averaged over the path, (C, H, W): times x - x' it is Integrated Gradients."""
    return sum(piece.width * piece.gradient for piece in pieces)


def refined_gradient(scores: Along, gradients: Along, difference: Tensor, tolerance: float) -> Tensor:
    """The mean gradient along the refined path, (C, H, W); a warning if MAX_GRADIENTS did not suffice.

    Arguments as in refine_path.
    """
    pieces, costs = refine_path(scores, gradients, difference, tolerance, max_gradients=MAX_GRADIENTS)
    gained, missed = abs(sum(piece.score_right - piece.score_left for piece in pieces)), costs[-1].gap_sum
    if missed > tolerance * gained:
        text = f"the pieces of the path still miss {missed:.3g} of {gained:.3g} after {costs[-1].gradients} gradients"
        warnings.warn(text, stacklevel=3)
    return mean_gradient(pieces)
