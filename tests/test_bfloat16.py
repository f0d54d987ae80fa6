"""One meaning of bfloat16: the network calculates in it; images, points, sums, gradients and results are float32."""

import copy
import warnings

import pytest
import torch
from conftest import hook_count, run_script, unchanged
from torch import Tensor, nn

from course.explainer import Explainer
from course.lesson import Lesson, lesson_parser
from course.weights import has_bfloat16, in_bfloat16
from utils import import_lesson

METHODS = ("vanilla_gradient", "smoothgrad", "integrated_gradients", "grad_cam", "guided_backpropagation")


def linear_network() -> nn.Module:
    """Its weights are powers of 2, which bfloat16 holds exactly; three classes."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(2.0 ** (torch.arange(72).reshape(3, 24) % 5 - 2))
        model[1].bias.zero_()
    return model


@pytest.fixture
def seen():
    """A network, and the dtypes and values of the images that it was given before they were cast."""
    given = []
    model = linear_network()
    model.register_forward_pre_hook(lambda _model, inputs: given.append(inputs[0].detach().clone()))
    return model, given


def test_the_copy_calculates_in_bfloat16_and_the_network_stays(tiny, small_images):
    images = small_images.float()
    with unchanged(tiny, images):
        half = in_bfloat16(tiny)
        logits = half(images)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
    assert hook_count(tiny) == 0
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())              # rounded to 8 bits
    torch.testing.assert_close(logits, tiny(small_images).float(), rtol=0.05, atol=0.02)


def test_a_copy_of_it_in_another_precision_works_as_such(tiny, small_images):
    weights_rounded = copy.deepcopy(tiny).bfloat16().double()
    again = copy.deepcopy(in_bfloat16(tiny)).double()
    torch.testing.assert_close(again(small_images), weights_rounded(small_images))


@pytest.mark.parametrize("method", METHODS)
def test_results_are_float32_and_near(method, squeezenet, photos):
    (full,), (half,) = (Explainer(squeezenet, method, bfloat16=b).explain(photos[:1], 235) for b in (False, True))
    assert half.attribution.dtype == half.map.dtype == torch.float32
    if method not in ("vanilla_gradient", "guided_backpropagation"):   # a single gradient, rounded by the network
        assert not torch.equal(half.attribution, half.attribution.bfloat16().float())
    cosine = torch.cosine_similarity(full.attribution.flatten(), half.attribution.flatten(), dim=0)
    assert 0.7 < cosine < 0.999999


@pytest.mark.parametrize("given", ["option", "model"])
def test_nodes_and_sums_of_integrated_gradients_are_float32(given, seen):
    """The gradient is exact here, so what is missing from weight x image is the nodes' and the sums' rounding."""
    model, images_seen = seen
    image = torch.rand(3, 2, 4, generator=torch.Generator().manual_seed(0))
    explainer = Explainer(model, "integrated_gradients", bfloat16=True)
    if given == "model":
        explainer = Explainer(model.bfloat16(), "integrated_gradients")
    (found,) = explainer.explain(image, 1)
    weight = linear_network()[1].weight[1].detach().reshape(3, 2, 4)
    torch.testing.assert_close(found.attribution, image * weight, rtol=1e-5, atol=0)
    points = torch.cat(images_seen[-5:])
    assert points.dtype == torch.float32
    assert len(points) == 50
    assert not torch.equal(points, points.bfloat16().float())


def test_sums_of_smoothgrad_are_float32(seen):
    (found,) = Explainer(seen[0], "smoothgrad", bfloat16=True).explain(torch.rand(3, 2, 4), 1)
    torch.testing.assert_close(found.attribution, linear_network()[1].weight[1].detach().reshape(3, 2, 4), rtol=1e-6,
                               atol=0)  # fmt: skip
    assert {images.dtype for images in seen[1]} == {torch.float32}


def test_it_says_so_where_it_will_not_be_faster(tiny, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False, "amx_bf16": False})
    with pytest.warns(RuntimeWarning, match="AMX nor AVX512-BF16"):
        Explainer(tiny, "grad_cam", bfloat16=True)
    for name in ("avx512_bf16", "amx_bf16"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Explainer(tiny, "grad_cam", bfloat16=True)


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_asked_whether_it_has_it(there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there and not including_emulation)
    assert has_bfloat16(torch.device("cuda")) is there


def begun(*arguments: str) -> Lesson:
    return Lesson(lesson_parser("05_gradcam", "Grad-CAM", ["dog.jpg"]).parse_args(["--quick", *arguments]))


def test_the_lessons_option(squeezenet):
    half, full = begun("--bfloat16"), begun()
    for network in (half.model, half.other_model):
        assert next(network.parameters()).dtype == torch.bfloat16
    assert next(full.model.parameters()).dtype == torch.float32
    assert half.images.dtype == torch.float32
    assert half.targets.tolist() == full.targets.tolist()


def test_an_equation_that_does_not_hold_is_an_error_in_float32_and_told_in_bfloat16(capsys):
    begun().check(True, "no")
    with pytest.raises(AssertionError, match="it does not add up"):
        begun().check(False, "it does not add up")
    begun("--bfloat16").check(True, "no")
    assert capsys.readouterr().out == ""
    begun("--bfloat16").check(False, "it does not add up")
    assert capsys.readouterr().out == "in bfloat16 only: it does not add up\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_vanilla_gradient_saliency", "06_guided_backpropagation", "07_guided_gradcam"])
def test_lessons_run_in_it(name, tmp_path, capsys):
    assert run_script(name, "--quick", "--bfloat16", "--image", "dog.jpg", "--output-dir", str(tmp_path)) == 0
    assert list(tmp_path.glob("*.png"))


def test_cam_of_a_network_in_bfloat16(squeezenet, resnet, photos):
    cam = import_lesson("05_gradcam").cam
    full, half = cam(resnet, photos[:1], 235), cam(in_bfloat16(resnet), photos[:1], 235)
    assert half.dtype == torch.float32
    assert isinstance(half, Tensor)
    assert 0 < (half - full).norm() / full.norm() < 0.05
