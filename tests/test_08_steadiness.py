"""Max-sensitivity: does the map hold still?"""

import math

import pytest
import torch
from conftest import Sum, drawing, unchanged
from torch import Tensor, nn

from evaluation import steadiness as part
from evaluation.methods import METHODS, random_map, uniform_map
from utils import channel_reduce, import_lesson, upsample

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient


def test_max_sensitivity_of_a_constant_explainer_is_zero(net, photo):
    assert part.max_sensitivity(uniform_map, net, photo, 0) == 0
    assert part.max_sensitivity(METHODS["vanilla_gradient"], net, photo, 0, radius=0) == 0
    assert math.isnan(part.max_sensitivity(lambda _m, x, _t: 0 * x[:, 0], net, photo, 0))


def test_max_sensitivity_by_loops(net, photo):
    def method(model: nn.Module, images: Tensor, target: int) -> Tensor:
        return channel_reduce(images**2, "sum")

    generator, clean, found = drawing(6), (photo**2).sum(dim=1), []
    for _ in range(5):
        noise = 0.3 * (2 * torch.rand(photo.shape, generator=generator) - 1)
        found.append((((photo + noise) ** 2).sum(dim=1) - clean).norm() / clean.norm())
    value = part.max_sensitivity(method, net, photo, 0, radius=0.3, samples=5, generator=drawing(6))
    assert value == pytest.approx(max(found).item(), rel=1e-5)
    assert value > min(found)


def test_the_vector_of_the_text(photo):
    """(3, 4), then (3, 5) and (0, 4): the largest distance over the length, 3 / 5."""
    maps = iter([[3.0, 4.0], [3.0, 5.0], [0.0, 4.0]])
    found = part.max_sensitivity(lambda *_: torch.tensor([[next(maps)]]), Sum(torch.ones(3, 6, 8)), photo, 1, samples=2)
    assert found == pytest.approx(0.6)


def test_max_sensitivity_as_captum_has_it(net, photo):
    """The same noise, handed to both."""
    metrics = pytest.importorskip("captum.metrics")
    generator = drawing(6)
    noise = iter([0.1 * (2 * torch.rand(photo.shape, generator=generator) - 1) for _ in range(8)])

    def explain(inputs: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:
        if isinstance(inputs, tuple):                                  # only the clean image comes in a tuple
            return (vanilla_gradient(net, inputs[0], 1),)
        return vanilla_gradient(net, inputs, 1)

    def disturb(inputs: Tensor) -> Tensor:
        return inputs + torch.cat([next(noise) for _ in inputs])

    theirs = metrics.sensitivity_max(explain, photo, disturb, n_perturb_samples=8, norm_ord="fro").item()
    ours = part.max_sensitivity(vanilla_gradient, net, photo, 1, radius=0.1, samples=8, generator=drawing(6))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_max_sensitivity_keeps_the_clean_class(photo):
    """The class of the clean image, also where noise changes the answer; and noise stays within its radius."""
    seen = []

    def spy(_model, images: Tensor, target: int) -> Tensor:
        seen.append((target, (images - photo).abs().max().item()))
        return images[:, 0]

    model = Sum(torch.full((3, 6, 8), 1e-3 * photo.sum().sign().item()))
    part.max_sensitivity(spy, model, photo, radius=2.0, samples=20)
    assert {target for target, _ in seen} == {1}
    assert 1.9 < max(distance for _, distance in seen) <= 2.0


def test_two_maps_of_noise_are_071_apart(net):
    """The reference of the figure; signed noise is 1.41 apart."""
    image = torch.randn(1, 3, 100, 100, generator=drawing(0))
    assert part.max_sensitivity(random_map, net, image, 0) == pytest.approx(math.sqrt(0.5), rel=0.03)
    generator = drawing(1)
    signed = part.max_sensitivity(lambda _m, x, _t: torch.randn(x[:, 0].shape, generator=generator), net, image, 0)
    assert signed == pytest.approx(math.sqrt(2), rel=0.03)
    assert part.moved_by(torch.tensor([[3.0, 4]]), torch.tensor([[0.0, 4]])) == pytest.approx(0.6)


def test_the_photograph_as_its_own_map_moves_as_far_as_the_noise(net):
    image = 1 + torch.randn(1, 3, 100, 100, generator=drawing(0))
    expected = 0.1 / math.sqrt(3) / image.square().mean().sqrt().item()
    assert part.max_sensitivity(lambda _m, x, _t: x, net, image, 0, radius=0.1) == pytest.approx(expected, rel=0.02)


def test_the_coarse_gradient(net):
    images = torch.randn(2, 3, 70, 140, generator=drawing(0))
    fine = METHODS["vanilla_gradient"](net, images, 1)
    cells = fine.reshape(2, 7, 10, 7, 20).mean(dim=(2, 4))
    torch.testing.assert_close(part.coarse_gradient(net, images, 1), upsample(cells, (70, 140)))


def test_max_sensitivity_leaves_no_trace_and_takes_one_image(net, photo):
    with unchanged(net, photo):
        first = part.max_sensitivity(vanilla_gradient, net, photo, samples=3)
    assert part.max_sensitivity(vanilla_gradient, net, photo[0], samples=3) == first                       # seeded
    for wrong, message in ((photo.expand(2, -1, -1, -1), "one image"), (photo * math.nan, "images")):
        with pytest.raises(ValueError, match=message):
            part.max_sensitivity(vanilla_gradient, net, wrong)
    with pytest.raises(ValueError, match="samples"):
        part.max_sensitivity(vanilla_gradient, net, photo, samples=0)
    net.fc.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        part.max_sensitivity(vanilla_gradient, net, photo)
