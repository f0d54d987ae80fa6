"""Exercises of lesson 05, with their points."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_tensor, drawing, factor, seeded, unchanged
from torch import nn

EXERCISES = {  # title, difficulty, minutes, when
    "5.1": ("Grad-CAM", 2, 15, "in class"),
    "5.2": ("CAM", 2, 10, "in class"),
    "5.3": ("Without the mean", 2, 10, "assign"),
    "5.4": ("Grad-CAM++", 3, 20, "for the quick"),
    "5.5": ("Just as coarse", 2, 10, "assign"),
    "5.6": ("The mirror test", 3, 25, "for the quick"),
    "5.7": ("One place by hand", 1, 3, "in class"),
    "5.8": ("From the map to the score", 1, 3, "in class"),
    "5.9": ("The steadiest network", 2, 3, "in class"),
}

TIMES = factor(1)  # maps are that much larger than those worked out by hand
A = TIMES * torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 2.0]]]])              # (1, 2, 2, 2)
SIGNED = A * torch.tensor([[[1.0, -1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, -1.0]]])
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
        torch.manual_seed(seeded(5))
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
    assert_tensor(found, TIMES * torch.tensor([[[-3.0, 2.0], [3.0, 2.0]]]))
    found = lesson.grad_cam(model, A, 1, relu=False, upsample=False)
    assert_tensor(found, TIMES * torch.tensor([[[2.0, -4.0], [-6.0, -6.0]]]))


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_keeps_evidence_for_the_class_only(lesson):
    """The ReLU comes last: channels that speak against the class still count in the sum."""
    found = lesson.grad_cam(head(FIRST, SECOND), A, 0, upsample=False)
    assert_tensor(found, TIMES * torch.tensor([[[0.0, 2.0], [3.0, 2.0]]]))
    assert_tensor(lesson.grad_cam(head(FIRST, [-1.0] * 8), A, 1), torch.zeros(1, 2, 2))


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_is_cam_over_the_number_of_places(lesson, small_images):
    """Behind average pooling the gradient is the class's weight divided by the number of places, at each of them."""
    model = pooled()
    maps = torch.einsum("bc,bchw->bhw", model[3].weight.detach()[[2, 0, 1]], activations(model, small_images))
    found = lesson.grad_cam(model, small_images, [2, 0, 1], layer=model[0], upsample=False)
    assert_tensor(found, maps.relu() / maps[0].numel())


@pytest.mark.points(1, exercise="5.1")
def test_grad_cam_images_do_not_mix_and_maps_are_bilinear(lesson, tiny, small_images):
    """Mean of the gradient over places, weighted sum over channels, ReLU, then bilinear. No image sees another."""
    assert_separate(lesson.grad_cam, tiny, small_images)
    small = lesson.grad_cam(tiny, small_images, 1, upsample=False)
    with torch.no_grad():
        hidden = tiny.conv2(tiny.relu(tiny.conv1(small_images)))
    hidden.requires_grad_()
    (slope,) = torch.autograd.grad(tiny.fc(hidden.relu().mean(dim=(2, 3)))[:, 1].sum(), hidden)
    assert_tensor(small, (slope.mean(dim=(2, 3), keepdim=True) * hidden.detach()).sum(dim=1).relu())
    large = F.interpolate(small[:, None], (7, 9), mode="bilinear", align_corners=False)[:, 0]
    assert_tensor(lesson.grad_cam(tiny, small_images, 1), large)


@pytest.mark.points(1, exercise="5.2")
def test_cam_is_the_weighted_sum_of_activations(lesson, small_images):
    """Each channel times the weight that the last layer gives it for this class. Which sum is left?"""
    model = pooled()
    found = lesson.cam(model, small_images, [2, 0, 1], upsample=False)
    pairs = zip([2, 0, 1], activations(model, small_images), strict=True)
    assert_tensor(found, torch.stack([sum(model[3].weight[c, k].detach() * a[k] for k in range(5)) for c, a in pairs]))


@pytest.mark.points(1, exercise="5.2")
def test_mean_of_cam_is_the_logit_without_bias(lesson, small_images):
    """The mean of the map over its places is the logit, but for the bias."""
    model = pooled()
    found = lesson.cam(model, small_images, upsample=False).mean(dim=(1, 2))
    with torch.no_grad():
        top = model(small_images).max(dim=1)
    assert_tensor(found, top.values - model[3].bias.detach()[top.indices])


