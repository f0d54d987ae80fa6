"""Exercises of lesson 07, with their points."""

import pytest
import torch
from conftest import assert_tensor, drawing, kept, unchanged

from utils import import_lesson

EXERCISES = {  # title, difficulty, minutes, when
    "7.1": ("The product", 1, 5, "in class"),
    "7.2": ("What the class changes", 2, 15, "assign"),
    "7.3": ("Which factor decides?", 2, 15, "assign"),
    "7.4": ("Other lines", 2, 20, "discuss"),
    "7.5": ("What the class changes", 1, 3, "in class"),
    "7.6": ("Which factor decides?", 1, 3, "in class"),
}


@pytest.mark.points(1, exercise="7.1")
def test_guided_grad_cam_is_the_product(lesson, tiny, small_images):
    """All three colours of a pixel are multiplied by the one value that the map has there; each image's own class."""
    guided = import_lesson("06_guided_backpropagation").guided_backpropagation(tiny, small_images, [2, 0, 1])
    maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, [2, 0, 1])
    found = lesson.guided_grad_cam(tiny, small_images, [2, 0, 1])
    assert_tensor(found, torch.stack([guided[:, c] * maps for c in range(3)], dim=1))


@pytest.mark.points(0.5, exercise="7.1")
def test_guided_grad_cam_takes_the_layer(lesson, tiny, small_images):
    """The layer goes to the factor that has one."""
    with torch.no_grad():                                              # evidence for the class, at both layers
        tiny.fc.weight.abs_()
        tiny.conv2.weight.abs_()
    guided = import_lesson("06_guided_backpropagation").guided_backpropagation(tiny, small_images, 0)
    for layer in ("conv1", tiny.conv1, tiny.conv2):
        maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, 0, layer=layer)
        assert_tensor(lesson.guided_grad_cam(tiny, small_images, 0, layer=layer), guided * maps[:, None])


@pytest.mark.points(0.5, exercise="7.1", contract=True)
def test_guided_grad_cam_of_no_evidence_is_zero(lesson, tiny, small_images):
    """Where the map is zero everywhere, the product is zero: no NaN, and no trace in the network."""
    with torch.no_grad():
        tiny.fc.weight[1] = -tiny.fc.weight[1].abs()
        tiny.conv2.bias.abs_()
        tiny.conv2.weight.abs_()
        tiny.conv1.bias.abs_()
    maps = import_lesson("05_gradcam").grad_cam(tiny, small_images, 1)
    with unchanged(tiny, small_images):
        found = lesson.guided_grad_cam(tiny, small_images, 1)
    assert not maps.any()
    assert_tensor(found, torch.zeros_like(small_images))


FIRST = torch.tensor([[[1.0, 3.0, 0.0], [4.0, 0.0, 2.0]], [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]])
SECOND = torch.tensor([[[2.0, 0.0, 2.0], [0.0, 0.0, 0.0]], [[8.0, 4.0, 0.0], [0.0, 4.0, 0.0]]])


@pytest.mark.points(1, exercise="7.2")
def test_contrast_is_the_difference_of_shares(lesson):
    """The sums are 10 and 4 for the first picture, 2 and 16 for the second."""
    expected = torch.stack([FIRST[0] / 10 - SECOND[0] / 4, FIRST[1] / 2 - SECOND[1] / 16])
    with kept(FIRST, SECOND):
        assert_tensor(lesson.class_contrast(FIRST, SECOND), expected)
        assert_tensor(lesson.class_contrast(SECOND, FIRST), -expected)
    first, second = torch.rand(2, 3, 4, 5, generator=drawing(0))
    expected = torch.stack([a / a.sum() - b / b.sum() for a, b in zip(first, second, strict=True)])
    assert_tensor(lesson.class_contrast(first, second), expected)


@pytest.mark.points(1, exercise="7.2")
def test_contrast_does_not_see_the_strength(lesson):
    """A map ten times stronger is the same map; the whole adds up to 0, the positive part to what has moved."""
    found = lesson.class_contrast(FIRST, SECOND)
    assert_tensor(lesson.class_contrast(10 * FIRST, SECOND / 7), found)
    assert_tensor(found.sum(dim=(1, 2)), torch.zeros(2), atol=1e-6, rtol=0)
    assert_tensor(lesson.moved(FIRST, SECOND), torch.tensor([0.9, 0.75]))
    first, second = torch.rand(2, 3, 4, 5, generator=drawing(1))
    expected = torch.stack([a / a.sum() - b / b.sum() for a, b in zip(first, second, strict=True)])
    assert_tensor(lesson.class_contrast(10 * first, second / 7), expected)
    assert_tensor(lesson.class_contrast(3 * first, first), torch.zeros_like(first), atol=1e-6, rtol=0)


