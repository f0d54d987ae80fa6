"""Lesson 05: Grad-CAM, CAM and their relatives."""

import gc

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import PixelFunction, assert_common_contract, assert_leaves_no_trace, relative_error
from torch import nn

import utils
from course.layers import as_modules
from course.probes import correlation
from utils import find_class, import_lesson, recorded_output

lesson = import_lesson("05_gradcam")
RELATIVES = [lesson.grad_cam, lesson.hires_cam, lesson.layer_cam, lesson.grad_cam_plus_plus]


def head(weight: list[list[float]]) -> nn.Module:
    """Two channels of 2 x 2 pass through unchanged; logits = weight @ all eight activations."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, len(weight), bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2)[:, :, None, None])
        model[2].weight.copy_(torch.tensor(weight))
    return model.eval()


A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 2.0]]]])                      # (1, 2, 2, 2)
FIRST, SECOND = [4.0, 0.0, 0.0, 0.0, -1.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, -8.0, 0.0, 4.0, 0.0, 0.0]


def test_grad_cam_by_hand():
    """Class 0: alpha = (1, -1), so the map is A_1 - A_2. Class 1: alpha = (-2, 1), so A_2 - 2 A_1."""
    model = head([FIRST, SECOND])
    assert lesson.grad_cam(model, A, 0, upsample=False).tolist() == [[[0.0, 2.0], [3.0, 2.0]]]
    assert lesson.grad_cam(model, A, 0, relu=False, upsample=False).tolist() == [[[-3.0, 2.0], [3.0, 2.0]]]
    assert lesson.grad_cam(model, A, 1, relu=False, upsample=False).tolist() == [[[2.0, -4.0], [-6.0, -6.0]]]


def test_relatives_by_hand():
    model = head([FIRST])
    assert lesson.hires_cam(model, A, 0, upsample=False).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]   # 4*1 - 4, -0, -0, -2
    assert lesson.layer_cam(model, A, 0, upsample=False).tolist() == [[[4.0, 0.0], [0.0, 0.0]]]
    # channel 1: alpha = 16 / (2*16 + 10*64) at one place, weight = 4 alpha; channel 2 has no positive gradient
    weight = 4 * 16 / (32 + 640)
    found = lesson.grad_cam_plus_plus(model, A, 0, upsample=False)
    torch.testing.assert_close(found, weight * A[:, 0])


def test_layer_cam_drops_negative_gradients_not_negative_products():
    """Before a ReLU activations may be negative: a negative gradient times one is positive and still does not count."""
    activations = A.clone()
    activations[0, 1, 1, 1] = -2.0
    assert lesson.layer_cam(head([FIRST]), activations, 0, upsample=False).tolist() == [[[4.0, 0.0], [0.0, 0.0]]]


def paper_plus_plus(activations, gradient):
    """Grad-CAM++ as printed: eq. 19 for alpha, the weights its sum with the rectified gradient; for a (C, h, w)."""
    maps = 0
    for channel, slope in zip(activations, gradient, strict=True):
        alpha = slope**2 / (2 * slope**2 + channel.sum() * slope**3)
        maps = maps + (alpha * slope.relu()).sum() * channel
    return maps.relu()


def test_plus_plus_is_the_papers_form_with_the_square_cancelled():
    """Wherever the paper's denominator is not 0, and so for every gradient that is not 0 itself."""
    generator = torch.Generator().manual_seed(2)
    activations = torch.rand(5, 3, 4, generator=generator, dtype=torch.float64)
    gradient = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(60, 1, bias=False)).double().eval()
    with torch.no_grad():
        model[2].weight.copy_(gradient.flatten()[None])
    found = lesson.grad_cam_plus_plus(model, activations[None], 0, layer=model[0], upsample=False)
    torch.testing.assert_close(found[0], paper_plus_plus(activations, gradient), rtol=1e-12, atol=0)


def test_plus_plus_is_nearly_grad_cam_of_positive_gradients(resnet, photos):
    """Lerma and Lucas, 2022, arXiv:2205.10838."""
    activations, gradient = lesson.activations_and_gradient(resnet, photos, None, None)
    positive = (gradient.relu().mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1)
    for maps in zip(lesson.grad_cam_plus_plus(resnet, photos, upsample=False), positive, strict=True):
        assert correlation(*maps) > 0.98


