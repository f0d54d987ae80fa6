"""Networks of one's own: what takes them, adapters, and a classifier whose map is exact."""

import copy
from functools import partial

import captum.attr
import pytest
import torch
import torchvision
from conftest import assert_common_contract, relative_error, unchanged
from torch import nn

from advanced import your_own_network as lesson
from advanced.lrp import lrp
from course.small_vgg import CHECKPOINT, load_vgg
from utils import import_lesson, load_image, preprocess_image

vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
lesson_05 = import_lesson("05_gradcam")


def report(model: nn.Module, **options: object) -> dict[str, tuple[str, str]]:
    return {item: (answer, remark) for item, answer, remark in lesson.explainable(model, **options)}


@pytest.mark.slow
def test_explainable_tells_what_works(squeezenet, resnet):
    found = report(squeezenet)
    assert {item for item, (answer, _) in found.items() if answer == "no"} == {
        "cam", "attention_rollout", "activations without a module or rule",
    }  # fmt: skip
    assert found["Grad-CAM's layer"] == ("yes", "features.12 (Fire)")
    assert report(resnet)["cam"] == ("yes", "")


def test_explainable_leaves_no_trace(tiny):
    with unchanged(tiny, torch.zeros(1)):
        report(tiny, size=(20, 24))


def test_explainable_names_functional_relus_and_what_is_missing():
    with torch.random.fork_rng():
        dense = torchvision.models.densenet121(weights=None).eval()
    found = report(dense, size=(64, 64))
    assert found["activations without a module or rule"] == ("yes", "Relu (1 times)")
    assert found["guided_backpropagation"][0] == "no"
    assert found["grad_cam"][0] == "yes"
    assert "features.norm5" in found["Grad-CAM's layer"][1]


def test_repaired_networks():
    shown = ("vanilla_gradient", "grad_cam", "cam", "guided_backpropagation", "lrp")
    rows = {name: [report(network, size=(24, 24))[item][0] for item in shown]
            for name, network in lesson.adapted_examples().items()}  # fmt: skip
    assert rows == {
        "two inputs": ["no"] * 5, "two inputs, adapted": ["yes", "no", "no", "yes", "no"],
        "segmentation": ["no"] * 5, "segmentation, adapted": ["yes", "yes", "no", "yes", "yes"],
        "F.relu": ["yes", "yes", "no", "no", "yes"], "F.relu, as modules": ["yes"] * 5,
    }  # fmt: skip


def test_an_adapter_keeps_the_networks_mode():
    network = nn.Conv2d(3, 2, 1)
    assert lesson.Adapter(network, lambda net, x: net(x)).training
    assert not lesson.Adapter(network.eval(), lambda net, x: net(x)).training


