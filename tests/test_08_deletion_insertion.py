"""Deletion and insertion: curves, areas, and what is put in the place of a pixel."""

import math
from itertools import permutations, product

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import Sum, drawing, unchanged
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from evaluation import deletion_insertion as part


def by_hand(model: nn.Module, start: Tensor, end: Tensor, map: Tensor, target: int, step: int) -> list[float]:
    """RISE, pixel by pixel: the highest values first, ties in reading order."""
    places = sorted(product(range(map.shape[0]), range(map.shape[1])), key=lambda p: (-map[p].item(), p))
    mixed, curve = start.clone(), []
    for i, (y, x) in enumerate(places):
        if i % step == 0:
            curve.append(model(mixed).softmax(dim=1)[0, target].item())
        mixed[0, :, y, x] = end[0, :, y, x]
    return [*curve, model(mixed).softmax(dim=1)[0, target].item()]


@pytest.mark.parametrize("step", [1, 7, 16, 48, 100])
def test_curves_step_by_step(net, photo, step):
    map = torch.rand(6, 8, generator=drawing(1)).mul(5).round()         # with ties
    deleted = part.deletion_curve(net, photo, map, 2, step=step)
    assert deleted.tolist() == pytest.approx(by_hand(net, photo, torch.zeros_like(photo), map, 2, step), abs=1e-6)
    inserted = part.insertion_curve(net, photo, map, 2, step=step)
    assert inserted.tolist() == pytest.approx(by_hand(net, part.authors_blur(photo), photo, map, 2, step), abs=1e-6)
    assert len(deleted) == len(inserted) == math.ceil(48 / step) + 1


def test_end_points_and_default_step(squeezenet, photos):
    map = torch.rand(224, 224, generator=drawing(0))
    with torch.no_grad():
        p = [squeezenet(x).softmax(1)[0, 235].item()
             for x in (photos[:1], torch.zeros(1, 3, 224, 224), part.authors_blur(photos[:1]))]  # fmt: skip
    deleted = part.deletion_curve(squeezenet, photos[:1], map)
    inserted = part.insertion_curve(squeezenet, photos[0], map)
    assert len(deleted) == len(inserted) == 29
    assert deleted[[0, -1]].tolist() == pytest.approx(p[:2], rel=1e-3)
    assert inserted[[0, -1]].tolist() == pytest.approx([p[2], p[0]], rel=1e-3)


def test_deletion_is_insertion_backwards_on_the_same_ground(net, photo):
    """Removing in falling order is adding in rising order, read from the end."""
    map, zeros = torch.rand(6, 8, generator=drawing(1)), torch.zeros_like(photo)
    down = part.replacement_curve(net, photo, zeros, map, 1, 6)
    up = part.replacement_curve(net, zeros, photo, -map, 1, 6)
    torch.testing.assert_close(down, up.flip(0))


def test_the_ground_may_be_anything(net, photo):
    """From one picture to another: what is put in belongs to the caller."""
    map, ground = torch.rand(6, 8, generator=drawing(1)), torch.randn(1, 3, 6, 8, generator=drawing(9))
    found = part.replacement_curve(net, photo, ground, map, 1, 5)
    assert found.tolist() == pytest.approx(by_hand(net, photo, ground, map, 1, 5), abs=1e-6)
    for size in (1, 3, 100):                                           # the batches of the network do not matter
        torch.testing.assert_close(part.replacement_curve(net, photo, ground, map, 1, 5, batch_size=size), found)


def test_a_constant_map_goes_row_by_row(net, photo):
    rows = -torch.arange(48.0).reshape(6, 8)
    found = [part.deletion_curve(net, photo, map, 1, step=5) for map in (torch.ones(6, 8), rows)]
    torch.testing.assert_close(*found)


def test_ranks():
    assert part.ranks(torch.tensor([[5, 9, 7.0]])).tolist() == [[2, 0, 1]]
    assert part.ranks(torch.tensor([[1, 2], [2, 1.0]])).tolist() == [[2, 0], [1, 3]]
    map = torch.randn(30, 40, generator=drawing(3))
    ranks = part.ranks(map)
    assert ranks.flatten().sort().values.tolist() == list(range(1200))
    assert (map.flatten()[ranks.flatten().argsort()].diff() <= 0).all()


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.1, 5), (0.5, 24), (1, 48)])
def test_a_frame_exchanges_the_highest_pixels_in_all_channels(photo, share, count):
    map, end = torch.rand(6, 8, generator=drawing(1)), torch.full((1, 3, 6, 8), 9.0)
    found = part.frame(photo, end, map, share)
    exchanged = (found == 9).all(dim=1)[0]
    assert exchanged.sum() == count
    assert torch.equal(found[:, :, ~exchanged], photo[:, :, ~exchanged])
    if 0 < count < 48:
        assert map[exchanged].min() > map[~exchanged].max()


def test_the_exact_map_of_an_additive_model_is_best():
    """Positive contributions: their own order deletes fastest and inserts best, up to a linear blur."""
    w = torch.rand(1, 6, 8, generator=drawing(3)) * 0.2
    model, image = Sum(w), torch.ones(1, 1, 6, 8)
    exact = part.area_under_curve(part.deletion_curve(model, image, w[0], 1, step=4))
    for seed in range(20):
        shuffled = w.flatten()[torch.randperm(48, generator=drawing(seed))].reshape(6, 8)
        assert exact <= part.area_under_curve(part.deletion_curve(model, image, shuffled, 1, step=4)) + 1e-6