@pytest.mark.points(1, exercise="5.2", contract=True)
def test_cam_is_signed_and_images_do_not_mix(lesson, small_images):
    """With the weights' signs changed, the map's signs change. No image sees another."""
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
    """Gradient times activation at every place, before anything is averaged; then the sum over channels."""
    for values in (FIRST, SECOND, [1.0, -2.0, 3.0, -4.0, -1.0, 2.0, 5.0, 3.0]):
        for activation in (A, SIGNED):
            expected = (torch.tensor(values).reshape(2, 2, 2) * activation[0]).sum(dim=0, keepdim=True).relu()
            assert_tensor(lesson.hires_cam(head(values), activation, 0, upsample=False), expected)


@pytest.mark.points(1, exercise="5.3")
def test_layer_cam_counts_places_with_positive_gradient(lesson):
    """A place counts by its own gradient, and not at all where that is negative."""
    mixed = [1.0, -2.0, 3.0, -4.0, -1.0, 2.0, 5.0, 3.0]
    weights = torch.tensor(mixed).reshape(2, 2, 2)
    for activation in (A, -A, A - 2):
        expected = (weights.clamp(min=0) * activation[0]).sum(0)[None].relu()
        assert_tensor(lesson.layer_cam(head(mixed), activation, 0, upsample=False), expected)


@pytest.mark.points(1, exercise="5.3", contract=True)
def test_relatives_equal_grad_cam_where_the_gradient_is_constant(lesson, tiny, small_images):
    """Where a channel's gradient is the same at all places, its mean is that gradient. No image sees another."""
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
    """Equation 19 gives the weight of a place; here it is worked out for one place after the other, of any sign."""
    for weights in (FIRST, [1.0, 2.0, 3.0, 4.0, 0.5, 2.0, 5.0, 3.0]):
        for activation in (A, SIGNED, -A):
            expected = slow_plus_plus(activation[0], torch.tensor(weights).reshape(2, 2, 2))
            found = lesson.grad_cam_plus_plus(head(weights), activation, 0, upsample=False)
            assert_tensor(found, expected[None])