@pytest.mark.points(1, exercise="7.2")
def test_contrast_with_an_empty_map_is_no_nan(lesson):
    """Each map as shares of its own sum. An empty map has no shares, and a very faint one has the usual ones."""
    half = torch.stack([FIRST[0], torch.zeros(2, 3)])
    expected = torch.stack([FIRST[0] / 10 - SECOND[0] / 4, -SECOND[1] / 16])
    assert_tensor(lesson.class_contrast(half, SECOND), expected)
    assert_tensor(lesson.class_contrast(SECOND, half), -expected)
    assert_tensor(lesson.class_contrast(1e-12 * FIRST, SECOND), lesson.class_contrast(FIRST, SECOND))
    drawn = torch.rand(2, 2, 3, generator=drawing(2))
    expected = torch.stack([FIRST[0] / 10 - drawn[0] / drawn[0].sum(), -drawn[1] / drawn[1].sum()])
    assert_tensor(lesson.class_contrast(half, drawn), expected)


def factors(model, images, target, **options):
    """Guided backpropagation (B, 3, H, W), and Grad-CAM (B, 1, H, W)."""
    lines = import_lesson("06_guided_backpropagation").guided_backpropagation(model, images, target)
    return lines, import_lesson("05_gradcam").grad_cam(model, images, target, **options)[:, None]


@pytest.mark.points(1, exercise="7.3")
def test_the_lines_are_exchanged_first(lesson, tiny, small_images):
    """First answer: the lines of the other class, the place of this one."""
    (_, place), (lines, _) = factors(tiny, small_images, [0, 1, 2]), factors(tiny, small_images, [2, 2, 1])
    found = lesson.with_one_exchanged(tiny, small_images, [0, 1, 2], [2, 2, 1])
    assert len(found) == 2
    assert_tensor(found[0], lines * place)


@pytest.mark.points(1, exercise="7.3")
def test_the_place_is_exchanged_second(lesson, tiny, small_images):
    """Second answer: the lines of this class, the place of the other one. Nothing is left behind."""
    (lines, _), (_, place) = factors(tiny, small_images, [0, 1, 2]), factors(tiny, small_images, [2, 2, 1])
    with unchanged(tiny, small_images):
        found = lesson.with_one_exchanged(tiny, small_images, [0, 1, 2], [2, 2, 1])
    assert_tensor(found[1], lines * place)


@pytest.mark.points(1, exercise="7.3")
def test_the_layer_and_the_top_class_are_passed_on(lesson, tiny, small_images):
    """Without a target it is each image's top class. The layer belongs to both places."""
    with torch.no_grad():
        top = tiny(small_images).argmax(dim=1).tolist()
    lines, place = factors(tiny, small_images, top, layer="conv1")
    lines_of_1, place_of_1 = factors(tiny, small_images, 1, layer="conv1")
    found = lesson.with_one_exchanged(tiny, small_images, None, 1, layer="conv1")
    assert_tensor(found[0], lines_of_1 * place)
    assert_tensor(found[1], lines * place_of_1)


# BEGIN KEPT BACK
QUESTIONS = {
    "7.5": {
        0: "1 - 1. So a map that is made ten times stronger changes nothing.",
        1: "Each of the two adds up to 1. And their difference?",
        "else": "What does a map add up to that was divided by its own sum?",
    },
    "7.6": {
        "a": "Lesson 06 compared guided maps of two classes. How alike were they?",
        "b": "Exchanging the lines alone moves 0.03 to 0.25 of the map, the place alone 0.70 to 0.95.",
        "c": "A product is symmetric. Its factors may still know very different things.",
        "d": "The picture stays, the class asked for does not.",
    },
}


def true_7_5(lesson) -> float:
    return lesson.class_contrast(torch.ones(1, 2, 3), torch.eye(3)[None, :2]).sum().item()


