"""course/refined_path.py: a path cut finer where completeness fails. No network takes part."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from course import refined_path
from course.refined_path import mean_gradient, refine_path, refined_gradient

CORNERS = torch.tensor([1.0, 1.0]).double().reshape(1, 1, 2)  # x - x' of two pixels, both from 0 to 1


def path_of(formula, difference: Tensor = CORNERS):
    """The two functions of alpha for a formula of (k, C, H, W), with the baseline at 0."""

    def scores(alphas: Tensor) -> Tensor:
        assert alphas.dtype == torch.float64
        assert alphas.ndim == 1
        return formula(alphas[:, None, None, None] * difference)

    def gradients(alphas: Tensor) -> Tensor:
        x = (alphas[:, None, None, None] * difference).requires_grad_()
        return torch.autograd.grad(formula(x).sum(), x)[0]

    return scores, gradients, difference


def wavy(x: Tensor) -> Tensor:
    """Smooth, of two pixels."""
    return (5 * x[..., 0]).sin().sum((1, 2)) + (x[..., 1] ** 3).sum((1, 2))


def bend(at: float, sign: int = 1):
    """Flat up to `at`, then rising or falling with slope 1; of the first pixel."""
    return lambda x: sign * torch.relu(x[:, 0, 0, 0] - at)


def cancelling(x: Tensor) -> Tensor:
    """Two bends, one per pixel, whose errors under ten midpoints are 0.03 and -0.03."""
    first, second = x[:, 0, 0, 0], x[:, 0, 0, 1]
    return first + torch.relu(first - 0.33) + torch.relu(0.67 - second)


def test_pieces_tile_the_path():
    pieces, costs = refine_path(*path_of(wavy), 0, max_gradients=47)
    pieces = sorted(pieces, key=lambda piece: piece.left)
    assert pieces[0].left == 0
    assert pieces[-1].right == pytest.approx(1)
    for before, after in pairwise(pieces):
        assert before.right == pytest.approx(after.left)
        assert before.score_right == after.score_left
    assert costs[-1].gradients == len(pieces) == 46
    assert costs[-1].forwards == len(pieces) + 1


def test_pieces_know_their_scores_and_gradients():
    scores, gradients, difference = path_of(wavy)
    for piece in refine_path(scores, gradients, difference, 0, max_gradients=40)[0]:
        middle = torch.tensor([(piece.left + piece.right) / 2], dtype=torch.float64)
        torch.testing.assert_close(piece.gradient, gradients(middle)[0])
        assert piece.slope == pytest.approx((piece.gradient * difference).sum().item())
        ends = scores(torch.tensor([piece.left, piece.right], dtype=torch.float64))
        assert [piece.score_left, piece.score_right] == pytest.approx(ends.tolist())


def test_it_counts_what_it_asks_for():
    scores, gradients, difference = path_of(wavy)
    asked = {"scores": [], "gradients": []}

    def counted(name, function):
        return lambda alphas: asked[name].extend(alphas.tolist()) or function(alphas)

    along = counted("scores", scores), counted("gradients", gradients)
    pieces, costs = refine_path(*along, difference, 0, max_gradients=60)
    assert len(asked["gradients"]) == len(set(asked["gradients"])) == len(pieces) == costs[-1].gradients == 60
    assert len(asked["scores"]) == len(set(asked["scores"])) == costs[-1].forwards == 61
    assert [cost.gradients for cost in costs] == [10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("at", [0.33, 0.37, 0.3183])
def test_cuts_go_where_the_bend_is(at, sign):
    """All pieces but those about the bend are exact, whatever the sign of its gap."""
    pieces, costs = refine_path(*path_of(bend(at, sign)), 1e-4, max_gradients=200)
    around = next(piece for piece in pieces if piece.left <= at < piece.right)
    assert around.width == pytest.approx(min(piece.width for piece in pieces))
    assert around.width < 0.02
    assert costs[-1].gap_sum <= 1e-4 * (1 - at)
    assert costs[-1].gradients <= 100


def test_more_pieces_are_nearer_to_the_integral():
    gaps = [abs(cost.gap) for cost in refine_path(*path_of(bend(0.3183)), 1e-9, max_gradients=100)[1]]
    assert gaps[-1] < 1e-4 * gaps[0]


def test_errors_that_cancel_do_not_stop_it():
    """The signed gap is 0 from the start, and the shares of both pixels are wrong by 3 %."""
    pieces, costs = refine_path(*path_of(cancelling), 0.01)
    assert costs[0].gap == pytest.approx(0, abs=1e-12)
    assert costs[0].gap_sum == pytest.approx(0.06)
    assert costs[-1].gap_sum <= 0.01
    assert len(costs) > 1
    shares = (mean_gradient(pieces) * CORNERS).flatten().tolist()
    assert shares == pytest.approx([1.67, -0.67], abs=0.01)


def test_the_sum_of_gaps_bounds_the_gap():
    for cost in refine_path(*path_of(wavy), 0, max_gradients=60)[1]:
        assert abs(cost.gap) <= cost.gap_sum + 1e-12


def test_the_mean_gradient_has_the_gap_it_says():
    scores, gradients, difference = path_of(wavy)
    pieces, costs = refine_path(scores, gradients, difference, 0, max_gradients=50)
    mean = mean_gradient(pieces)
    assert mean.shape == difference.shape
    gained = (scores(torch.ones(1).double()) - scores(torch.zeros(1).double())).item()
    assert (mean * difference).sum().item() - gained == pytest.approx(costs[-1].gap, abs=1e-12)


def test_a_constant_score_stops_at_once():
    pieces, costs = refine_path(*path_of(lambda x: 0 * x.sum((1, 2, 3)) + 5), 0)
    assert len(pieces) == 10
    assert len(costs) == 1
    assert mean_gradient(pieces).abs().max() == 0


def test_a_path_that_cannot_be_finished_says_so(monkeypatch):
    monkeypatch.setattr(refined_path, "MAX_GRADIENTS", 20)
    along = path_of(lambda x: (50 * x[:, 0, 0, 0]).sin())
    with pytest.warns(UserWarning, match="20 gradients"):
        found = refined_gradient(*along, 1e-9)
    torch.testing.assert_close(found, mean_gradient(refine_path(*along, 0, max_gradients=20)[0]))