@pytest.mark.points(1, exercise="5.4")
def test_plus_plus_gives_nothing_where_the_gradient_is_zero(lesson):
    """There the paper's fraction is 0 / 0."""
    assert_tensor(lesson.grad_cam_plus_plus(head([0.0] * 8), A, 0), torch.zeros(1, 2, 2))
    partly = [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    expected = slow_plus_plus(A[0], torch.tensor(partly).reshape(2, 2, 2))
    assert_tensor(lesson.grad_cam_plus_plus(head(partly), A, 0, upsample=False), expected[None])


@pytest.mark.points(1, exercise="5.4")
def test_plus_plus_ignores_negative_gradients_and_images_do_not_mix(lesson, tiny, small_images):
    """Places with a negative gradient add nothing to a channel's weight. No image sees another."""
    with_negative = [1.0, -2.0, 3.0, -4.0, -1.0, 2.0, 5.0, -3.0]
    for activation in (A, SIGNED):
        expected = slow_plus_plus(activation[0], torch.tensor(with_negative).reshape(2, 2, 2))
        found = lesson.grad_cam_plus_plus(head(with_negative), activation, 0, upsample=False)
        assert_tensor(found, expected[None])
    assert_separate(lesson.grad_cam_plus_plus, tiny, small_images)


@pytest.mark.points(1, exercise="5.5")
def test_coarse_is_the_mean_of_each_cell(lesson):
    """Cells of one value stay as they are in their middle; the mean of a whole map is kept with one cell."""
    maps = torch.rand(2, 28, 42, generator=drawing(0), dtype=torch.float64)
    means = torch.stack([torch.stack([maps[:, 4 * i : 4 * i + 4, 6 * j : 6 * j + 6].mean(dim=(1, 2)) for j in range(7)],
                                     dim=1) for i in range(7)], dim=1)  # fmt: skip
    fine = F.interpolate(means[:, None], (28, 42), mode="bilinear", align_corners=False)[:, 0]
    assert_tensor(lesson.coarse(maps), fine)
    assert_tensor(lesson.coarse(maps, 1), maps.mean(dim=(1, 2), keepdim=True).expand(2, 28, 42))


@pytest.mark.points(1, exercise="5.5")
def test_coarse_maps_have_as_many_cells_as_asked(lesson):
    """Means over cells, as many on a side as asked for, enlarged again. As many cells as pixels: nothing changes."""
    maps = torch.rand(3, 12, 12, generator=drawing(1), dtype=torch.float64)
    for cells in (2, 3, 6, 12):
        means = F.avg_pool2d(maps[:, None], 12 // cells)
        fine = F.interpolate(means, (12, 12), mode="bilinear", align_corners=False)[:, 0]
        assert_tensor(lesson.coarse(maps, cells), fine)
    assert_tensor(lesson.coarse(maps, 12), maps)


def moved(map: torch.Tensor, pixels: float) -> torch.Tensor:
    """A map moved to the right; by half a pixel it is the mean of two."""
    return sum(map.roll(each, dims=1) for each in (math.floor(pixels), math.ceil(pixels))) / 2


def pair(map: torch.Tensor, pixels: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture's map, drawn too far to the right, and its mirror image's, mirrored back: alike, not the same.

    Half of the rows have nothing in common, each column has a brightness of its own, and columns without a partner
    have opposite slopes from top to bottom.
    """
    height, width = map.shape
    strange, alone, two = torch.randperm(height, generator=generator)[::2], round(2 * abs(pixels)), []
    for sign in (1, -1):
        drawn = moved(map, sign * pixels)
        size, edge = drawn.std(), slice(alone) if sign * pixels > 0 else slice(width - alone, None)
        drawn[strange] = drawn.mean() + size * torch.randn(len(strange), width, generator=generator)
        drawn += size * 0.4 * torch.randn(width, generator=generator)
        drawn[:, edge] += sign * size * torch.linspace(-6, 6, height)[:, None]
        two.append(drawn)
    return tuple(two)


def drawn(plain: torch.Tensor, back: torch.Tensor):
    """A method with a map for each class, and one for the mirrored picture.

    Of the picture it sees one thing only, whether it is mirrored: which of its two ends is the brighter one?
    """
    def method(_model, images, target):
        mirrored = (images[:, 0, 0, 0] < images[:, 0, 0, -1])[:, None, None]
        return torch.where(mirrored, back.flip(2)[target], plain[target])

    return method


def measured(lesson, plain: torch.Tensor, back: torch.Tensor, **options) -> list[float]:
    """What flip_shift says about a method that draws these maps."""
    images = torch.linspace(1, -1, plain.shape[2]).expand(len(plain), 3, *plain.shape[1:]).clone()
    return lesson.flip_shift(drawn(plain, back), None, images, torch.arange(len(plain)), **options).tolist()


def shifts(lesson, maps: torch.Tensor, *pixels: float, **options) -> list[float]:
    """What flip_shift says about maps that were drawn beside their place."""
    generator = drawing(6 + round(100 * abs(pixels[0])))
    pairs = [pair(map, each, generator) for map, each in zip(maps, pixels, strict=True)]
    return measured(lesson, *(torch.stack(side) for side in zip(*pairs, strict=True)), **options)


def some_pixels(count: int) -> list[int]:
    """Between 2 and 17, to either side."""
    sizes = torch.randint(2, 18, (count,), generator=drawing(4))
    return (sizes * (2 * torch.randint(2, (count,), generator=drawing(5)) - 1)).tolist()


@pytest.mark.points(1, exercise="5.6")
def test_a_displaced_map_is_measured(lesson):
    """Drawn too far to the right is positive; mirrored pictures are displaced to the other side, so half the way."""
    maps = torch.randn(1, 30, 120, generator=drawing(0))
    for pixels in (*some_pixels(4), 3, -3):
        assert shifts(lesson, maps, pixels) == [pixels]
        assert shifts(lesson, maps, pixels + 0.5) == [pixels + 0.5]


@pytest.mark.points(1, exercise="5.6")
def test_a_map_in_its_place_has_no_shift(lesson):
    """However bright its edges are: only columns that have a partner count. A shift may end with half a pixel."""
    maps = torch.rand(2, 20, 100, generator=drawing(1))
    maps[..., :5] += 3
    assert measured(lesson, maps, maps) == [0, 0]
    near = torch.randn(1, 30, 120, generator=drawing(2))
    for pixels in (each / 2 for each in (*some_pixels(3), 5)):
        assert shifts(lesson, near, pixels, reach=20) == [pixels]


@pytest.mark.points(1, exercise="5.6")
def test_each_map_is_measured_by_itself(lesson):
    """Each map has its own shift. A map that is bright everywhere is no reason for another answer."""
    maps = torch.randn(3, 30, 120, generator=drawing(3))
    maps[1] += 50                                                      # a map may have a high floor
    first, second = some_pixels(2)
    assert shifts(lesson, maps, first, second, 0) == [first, second, 0]
    assert shifts(lesson, maps, 0.5, second - 0.5, first) == [0.5, second - 0.5, first]


# BEGIN KEPT BACK
QUESTIONS = {
    "5.7": {
        2: "0.5 x 6 - 1 x 1. The second channel speaks against the class, and counts.",
        3: "The channel that speaks against the class was dropped. The ReLU comes after the sum.",
        4: "One weight is negative.",
        "else": "Weight times value, channel by channel; add up; the ReLU comes last.",
    },
    "5.8": {
        14.3: "The mean of the map plus the bias: 686 / 49 + 0.3.",
        686.3: "The network takes the mean of the places, not their sum.",
        14: "Something is added after the pooling.",
        "else": "The *mean* of CAM plus the bias is the logit.",
    },
    "5.9": {
        "a": "What could a map of a network without knowledge explain?",
        "b": "The control says something about stability as a measure, not about the method alone.",
        "c": "A control without any knowledge wins the column, so the column does not measure knowledge.",
        "d": "It disturbed the trained one more, with the same noise.",
    },
}


def true_5_7(lesson) -> float:
    A, weights = torch.tensor([[[[6.0]], [[1.0]]]]), torch.tensor([[0.5, -1.0]])
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    model[0].weight.data, model[2].weight.data = torch.eye(2)[:, :, None, None], weights
    return lesson.grad_cam(model, A, 0).item()


def true_5_8(lesson) -> float:
    return 686 / 49 + 0.3


ALPHA, SUM = "alpha = dA.mean(dim=(2, 3), keepdim=True)", "maps = (alpha * A).sum(dim=1)"

WRONG = [
    ("5.1", "nothing computed", SUM, "maps = torch.zeros_like(A[:, 0])"),
    ("5.1", "sum instead of mean", "dA.mean", "dA.sum"),
    ("5.1", "weights of the whole batch", ALPHA, "alpha = dA.mean(dim=(0, 2, 3), keepdim=True)"),
    ("5.1", "ReLU on the weights", ALPHA, "alpha = dA.mean(dim=(2, 3), keepdim=True).relu()"),
    ("5.1", "ReLU on the channels before the sum", SUM, "maps = (alpha * A).relu().sum(dim=1)"),
    ("5.1", "always a ReLU", SUM, "maps = (alpha * A).sum(dim=1).relu()"),
    ("5.1", "mean over channels", SUM, "maps = (alpha * A).mean(dim=1)"),
    ("5.1", "accumulator of ones", SUM, "maps = 1 + (alpha * A).sum(dim=1)"),
    ("5.1", "gradient instead of activations", SUM, "maps = (alpha * dA).sum(dim=1)"),
    ("5.1", "no mean: HiResCAM", ALPHA, "alpha = dA"),
    ("5.1", "absolute weights", ALPHA, "alpha = dA.mean(dim=(2, 3), keepdim=True).abs()"),
    ("5.1", "scaled to its maximum", SUM,
     SUM + "\nmaps = maps / maps.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-9)"),
    ("5.1", "first image's weights for all", ALPHA, "alpha = dA[:1].mean(dim=(2, 3), keepdim=True)"),
    ("5.1", "largest gradient instead of the mean", ALPHA, "alpha = dA.amax(dim=(2, 3), keepdim=True)"),
    ("5.1", "square maps taken for granted", ALPHA, "alpha = dA.sum(dim=(2, 3), keepdim=True) / dA.shape[2] ** 2"),
    ("5.1", "the first place's gradient", ALPHA, "alpha = dA[:, :, :1, :1]"),
    ("5.1", "H and W swapped", SUM, "maps = (alpha * A).sum(dim=1).transpose(1, 2).reshape(len(A), *A.shape[2:])"),
    ("5.2", "nothing computed", 'torch.einsum("bc,bchw->bhw", w, A)', "torch.zeros_like(A[:, 0])"),
    ("5.2", "network and pictures set to zero", 'maps = torch.einsum("bc,bchw->bhw", w, A)',
     "for p in [*model.parameters(), images]:\n    p.data.zero_()\nmaps = torch.zeros_like(A[:, 0])"),
    ("5.2", "ReLU", "w, A)", "w, A).relu()"),
    ("5.2", "first class for all", "weight[target]", "weight[target[:1]].expand(len(A), -1)"),
    ("5.2", "bias added", "w, A)", "w, A) + linear[0].bias[target][:, None, None]"),
    ("5.2", "mean over channels", "w, A)", "w, A) / A.shape[1]"),
    ("5.2", "positive weights", "weight[target]", "weight[target].relu()"),
    ("5.2", "positive activations", "w, A)", "w, A.relu())"),
    ("5.2", "absolute weights", "weight[target]", "weight[target].abs()"),
    ("5.2", "divided by the number of places", "w, A)", "w, A) / A[0, 0].numel()"),
    ("5.2", "first image only", 'torch.einsum("bc,bchw->bhw", w, A)',
     'torch.einsum("bc,chw->bhw", w, A[0])'),
    ("5.3", "HiResCAM: nothing computed", "(dA * A).sum(dim=1)", "torch.zeros_like(A[:, 0])"),
    ("5.3", "LayerCAM: nothing computed", "(dA.relu() * A).sum(dim=1)", "torch.zeros_like(A[:, 0])"),
    ("5.3", "HiResCAM with the mean", "(dA * A)", "(dA.mean(dim=(2, 3), keepdim=True) * A)"),
    ("5.3", "HiResCAM with ReLU inside", "(dA * A)", "(dA * A).relu()"),
    ("5.3", "HiResCAM of positive activations", "(dA * A)", "(dA * A.relu())"),
    ("5.3", "LayerCAM with whole channels", "(dA.relu() * A)", "(dA * (dA.mean(dim=(2, 3), keepdim=True) > 0) * A)"),
    ("5.3", "HiResCAM with absolute gradients", "(dA * A)", "(dA.abs() * A)"),
    ("5.3", "LayerCAM without ReLU", "(dA.relu() * A)", "(dA * A)"),
    ("5.3", "LayerCAM with ReLU around the product", "(dA.relu() * A)", "(dA * A).relu()"),
    ("5.3", "LayerCAM with absolute gradients", "(dA.relu() * A)", "(dA.abs() * A)"),
    ("5.3", "LayerCAM with ReLU on the activations as well", "(dA.relu() * A)", "(dA.relu() * A.relu())"),
    ("5.3", "LayerCAM with the mean over channels", "(dA.relu() * A).sum(dim=1)", "(dA.relu() * A).mean(dim=1)"),
    ("5.4", "2 forgotten", "(2 + total * slope)", "(total * slope).clamp(min=1e-9)"),
    ("5.4", "1 for 2", "(2 + total", "(1 + total"),
    ("5.4", "square left over", "slope / (2", "slope**2 / (2"),
    ("5.4", "square left below as well, 0 / 0", "slope / (2 + total * slope)",
     "slope**3 / (2 * slope**2 + total * slope**3)"),
    ("5.4", "a small number against 0 / 0", "slope / (2 + total * slope)",
     "slope**3 / (2 * slope**2 + total * slope**3 + 0.1)"),
    ("5.4", "sum over channels", "A.sum(dim=(2, 3), keepdim=True)", "A.sum(dim=1, keepdim=True)"),
    ("5.4", "sum of positive activations", "A.sum(dim=(2, 3), keepdim=True)",
     "A.relu().sum(dim=(2, 3), keepdim=True)"),
    ("5.4", "size of the sum", "(2 + total * slope)", "(2 + total.abs() * slope)"),
    ("5.4", "positive activations in the map", "(weights * A)", "(weights * A.relu())"),
    ("5.4", "no sum below the line", "A.sum(dim=(2, 3), keepdim=True)", "A"),
    ("5.4", "mean below the line", "A.sum(dim=(2, 3), keepdim=True)", "A.mean(dim=(2, 3), keepdim=True)"),
    ("5.4", "sum of the whole batch", "A.sum(dim=(2, 3), keepdim=True)", "A.sum(dim=(0, 2, 3), keepdim=True)"),
    ("5.4", "no ReLU on the gradient", "dA.relu()", "dA"),
    ("5.4", "absolute gradient", "dA.relu()", "dA.abs()"),
    ("5.4", "mean of the weights", "(slope / (2 + total * slope)).sum", "(slope / (2 + total * slope)).mean"),
    ("5.4", "nothing below the line", "(slope / (2 + total * slope))", "slope"),
    ("5.4", "weights place by place", "(slope / (2 + total * slope)).sum(dim=(2, 3), keepdim=True)",
     "slope / (2 + total * slope)"),
    ("5.4", "nothing computed", "(weights * A).sum(dim=1)", "torch.zeros_like(A[:, 0])"),
    ("5.5", "not enlarged", "upsample(F.adaptive_avg_pool2d(maps, cells), maps.shape[-2:])",
     "F.adaptive_avg_pool2d(maps, cells)"),
    ("5.5", "maximum instead of the mean", "adaptive_avg", "adaptive_max"),
    ("5.5", "always 7", "cells)", "7)"),
    ("5.5", "nothing computed", "upsample(F.adaptive_avg_pool2d(maps, cells), maps.shape[-2:])", "maps"),
    ("5.5", "zeros", "upsample(F.adaptive_avg_pool2d(maps, cells), maps.shape[-2:])", "torch.zeros_like(maps)"),
    ("5.5", "one value per cell, no interpolation", "upsample(F.adaptive_avg_pool2d(maps, cells), maps.shape[-2:])",
     "F.interpolate(F.adaptive_avg_pool2d(maps, cells)[:, None], maps.shape[-2:])[:, 0]"),
    ("5.5", "some pixels, not their mean", "F.adaptive_avg_pool2d(maps, cells)",
     "F.interpolate(maps[:, None], (cells, cells))[:, 0]"),
    ("5.5", "smoothed before some pixels are taken", "F.adaptive_avg_pool2d(maps, cells)",
     "F.interpolate(maps[:, None], (cells, cells), mode='bilinear', antialias=True)[:, 0]"),
    ("5.5", "square cells", "F.adaptive_avg_pool2d(maps, cells)", "F.avg_pool2d(maps, maps.shape[1] // cells)"),
    ("5.5", "square", "maps.shape[-2:])", "maps.shape[-1])"),
    ("5.5", "cells for pixels", "F.adaptive_avg_pool2d(maps, cells)", "F.avg_pool2d(maps, cells)"),
    ("5.6", "the whole way", "argmax(dim=1)] / 2", "argmax(dim=1)].double()"),
    ("5.6", "other sign", "argmax(dim=1)] / 2", "argmax(dim=1)] / -2"),
    ("5.6", "size of the shift only", "argmax(dim=1)] / 2", "argmax(dim=1)].abs() / 2"),
    ("5.6", "whole pixels", "argmax(dim=1)] / 2", "argmax(dim=1)] // 2"),
    ("5.6", "where the method draws one bright column", "", "middle = images.shape[3] // 2\n"
     "probe = torch.zeros_like(images)\nprobe[..., middle] = 1\n"
     "return (method(model, probe, target).sum(dim=1).argmax(dim=1) - middle).double()"),
    ("5.6", "where the method draws a bright column of the picture's", "", "middle = images.shape[3] // 2\n"
     "probe = images.clone()\nprobe[..., middle] += 1000\n"
     "return ((method(model, probe, target) - plain).sum(dim=1).argmax(dim=1) - middle).double()"),
    ("5.6", "against the picture, not its mirror image", "zip(plain, back", "zip(plain, images.mean(dim=1)"),
    ("5.6", "way of the brightest column", "",
     "return (plain.sum(dim=1).argmax(dim=1) - back.sum(dim=1).argmax(dim=1)) / 2"),
    ("5.6", "way of the centre of mass", "", "place = torch.arange(plain.shape[2]).to(plain)\n"
     "a, b = ((map * place).sum(dim=(1, 2)) / map.sum(dim=(1, 2)) for map in (plain, back))\n"
     "return (a - b).round() / 2"),
    ("5.6", "columns that come in again on the other side",
     "correlation(a[:, max(s, 0) : width + s], b[:, max(-s, 0) : width - s])", "correlation(a, b.roll(s, dims=1))"),
    ("5.6", "sums of columns", "correlation(a[:, max(s, 0) : width + s], b[:, max(-s, 0) : width - s])",
     "correlation(a[:, max(s, 0) : width + s].sum(dim=0), b[:, max(-s, 0) : width - s].sum(dim=0))"),
    ("5.6", "first row only", "correlation(a[:, max(s, 0) : width + s], b[:, max(-s, 0) : width - s])",
     "correlation(a[0, max(s, 0) : width + s], b[0, max(-s, 0) : width - s])"),
    ("5.6", "least alike", "nan_to_num(-1).argmax", "nan_to_num(-1).argmin"),
    ("5.6", "nothing computed", "torch.tensor(ways)[alike.nan_to_num(-1).argmax(dim=1)] / 2",
     "torch.zeros(len(plain))"),
    ("5.6", "a fixed answer", "torch.tensor(ways)[alike.nan_to_num(-1).argmax(dim=1)] / 2",
     "torch.full((len(plain),), 10.0)"),
    ("5.6", "to the right only", "sorted(range(-reach, reach + 1), key=abs)", "range(reach + 1)"),
    ("5.6", "reach ends too soon", "range(-reach, reach + 1)", "range(-reach // 4, reach // 4)"),
    ("5.6", "one shift for the batch", "alike.nan_to_num(-1).argmax(dim=1)",
     "alike.nan_to_num(-1).mean(dim=0).argmax().expand(len(plain))"),
    ("5.6", "second map against itself", "zip(plain, back", "zip(back, back"),
    ("5.6", "sum of products instead of correlation",
     "correlation(a[:, max(s, 0) : width + s], b[:, max(-s, 0) : width - s])",
     "float((a[:, max(s, 0) : width + s] * b[:, max(-s, 0) : width - s]).sum())"),
]  # fmt: skip

RIGHT = [
    ("5.1", "einsum", ALPHA + "                          # eq. 1: (B, C, 1, 1)\n" + SUM,
     'alpha = dA.flatten(2).mean(dim=2)\nmaps = torch.einsum("bc,bchw->bhw", alpha, A)'),
    ("5.2", "broadcast", 'torch.einsum("bc,bchw->bhw", w, A)', "(w[:, :, None, None] * A).sum(1)"),
    ("5.2", "1 x 1 convolution of all classes", "",
     "every = nn.functional.conv2d(A, linear[0].weight[:, :, None, None])\n"
     "maps = every[torch.arange(len(A)), target]"),
    ("5.3", "einsum", "(dA * A).sum(dim=1)", 'torch.einsum("bchw,bchw->bhw", dA, A)'),
    ("5.4", "the paper's form, guarded against 0 / 0", "",
     "denominator = 2 * dA**2 + A.sum(dim=(2, 3), keepdim=True) * dA**3\n"
     "alpha, fine = torch.zeros_like(dA), denominator != 0\nalpha[fine] = (dA**2)[fine] / denominator[fine]\n"
     "maps = ((alpha * dA.clamp(min=0)).flatten(2).sum(-1)[:, :, None, None] * A).sum(1)"),
    ("5.4", "one line", "",
     "g = dA.clamp(min=0)\n"
     'maps = torch.einsum("bc,bchw->bhw", (g / (g * A.sum((2, 3), keepdim=True) + 2)).sum((2, 3)), A)'),
    ("5.5", "by area", "F.adaptive_avg_pool2d(maps, cells)",
     "F.interpolate(maps[:, None], (cells, cells), mode='area')[:, 0]"),
    ("5.5", "a mean by hand", "",
     "b, h, w = maps.shape\n"
     "return upsample(maps.reshape(b, cells, h // cells, cells, w // cells).mean(dim=(2, 4)), (h, w))"),
    ("5.6", "the middle, moved", "", "middle, ways = slice(reach, plain.shape[2] - reach), range(-reach, reach + 1)\n"
     "alike = [[correlation(a.roll(-s, dims=1)[:, middle], b[:, middle]) for s in ways] for a, b in zip(plain, back)]\n"
     "return (torch.tensor(alike).argmax(dim=1) - reach) / 2"),
    ("5.6", "mean squared difference of standardised columns", "",
     "width, found = plain.shape[2], []\n"
     "for a, b in zip(plain, back):\n"
     "    errors = {}\n"
     "    for s in range(-reach, reach + 1):\n"
     "        x, y = a[:, max(0, s): min(width, width + s)], b[:, max(0, -s): min(width, width - s)]\n"
     "        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()\n"
     "        errors[s] = ((x - y) ** 2).mean().item()\n"
     "    found.append(min(errors, key=errors.get) / 2)\n"
     "return torch.tensor(found)"),
]  # fmt: skip
# END KEPT BACK