WRONG = [
    ("7.1", "layer forgotten", ", layer=layer", ""),
    ("7.1", "a layer's name only", "layer=layer)", "layer=layer if isinstance(layer, str) else None)"),
    ("7.1", "positive lines", "return guided_backpropagation(model, images, target)",
     "return guided_backpropagation(model, images, target).relu()"),
    ("7.1", "sum instead of product", "target) * L[:, None]", "target) + L[:, None]"),
    ("7.1", "target ignored in one factor", "guided_backpropagation(model, images, target)",
     "guided_backpropagation(model, images)"),
    ("7.1", "target ignored in Grad-CAM", "grad_cam(model, images, target,", "grad_cam(model, images, None,"),
    ("7.1", "no ReLU", "layer=layer)", "layer=layer, relu=False)"),
    ("7.1", "nearest instead of bilinear", "layer=layer)",
     "layer=layer, upsample=False)\n"
     "L = torch.nn.functional.interpolate(L[:, None], images.shape[-2:], mode='nearest')[:, 0]"),
    ("7.1", "absolute value", "return guided_backpropagation(model, images, target)",
     "return guided_backpropagation(model, images, target).abs()"),
    ("7.1", "gradient instead of guided backpropagation", "guided_backpropagation(model, images, target)",
     "import_lesson('01_vanilla_gradient_saliency').vanilla_gradient(model, images, target)"),
    ("7.1", "map scaled to its maximum", "layer=layer)",
     "layer=layer)\nL = L / L.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)"),
    ("7.1", "first image's map for all", "L[:, None]", "L[:1, None]"),
    ("7.1", "square", "L[:, None]", "L[:, None] ** 2"),
    ("7.1", "nothing computed", "", "return torch.zeros_like(images)"),
    ("7.1", "the lines alone", " * L[:, None]", ""),
    ("7.2", "nothing computed", "", "return torch.zeros_like(first)"),
    ("7.2", "returns an argument", "", "return first"),
    ("7.2", "strength left in", "", "return first - second"),
    ("7.2", "one sum for the whole batch", "map.sum(dim=(1, 2), keepdim=True)", "map.sum()"),
    ("7.2", "divided by the largest value", "map.sum(dim=(1, 2), keepdim=True)",
     "map.amax(dim=(1, 2), keepdim=True)"),
    ("7.2", "divided by the length", "map.sum(dim=(1, 2), keepdim=True)",
     "map.square().sum(dim=(1, 2), keepdim=True).sqrt()"),
    ("7.2", "both divided by the first's sum", "(first, second)]", "(first, first)]"),
    ("7.2", "second minus first", "return p - q", "return q - p"),
    ("7.2", "absolute value", "return p - q", "return (p - q).abs()"),
    ("7.2", "0 / 0", "torch.where(total > 0, total, 1)", "total"),
    ("7.2", "a small number added", "torch.where(total > 0, total, 1)", "(total + 1e-8)"),
    ("7.2", "softmax", "", "p, q = (map.flatten(1).softmax(dim=1).reshape(map.shape) for map in (first, second))\n"
     "return p - q"),
    ("7.2", "guarded if the whole batch is empty", "torch.where(total > 0, total, 1)",
     "(total if total.any() else 1)"),
    ("7.2", "mean instead of sum", "map.sum(dim=(1, 2), keepdim=True)", "map.mean(dim=(1, 2), keepdim=True)"),
    ("7.2", "in place", "", "for map in (first, second):\n"
     "    map /= map.sum(dim=(1, 2), keepdim=True).clamp(min=1e-30)\nreturn first - second"),
    ("7.3", "nothing computed", "", "return torch.zeros_like(images), torch.zeros_like(images)"),
    ("7.3", "nothing exchanged", "", "return (guided_grad_cam(model, images, target, layer=layer),) * 2"),
    ("7.3", "both exchanged", "return lines_of_other * place, lines * place_of_other",
     "return lines_of_other * place_of_other, lines_of_other * place_of_other"),
    ("7.3", "in the other order", "return lines_of_other * place, lines * place_of_other",
     "return lines * place_of_other, lines_of_other * place"),
    ("7.3", "layer forgotten", ", layer=layer", ""),
    ("7.3", "the other class twice", "guided_backpropagation(model, images, c) for c in (target, other)",
     "guided_backpropagation(model, images, c) for c in (other, other)"),
    ("7.3", "the target twice", "layer=layer)[:, None] for c in (target, other)",
     "layer=layer)[:, None] for c in (target, target)"),
    ("7.3", "products divided by a factor", "",
     "a, b = (guided_grad_cam(model, images, c, layer=layer) for c in (target, other))\n"
     "p, q = (grad_cam(model, images, c, layer=layer)[:, None] for c in (target, other))\n"
     "return (b / q * p).nan_to_num(0, 0, 0), (a / p * q).nan_to_num(0, 0, 0)"),
    ("7.3", "place of the whole batch", "lines * place_of_other",
     "lines * place_of_other.mean(dim=0, keepdim=True)"),
    ("7.3", "sums", "return lines_of_other * place, lines * place_of_other",
     "return lines_of_other + place, lines + place_of_other"),
    ("7.3", "absolute lines", "return lines_of_other * place, lines * place_of_other",
     "return lines_of_other.abs() * place, lines.abs() * place_of_other"),
    ("7.3", "one class for the whole batch", "guided_backpropagation(model, images, c)",
     "guided_backpropagation(model, images, c if isinstance(c, int | None) else c[0])"),
]  # fmt: skip

RIGHT = [
    ("7.1", "channel by channel", "return guided_backpropagation(model, images, target) * L[:, None]",
     "guided = guided_backpropagation(model, images, target)\n"
     "return torch.stack([guided[:, c] * L for c in range(guided.shape[1])], dim=1)"),
    ("7.2", "image by image", "", "contrasts = []\nfor a, b in zip(first, second, strict=True):\n"
     "    a = a / a.sum() if a.any() else a\n    b = b / b.sum() if b.any() else b\n    contrasts.append(a - b)\n"
     "return torch.stack(contrasts)"),
    ("7.2", "nan_to_num", "", "p, q = (map / map.sum((1, 2), keepdim=True) for map in (first, second))\n"
     "return p.nan_to_num(0) - q.nan_to_num(0)"),
    ("7.3", "from guided Grad-CAM's own parts", "", "parts = {}\nfor name, c in (('a', target), ('b', other)):\n"
     "    parts[name] = (guided_backpropagation(model, images, c),\n"
     "                   grad_cam(model, images, c, layer=layer).unsqueeze(1))\n"
     "return parts['b'][0] * parts['a'][1], parts['b'][1] * parts['a'][0]"),
]  # fmt: skip
# END KEPT BACK
