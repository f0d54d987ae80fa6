"""Exercises of lesson 05, with their points."""

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_tensor, unchanged
from torch import nn

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 2.0]]]])                      # (1, 2, 2, 2)
FIRST, SECOND = [4.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, -8.0, 0.0, 4.0, 0.0, 0.0]


def head(*weights: list[float]) -> nn.Module:
    """Two channels of 2 x 2 pass through unchanged; logits = weights @ all eight activations."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, len(weights), bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2)[:, :, None, None])
        model[2].weight.copy_(torch.tensor(weights))
    return model.eval()


def pooled() -> nn.Module:
    """Convolution, ReLU, global average pooling, one linear layer: the networks CAM is for."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
        model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    return model.double().eval()


def activations(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What pooled()'s last convolution returns."""
    with torch.no_grad():
        return model[0](images)


def assert_separate(method, model: nn.Module, images: torch.Tensor) -> None:
    """A batch gives what its images give one by one, each for its own class, and leaves no trace."""
    singles = torch.cat([method(model, images[i : i + 1], i) for i in range(3)])
    with unchanged(model, images):
        assert_tensor(method(model, images, [0, 1, 2]), singles)
    assert not singles.requires_grad


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_by_hand(lesson):
    """Class 0: alpha = (1, -1), so the map is A_1 - A_2. Class 1: alpha = (-2, 1), so A_2 - 2 A_1."""
    model = head(FIRST, SECOND)
    found = lesson.grad_cam(model, A, 0, relu=False, upsample=False)
    assert_tensor(found, torch.tensor([[[-3.0, 2.0], [3.0, 2.0]]]))
    found = lesson.grad_cam(model, A, 1, relu=False, upsample=False)
    assert_tensor(found, torch.tensor([[[2.0, -4.0], [-6.0, -6.0]]]))


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_keeps_evidence_for_the_class_only(lesson):
    """The ReLU comes last: channels that speak against the class still count in the sum."""
    assert_tensor(lesson.grad_cam(head(FIRST, SECOND), A, 0, upsample=False), torch.tensor([[[0.0, 2.0], [3.0, 2.0]]]))
    assert_tensor(lesson.grad_cam(head(FIRST, [-1.0] * 8), A, 1), torch.zeros(1, 2, 2))


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_is_cam_over_the_number_of_places(lesson, small_images):
    model = pooled()
    maps = torch.einsum("bc,bchw->bhw", model[3].weight.detach()[[2, 0, 1]], activations(model, small_images))
    found = lesson.grad_cam(model, small_images, [2, 0, 1], layer=model[0], upsample=False)
    assert_tensor(found, maps.relu() / maps[0].numel())


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_images_do_not_mix_and_maps_are_bilinear(lesson, tiny, small_images):
    assert_separate(lesson.grad_cam, tiny, small_images)
    small = lesson.grad_cam(tiny, small_images, 1, upsample=False)
    large = F.interpolate(small[:, None], (7, 9), mode="bilinear", align_corners=False)[:, 0]
    assert_tensor(lesson.grad_cam(tiny, small_images, 1), large)


@pytest.mark.points(1, exercise="5.2")
def test_cam_is_the_weighted_sum_of_activations(lesson, small_images):
    model = pooled()
    found = lesson.cam(model, small_images, [2, 0, 1], upsample=False)
    pairs = zip([2, 0, 1], activations(model, small_images), strict=True)
    assert_tensor(found, torch.stack([sum(model[3].weight[c, k].detach() * a[k] for k in range(5)) for c, a in pairs]))


@pytest.mark.points(1, exercise="5.2")
def test_mean_of_cam_is_the_logit_without_bias(lesson, small_images):
    model = pooled()
    found = lesson.cam(model, small_images, upsample=False).mean(dim=(1, 2))
    with torch.no_grad():
        top = model(small_images).max(dim=1)
    assert_tensor(found, top.values - model[3].bias.detach()[top.indices])


@pytest.mark.points(1, exercise="5.2", contract=True)
def test_cam_is_signed_and_images_do_not_mix(lesson, small_images):
    model = pooled()
    assert_separate(lesson.cam, model, small_images)
    with torch.no_grad():
        model[3].weight.neg_()
    negative = lesson.cam(model, small_images, 0)
    with torch.no_grad():
        model[3].weight.neg_()
    assert_tensor(negative, -lesson.cam(model, small_images, 0))


@pytest.mark.points(1, exercise="5.3")
def test_hires_cam_multiplies_place_by_place(lesson):
    for values in (FIRST, SECOND, [1.0, -2.0, 3.0, -4.0, -1.0, 2.0, 5.0, 3.0]):
        expected = (torch.tensor(values).reshape(2, 2, 2) * A[0]).sum(dim=0, keepdim=True).relu()
        assert_tensor(lesson.hires_cam(head(values), A, 0, upsample=False), expected)


@pytest.mark.points(1, exercise="5.3")
def test_layer_cam_counts_places_with_positive_gradient(lesson):
    mixed = [1.0, -2.0, 3.0, -4.0, -1.0, 2.0, 5.0, 3.0]
    weights = torch.tensor(mixed).reshape(2, 2, 2)
    for activation in (A, -A, A - 2):
        expected = (weights.clamp(min=0) * activation[0]).sum(0)[None].relu()
        assert_tensor(lesson.layer_cam(head(mixed), activation, 0, upsample=False), expected)


@pytest.mark.points(1, exercise="5.3", contract=True)
def test_relatives_equal_grad_cam_where_the_gradient_is_constant(lesson, tiny, small_images):
    model = pooled()
    expected = lesson.grad_cam(model, small_images, [2, 0, 1], layer=model[0])
    assert_tensor(lesson.hires_cam(model, small_images, [2, 0, 1], layer=model[0]), expected)
    assert_separate(lesson.hires_cam, tiny, small_images)
    assert_separate(lesson.layer_cam, tiny, small_images)
    with torch.no_grad():
        model[3].weight.abs_()
    expected = lesson.grad_cam(model, small_images, 1, layer=model[0])
    assert_tensor(lesson.layer_cam(model, small_images, 1, layer=model[0]), expected)


def slow_plus_plus(A: torch.Tensor, dA: torch.Tensor) -> torch.Tensor:
    """Equations 19 and 5, place by place: (C, h, w), (C, h, w) -> (h, w)."""
    total = torch.zeros_like(A[0])
    for channel, slope in zip(A, dA, strict=True):
        weight = 0.0
        for g in slope.flatten().tolist():
            if g > 0:
                weight += g * g**2 / (2 * g**2 + channel.sum().item() * g**3)
        total += weight * channel
    return total.relu()


@pytest.mark.points(1, exercise="5.4")
def test_plus_plus_by_hand(lesson):
    for weights in (FIRST, [1.0, 2.0, 3.0, 4.0, 0.5, 2.0, 5.0, 3.0]):
        expected = slow_plus_plus(A[0], torch.tensor(weights).reshape(2, 2, 2))
        assert_tensor(lesson.grad_cam_plus_plus(head(weights), A, 0, upsample=False), expected[None])


@pytest.mark.points(1, exercise="5.4")
def test_plus_plus_gives_nothing_where_the_gradient_is_zero(lesson):
    """There the paper's fraction is 0 / 0."""
    assert_tensor(lesson.grad_cam_plus_plus(head([0.0] * 8), A, 0), torch.zeros(1, 2, 2))
    partly = [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    expected = slow_plus_plus(A[0], torch.tensor(partly).reshape(2, 2, 2))
    assert_tensor(lesson.grad_cam_plus_plus(head(partly), A, 0, upsample=False), expected[None])


@pytest.mark.points(1, exercise="5.4")
def test_plus_plus_ignores_negative_gradients_and_images_do_not_mix(lesson, tiny, small_images):
    with_negative = [1.0, -2.0, 3.0, -4.0, -1.0, 2.0, 5.0, -3.0]
    expected = slow_plus_plus(A[0], torch.tensor(with_negative).reshape(2, 2, 2))
    assert_tensor(lesson.grad_cam_plus_plus(head(with_negative), A, 0, upsample=False), expected[None])
    assert_separate(lesson.grad_cam_plus_plus, tiny, small_images)


@pytest.mark.points(1, exercise="5.5")
def test_coarse_is_the_mean_of_each_cell(lesson):
    """Cells of one value stay as they are in their middle; the mean of a whole map is kept with one cell."""
    maps = torch.rand(2, 28, 42, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.stack([torch.stack([maps[:, 4 * i : 4 * i + 4, 6 * j : 6 * j + 6].mean(dim=(1, 2)) for j in range(7)],
                                     dim=1) for i in range(7)], dim=1)  # fmt: skip
    fine = F.interpolate(means[:, None], (28, 42), mode="bilinear", align_corners=False)[:, 0]
    assert_tensor(lesson.coarse(maps), fine)
    assert_tensor(lesson.coarse(maps, 1), maps.mean(dim=(1, 2), keepdim=True).expand(2, 28, 42))


@pytest.mark.points(1, exercise="5.5")
def test_coarse_maps_have_as_many_cells_as_asked(lesson):
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for cells in (2, 3, 6, 12):
        means = F.avg_pool2d(maps[:, None], 12 // cells)
        fine = F.interpolate(means, (12, 12), mode="bilinear", align_corners=False)[:, 0]
        assert_tensor(lesson.coarse(maps, cells), fine)
    assert_tensor(lesson.coarse(maps, 12), maps)


def drawn(*pixels: int):
    """A method whose map of each image is its first channel, drawn so many pixels too far to the right."""
    return lambda _model, images, target: torch.stack([
        image[0].roll(pixels[int(c)], dims=1) for image, c in zip(images, target, strict=True)
    ])


@pytest.mark.points(1, exercise="5.6")
def test_a_displaced_map_is_measured(lesson):
    """Drawn too far to the right is positive; mirrored pictures are displaced to the other side, so half the way."""
    images = torch.randn(1, 3, 30, 120, generator=torch.Generator().manual_seed(0))
    for pixels in (3, -3, 10, 17):
        assert lesson.flip_shift(drawn(pixels), None, images, torch.tensor([0])).tolist() == [pixels]


@pytest.mark.points(1, exercise="5.6")
def test_a_map_in_its_place_has_no_shift(lesson):
    """However bright its edges are: only columns that have a partner count."""
    images = torch.rand(2, 3, 20, 100, generator=torch.Generator().manual_seed(1))
    images[..., :5] += 3
    assert lesson.flip_shift(drawn(0, 0), None, images, torch.tensor([0, 1])).tolist() == [0, 0]
    near = torch.randn(1, 3, 30, 120, generator=torch.Generator().manual_seed(2))
    assert lesson.flip_shift(drawn(10), None, near, torch.tensor([0]), reach=20).tolist() == [10]


@pytest.mark.points(1, exercise="5.6")
def test_each_map_is_measured_by_itself(lesson):
    images = torch.randn(3, 3, 30, 120, generator=torch.Generator().manual_seed(3))
    images[1] += 50                                                    # a map may have a high floor
    assert lesson.flip_shift(drawn(6, -2, 0), None, images, torch.tensor([0, 1, 2])).tolist() == [6, -2, 0]