def test_an_area_by_hand():
    """Two pixels of weight ln 3 and ln 1: p goes 3/4, 1/2, 1/2 or 3/4, 3/4, 1/2."""
    model, image = Sum(torch.tensor([[[math.log(3), 0.0]]])), torch.ones(1, 1, 1, 2)
    curve = part.deletion_curve(model, image, torch.tensor([[2.0, 1.0]]), 1, step=1)
    assert curve.tolist() == pytest.approx([0.75, 0.5, 0.5])
    assert part.area_under_curve(curve) == pytest.approx((0.75 / 2 + 0.5 + 0.5 / 2) / 2)
    worst = part.deletion_curve(model, image, torch.tensor([[1.0, 2.0]]), 1, step=1)
    assert part.area_under_curve(worst) == pytest.approx((0.75 / 2 + 0.75 + 0.5 / 2) / 2)


def test_the_example_of_the_text():
    """Four pixels, odds 9 : 1; the mean over all orders is what noise would get."""
    model, image = Sum(math.log(3) * torch.tensor([[[1.0, 1], [0, 0]]])), torch.ones(1, 1, 2, 2)
    areas = {}
    for order in permutations("ABCD"):
        values = torch.tensor([-order.index(letter) for letter in "ABCD"]).reshape(2, 2)
        areas["".join(order)] = part.area_under_curve(part.deletion_curve(model, image, values, 1, step=1))
    assert areas["ABCD"] == pytest.approx(0.6125) == min(areas.values())
    assert areas["ACBD"] == pytest.approx(0.675)
    assert areas["DCBA"] == pytest.approx(0.8125) == max(areas.values())
    assert np.mean(list(areas.values())) == pytest.approx(0.7208, abs=1e-4)
    back = part.replacement_curve(model, torch.zeros_like(image), image, torch.tensor([[1, 2], [3, 4]]), 1, 1)
    assert back.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.75, 0.9])


def test_area_under_curve():
    assert part.area_under_curve([1.0, 1.0, 1.0]) == 1
    assert part.area_under_curve([0.0, 1.0]) == 0.5
    assert part.area_under_curve([0.0, 0.0, 1.0]) == 0.25              # the plain mean would be 1/3
    assert part.area_under_curve(torch.linspace(0, 1, 29) ** 2) == pytest.approx(1 / 3, abs=1e-3)
    for wrong in ([1.0], [], torch.ones(2, 2)):
        with pytest.raises(ValueError, match="two points"):
            part.area_under_curve(wrong)


def test_the_authors_blur():
    """A dot becomes their kernel: 11 x 11, sum 1, nearly a box; the border loses to the zeros outside."""
    dot = torch.zeros(1, 3, 31, 31)
    dot[0, 1, 15, 15] = 1
    found = part.authors_blur(dot)
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    assert found[0, 1, 10:21, 10:21].numpy() == pytest.approx(gaussian_filter(delta, 5), abs=1e-6)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert 0.00774 - 1e-5 < found[0, 1, 10:21, 10:21].min() < found.max() < 0.00883 + 1e-5
    assert found[0, [0, 2]].abs().max() == 0
    assert part.authors_blur(torch.ones(1, 3, 31, 31))[0, 0, 0, 0] < 0.5


@pytest.mark.parametrize("curve", [part.deletion_curve, part.insertion_curve])
def test_curves_leave_no_trace_and_refuse_what_does_not_fit(curve, net, photo):
    map = torch.rand(6, 8, generator=drawing(0))
    with unchanged(net, photo):
        curve(net, photo, map, step=10)
    torch.testing.assert_close(curve(net, photo, map[None], step=10), curve(net, photo[0], map.numpy(), step=10))
    for wrong in (map.T, map * math.nan, torch.rand(2, 6, 8), map.flatten()):
        with pytest.raises(ValueError, match="map"):
            curve(net, photo, wrong)
    with pytest.raises(ValueError, match="step"):
        curve(net, photo, map, step=0)
    with pytest.raises(ValueError, match="one image"):
        curve(net, photo.expand(2, -1, -1, -1), map)
    with pytest.raises(ValueError, match="target"):
        curve(net, photo, map, 3)
    net.fc.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        curve(net, photo, map)


def test_two_ends_times_two_grounds(net, photo):
    """The paper's protocols are two corners of the 2 x 2."""
    map = torch.rand(6, 8, generator=drawing(1))
    found = part.curves_of(net, photo, map, 1, 6)
    assert list(found) == list(part.WAYS)
    torch.testing.assert_close(found["remove,\nmean colour"], part.deletion_curve(net, photo, map, 1, step=6))
    torch.testing.assert_close(found["insert,\nblur"], part.insertion_curve(net, photo, map, 1, step=6))
    blur, grey = part.authors_blur(photo), torch.zeros_like(photo)
    assert found["remove,\nblur"].tolist() == pytest.approx(by_hand(net, photo, blur, map, 1, 6), abs=1e-6)
    assert found["insert,\nmean colour"].tolist() == pytest.approx(by_hand(net, grey, photo, map, 1, 6), abs=1e-6)


def test_figures(net):
    image = torch.randn(1, 3, 24, 24, generator=drawing(0))
    maps = {name: torch.rand(24, 24, generator=drawing(i)) for i, name in enumerate(("one", "two"))}
    figure = part.figure_frames(net, image, maps, 1)
    assert [axis.get_xlabel()[:4] for axis in figure.axes] == ["p = "] * 16
    with torch.no_grad():
        whole = net(image).softmax(dim=1)[0, 1]
    assert figure.axes[0].get_xlabel() == figure.axes[4].get_xlabel() == f"p = {whole:.2f}"
    plt.close(figure)