def test_adapted_networks_keep_the_contract():
    """Batch = singles, targets of every form, refusals: through an adapter as without."""
    images = torch.randn(3, 3, 10, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    networks, region = lesson.adapted_examples(), torch.zeros(10, 12, dtype=torch.bool)
    region[2, 3] = region[7, 9] = True
    adapted = lesson.Adapter(networks["segmentation"], partial(lesson.mean_inside, region=region))
    for network in (networks["two inputs, adapted"], adapted, networks["F.relu, as modules"]):
        assert_common_contract(vanilla_gradient, network.double(), images, classes=4)


@pytest.fixture(scope="module")
def small_classifier() -> nn.Module:
    return lesson.CamClassifier("squeezenet1_1", 3)


def test_cam_classifier_is_a_network_that_cam_explains(small_classifier, photos):
    model = copy.deepcopy(small_classifier)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(model.fc.weight)
        nn.init.normal_(model.fc.bias)
    cam = lesson_05.cam(model, photos, [0, 2], upsample=False)
    scores = model(photos)[[0, 1], [0, 2]]
    torch.testing.assert_close(cam.mean(dim=(1, 2)) + model.fc.bias[[0, 2]], scores, rtol=1e-4, atol=1e-4)
    scaled = cam.relu() / cam[0].numel()
    assert relative_error(lesson_05.grad_cam(model, photos, [0, 2], upsample=False), scaled) < 1e-4


def test_cam_classifier_on_the_embedded_backbones(resnet, photos):
    model = lesson.CamClassifier("resnet50", 2)
    assert model.fc.in_features == 2048
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        pooled = model.features(photos).mean(dim=(2, 3))
        torch.testing.assert_close(resnet.fc(pooled), resnet(photos), rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_vgg_loses_its_last_pooling(monkeypatch, photos):
    def random_vgg(_name: str) -> nn.Module:
        with torch.random.fork_rng():
            return torchvision.models.vgg11(weights=None).eval().requires_grad_(False)

    monkeypatch.setattr(lesson, "load_model", random_vgg)
    model = lesson.CamClassifier("vgg11", 2)
    nn.init.ones_(model.fc.weight)
    assert lesson_05.cam(model, photos[:1], 0, upsample=False).shape == (1, 14, 14)


def test_a_score_at_each_cell_is_the_classifier_again(small_classifier, photos):
    """The mean of the cells' scores is the logit: CAM is a segmentation whose mean was asked for."""
    model = copy.deepcopy(small_classifier)
    nn.init.normal_(model.fc.weight, generator=torch.Generator().manual_seed(1))
    cells = nn.Conv2d(512, 3, 1).requires_grad_(False)
    cells.weight.copy_(model.fc.weight[:, :, None, None])
    cells.bias.copy_(model.fc.bias)
    everywhere = torch.ones(13, 13, dtype=torch.bool)
    scores = nn.Sequential(model.features, cells).eval()
    adapted = lesson.Adapter(scores, partial(lesson.mean_inside, region=everywhere))
    with torch.no_grad():
        torch.testing.assert_close(adapted(photos), model(photos), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_cats_and_dogs_from_the_committed_head():
    model, notes = lesson.cats_against_dogs()
    assert notes["classes"] == ["cat", "dog"]
    table = torch.tensor(notes["confusion"])
    assert table.sum() == 200
    assert table.diag().sum() >= 198
    assert lesson.HEAD.stat().st_size < 50_000
    images = torch.cat([preprocess_image(load_image(name)) for name in ("cat.jpg", "dog.jpg")])
    assert model(images).argmax(dim=1).tolist() == [0, 1]
    cam = lesson_05.cam(model, images, 0, upsample=False)
    torch.testing.assert_close(lesson_05.cam(model, images, 1, upsample=False), -cam, rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def vgg() -> nn.Module:
    return lesson.CamClassifier("vgg_cats_dogs")


def test_the_small_vgg_comes_with_its_head(vgg):
    images = torch.cat([preprocess_image(load_image(name)) for name in ("cat.jpg", "dog.jpg")])
    logits = vgg(images)
    assert logits.argmax(dim=1).tolist() == [0, 1]
    torch.testing.assert_close(logits, load_vgg()(images))
    assert CHECKPOINT.stat().st_size < 20_000_000
    assert "# 189 of 200 test pictures right" in CHECKPOINT.with_suffix(".csv").read_text()
    other = lesson.CamClassifier("vgg_cats_dogs", 5)
    assert other.fc.weight.shape == (5, 256)
    assert not other.fc.weight.any()
    assert torch.equal(other.features(images[:1]), vgg.features(images[:1]))


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_every_method_that_the_lesson_shows_agrees_with_its_definition_on_the_small_vgg(vgg, photos):
    """CAM and bias are the logit, Grad-CAM is CAM's positive part, LRP's zero rule is gradient x input."""
    found = vgg(photos).argmax(dim=1)
    logits, cells = vgg(photos).max(dim=1).values, 14 * 14
    cam = lesson_05.cam(vgg, photos, found, upsample=False)
    assert cam.shape[1:] == (14, 14)
    torch.testing.assert_close(cam.mean(dim=(1, 2)) + vgg.fc.bias[found], logits, rtol=1e-4, atol=1e-4)
    assert relative_error(lesson_05.grad_cam(vgg, photos, found, upsample=False), cam.relu() / cells) < 1e-4
    product = photos * vanilla_gradient(vgg, photos, found)
    assert relative_error(lrp(vgg, photos, found, rule="zero"), product) < 1e-4
    guided = captum.attr.GuidedBackprop(vgg).attribute(photos.clone().requires_grad_(), found)
    assert relative_error(lesson.lesson_06.guided_backpropagation(vgg, photos, found), guided) < 1e-4