def test_by_loops(tiny, small_images):
    """Equations 1 and 2 for every image, channel and place."""
    with recorded_output(tiny.conv2) as outputs:
        score = tiny(small_images.clone().requires_grad_())[:, 1].sum()
    activations = outputs[0]
    (gradient,) = torch.autograd.grad(score, activations)
    expected = torch.zeros(3, *activations.shape[2:], dtype=torch.float64)
    for b in range(3):
        for k in range(5):
            alpha = sum(gradient[b, k].flatten().tolist()) / gradient[b, k].numel()
            expected[b] += alpha * activations[b, k].detach()
    found = lesson.grad_cam(tiny, small_images, 1, layer="conv2", relu=False, upsample=False)
    torch.testing.assert_close(found, expected)


def test_upsampling_is_bilinear_and_after_the_relu(tiny, small_images):
    coarse = lesson.grad_cam(tiny, small_images, 0, relu=False, upsample=False)
    fine = F.interpolate(coarse.relu()[:, None], (7, 9), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(lesson.grad_cam(tiny, small_images, 0), fine)


def test_a_map_against_the_class_is_zero_and_finite():
    model = head([[-1.0] * 8])
    assert lesson.grad_cam(model, A, 0).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize("method", RELATIVES)
def test_no_nan_where_nothing_happens(method):
    assert method(head([FIRST]), torch.zeros_like(A), 0).abs().max() == 0
    assert method(head([[0.0] * 8]), A, 0).abs().max() == 0


# CAM


def gap_network() -> nn.Module:
    """Convolution, ReLU, global average pooling, one linear layer with biases; float64."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
        model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    return model.double().eval()


def test_cam_by_loops(small_images):
    model, labels = gap_network(), [3, 0, 1]
    activations = model[0](small_images).detach()
    expected = torch.zeros(3, 5, 7, dtype=torch.float64)
    for b, label in enumerate(labels):
        for k in range(6):
            expected[b] += model[3].weight[label, k].item() * activations[b, k]
    torch.testing.assert_close(lesson.cam(model, small_images, labels, upsample=False), expected)


def test_the_mean_of_cam_plus_bias_is_the_logit(small_images):
    model = gap_network()
    maps = lesson.cam(model, small_images, 2, upsample=False)
    torch.testing.assert_close(maps.mean(dim=(1, 2)) + model[3].bias[2].detach(), model(small_images)[:, 2].detach())


@pytest.mark.parametrize("method", [lesson.grad_cam, lesson.hires_cam])
def test_grad_cam_is_cam_there(method, small_images):
    model = gap_network()
    scaled = lesson.cam(model, small_images, 1, upsample=False).relu() / 35
    torch.testing.assert_close(method(model, small_images, 1, upsample=False), scaled)


def test_the_identities_hold_on_resnet50(resnet, photos):
    maps = lesson.cam(resnet, photos, upsample=False)
    scaled = maps.relu() / 49
    assert relative_error(lesson.grad_cam(resnet, photos, upsample=False), scaled) < 1e-4
    with torch.no_grad():
        top = resnet(photos).max(dim=1)
    torch.testing.assert_close(maps.mean(dim=(1, 2)) + resnet.fc.bias[top.indices], top.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["squeezenet", "tiny"])
def test_cam_refuses_other_networks(network, request, photos, small_images):
    model = request.getfixturevalue(network)
    if network == "tiny":  # ends in pooling and one layer, but its last convolution comes before a ReLU
        photos = small_images
    with pytest.raises(ValueError, match="grad_cam"):
        lesson.cam(model, photos)


# DenseNet applies its last ReLU and its pooling as functions, where no hook can see them


@pytest.fixture(scope="module")
def densenet() -> nn.Module:
    """As torchvision builds it, with random weights, float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.densenet121(weights=None).double().eval()


@pytest.fixture
def wide(densenet) -> torch.Tensor:
    """Three images, (3, 3, 64, 96)."""
    return torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_cam_of_a_densenet(densenet, wide):
    """The identities hold to rounding, so the recorded layer is the one that is pooled: after the ReLU."""
    maps, activations = lesson.cam(densenet, wide, [1, 2, 3], upsample=False), densenet.features(wide).relu()
    weights = densenet.classifier.weight[[1, 2, 3]]
    torch.testing.assert_close(maps, torch.einsum("bc,bchw->bhw", weights, activations).detach())
    logits = densenet(wide)[[0, 1, 2], [1, 2, 3]]
    torch.testing.assert_close(maps.mean(dim=(1, 2)) + densenet.classifier.bias[[1, 2, 3]], logits)
    for method in (lesson.grad_cam, lesson.hires_cam):
        torch.testing.assert_close(method(densenet, wide, [1, 2, 3], upsample=False), maps.relu() / 6)
    torch.testing.assert_close(lesson.grad_cam(densenet, wide, [1, 2, 3], relu=False, upsample=False), maps / 6)


def test_activations_of_a_densenet_are_those_after_its_last_relu(densenet, wide):
    activations, gradient = lesson.activations_and_gradient(densenet, wide, 5, None)
    assert densenet.features(wide).min() < -1
    assert activations.min() == 0
    assert (gradient == gradient[:, :, :1, :1]).all()


def test_layers_of_a_densenet_keep_their_names(densenet, wide):
    by_name = lesson.grad_cam(densenet, wide, 1, layer="features.denseblock3", upsample=False)
    assert by_name.shape == (3, 4, 6)
    torch.testing.assert_close(by_name, lesson.grad_cam(
        densenet, wide, 1, layer=densenet.features.denseblock3, upsample=False))  # fmt: skip


@pytest.mark.parametrize("method", [lesson.grad_cam, lesson.cam])
def test_a_densenet_is_left_as_it_was(method, densenet, wide):
    names = [name for name, _ in densenet.named_modules()]
    assert_leaves_no_trace(method, densenet, wide[:2])
    assert [name for name, _ in densenet.named_modules()] == names


def test_a_loaded_densenet_has_its_last_relu_as_a_module(densenet, wide, monkeypatch):
    monkeypatch.setattr(utils, "torchvision_network", lambda name: densenet)
    model = utils.load_model("densenet121")
    assert lesson.last_conv_layer(model) is model.features.relu5
    assert model.state_dict().keys() == densenet.state_dict().keys()
    assert not any(module.training for module in model.modules())
    torch.testing.assert_close(model(wide), densenet(wide))


@pytest.mark.parametrize("network", ["squeezenet", "tiny"])
def test_other_networks_are_recorded_as_they_are(network, request):
    model = request.getfixturevalue(network)
    assert as_modules(model) is model


# Layers


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"), ("resnet50", "layer4"), ("vgg16", "features.29"), ("vgg11_bn", "features.27"),
        ("squeezenet1_1", "features.12"), ("densenet121", "features.norm5"), ("mobilenet_v2", "features.18"),
        ("mobilenet_v3_small", "features.12"), ("efficientnet_b0", "features.8"), ("convnext_tiny", "features.7"),
    ],
)
def test_default_layer_of_torchvisions_networks(name, layer):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    assert lesson.last_conv_layer(model) is model.get_submodule(layer)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "densenet121"])
def test_default_layer_gives_a_map(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, weights=None).eval()
        images = torch.randn(2, 3, 64, 96)
    coarse = lesson.grad_cam(model, images, [1, 2], relu=False, upsample=False)
    assert coarse.shape[1] < coarse.shape[2] <= 6
    assert coarse.abs().max() > 0
    assert lesson.grad_cam(model, images, [1, 2]).shape == (2, 64, 96)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_transformers_have_no_default_layer(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    with pytest.raises(ValueError, match="layer="):
        lesson.last_conv_layer(model)


def test_layer_by_name_and_by_module(tiny, small_images):
    by_name = lesson.grad_cam(tiny, small_images, 0, layer="conv2")
    torch.testing.assert_close(by_name, lesson.grad_cam(tiny, small_images, 0, layer=tiny.conv2))
    torch.testing.assert_close(by_name, lesson.grad_cam(tiny, small_images, 0))
    assert not torch.allclose(by_name, lesson.grad_cam(tiny, small_images, 0, layer="conv1"))


@pytest.mark.parametrize(
    ("layer", "message"),
    [("conv3", "conv2"), ("", "layer"), ("relu", "2 times"), ("fc", "return"), (nn.Conv2d(3, 3, 1), "0 times")],
)
def test_layers_that_do_not_serve_are_refused(tiny, small_images, layer, message):
    with pytest.raises(ValueError, match=message):
        lesson.grad_cam(tiny, small_images, 0, layer=layer)


def test_nothing_below_the_layer_is_differentiated(tiny, small_images):
    """With frozen weights no graph is built before the record: it is a leaf, and what entered it has no history."""
    tiny.requires_grad_(False)
    entered = []
    handle = tiny.conv2.register_forward_pre_hook(lambda _layer, inputs: entered.append(inputs[0].requires_grad))
    lesson.grad_cam(tiny, small_images, 0, layer="conv2")
    handle.remove()
    assert entered == [False]


# Contract


@pytest.mark.parametrize("method", RELATIVES)
def test_common_contract(method, tiny, small_images):
    assert_common_contract(method, tiny, small_images)


def test_common_contract_of_cam(small_images):
    assert_common_contract(lesson.cam, gap_network(), small_images, classes=4)


@pytest.mark.parametrize("method", RELATIVES)
def test_leaves_no_trace(method, tiny, small_images):
    assert_leaves_no_trace(method, tiny, small_images)


def test_cam_leaves_no_trace(small_images):
    assert_leaves_no_trace(lesson.cam, gap_network(), small_images)


def test_a_thousand_calls_keep_no_tensor(tiny, small_images):
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    lesson.grad_cam(tiny, small_images, 0)
    before = alive()
    for _ in range(1000):
        lesson.grad_cam(tiny, small_images, 0)
    assert alive() == before


# The lesson


def test_mosaic_puts_each_image_in_its_quarter():
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 8, 8)
    quarters = lesson.mosaic(images)[0, 0]
    assert quarters.shape == (8, 8)
    assert quarters[[0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [0, 1, 2, 3]


def test_each_class_is_found_in_its_quarter(resnet, photos):
    picture = lesson.mosaic(torch.cat([photos, photos.flip(0)]))                             # dog bird / bird dog
    dog, bird = lesson.grad_cam(resnet, picture.expand(2, -1, -1, -1), [235, find_class("macaw")])
    assert dog[:112, :112].sum() + dog[112:, 112:].sum() > 0.8 * dog.sum()
    assert bird[:112, 112:].sum() + bird[112:, :112].sum() > 0.8 * bird.sum()


def test_share_of_the_own_quarter():
    maps = torch.zeros(4, 6, 8)
    maps[0, 2, 3], maps[1, 0, 4], maps[2, 3, 3], maps[3, 2, 4] = 1, 2, 3, 4
    assert lesson.own_quarter(maps) == [1, 1, 1, 0]
    assert lesson.own_quarter(torch.ones(4, 6, 8)) == [0.25] * 4


@pytest.mark.slow
def test_what_each_method_keeps_of_its_class(resnet, photos):
    """The table of layers and methods, for dog and bird: last layer far above chance, Grad-CAM++ below it at chance."""
    picture = lesson.mosaic(torch.cat([photos, photos.flip(0)])).expand(4, -1, -1, -1)       # dog bird / bird dog

    def shares(method, layer):
        maps = method(resnet, picture, [235, 88, 88, 235], layer=layer)
        diagonal = [[maps[i, :112, :112].sum() + maps[i, 112:, 112:].sum(), maps[i].sum()] for i in range(4)]
        return [(part / total if i in (0, 3) else 1 - part / total).item() for i, (part, total) in enumerate(diagonal)]

    assert min(shares(lesson.grad_cam, "layer4")) > 0.8
    assert min(shares(lesson.hires_cam, "layer3")) > 0.75
    assert shares(lesson.grad_cam_plus_plus, "layer3") == pytest.approx([0.5] * 4, abs=0.05)


def roll_map(pixels):
    """A method whose map is the image's first channel, drawn some pixels too far to the right."""
    return lambda _model, images, _target: images[:, 0].roll(pixels, dims=2)


@pytest.mark.parametrize("pixels", [0, 4, -7, 15])
def test_mirror_test_of_a_displaced_map(pixels):
    """A method that displaces maps displaces the mirrored ones to the other side."""
    images = torch.randn(2, 3, 40, 120, generator=torch.Generator().manual_seed(0))
    assert lesson.flip_shift(roll_map(pixels), None, images, torch.zeros(2)).tolist() == [pixels, pixels]


def test_mirror_test_of_a_constant_map_and_of_one_that_is_symmetric():
    images = torch.ones(2, 3, 8, 90)
    images[1, :, :, 44:46] = 2
    assert lesson.flip_shift(roll_map(0), None, images, torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.slow
def test_resnet_maps_lie_too_far_to_the_right_and_squeezenets_less(resnet, squeezenet, photos):
    targets = torch.tensor([235, 88])
    assert all(8 < shift < 14 for shift in lesson.flip_shift(lesson.grad_cam, resnet, photos, targets).tolist())
    assert all(0 < shift < 6 for shift in lesson.flip_shift(lesson.grad_cam, squeezenet, photos, targets).tolist())
    assert lesson.flip_shift(lesson.gradient_map, resnet, photos, targets).tolist() == [0, 0]


def test_coarse_is_the_mean_of_each_cell_enlarged():
    maps = torch.rand(2, 28, 14, generator=torch.Generator().manual_seed(0))
    means = torch.stack([torch.stack([maps[:, 4 * i : 4 * i + 4, 2 * j : 2 * j + 2].mean(dim=(1, 2)) for j in range(7)],
                                     dim=1) for i in range(7)], dim=1)  # fmt: skip
    fine = F.interpolate(means[:, None], (28, 14), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(lesson.coarse(maps), fine)


def test_stability_of_an_undisturbed_picture_is_one(tiny, small_images, monkeypatch):
    monkeypatch.setattr(lesson, "with_noise", lambda images, level, seed: images)
    for method in (lesson.grad_cam, lesson.gradient_map):
        noise, shift, other = lesson.stability(method, tiny, small_images, [0, 1, 2], 0, pixels=1)
        assert noise == pytest.approx(1)
        assert shift < 1
        assert other < 1


def test_stability_of_a_map_that_follows_the_picture():
    """It keeps nothing under the other picture, everything under the shift, and something under 5 % noise."""
    images = torch.randn(3, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    model = PixelFunction(lambda x: x.mean(dim=(2, 3)))
    noise, shift, other = lesson.stability(roll_map(0), model, images, [0, 1, 2], 0)
    assert 0.8 < noise < 1
    assert shift == pytest.approx(1)
    assert abs(other) < 0.1


def test_cells_read_at_their_tiles_are_what_upsample_gives():
    from bench_alignment import read_cells

    maps = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(read_cells(maps, 15.5), utils.upsample(maps, 224), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(read_cells(maps, 8)[:, :-8, :-8], read_cells(maps, 16)[:, 8:, 8:])
    torch.testing.assert_close(read_cells(maps, 0)[:, ::32, ::32], maps)


# Second opinion


@pytest.mark.parametrize(("network", "layer"), [("squeezenet", "features.12"), ("squeezenet", "features.6"),
                                                ("resnet", "layer4"), ("resnet", "layer3")])
def test_captum_agrees(network, layer, photos, request):
    model, targets = request.getfixturevalue(network), torch.tensor([235, 88])
    theirs = captum.attr.LayerGradCam(model, model.get_submodule(layer)).attribute(
        photos.clone().requires_grad_(), targets, relu_attributions=True
    )
    ours = lesson.grad_cam(model, photos, targets, layer=layer, upsample=False)
    assert relative_error(ours, theirs[:, 0].detach()) < 1e-4
