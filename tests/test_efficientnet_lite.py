"""The third embedded network: torchvision does not have it, so its layers are ours."""

import torch
import torch.nn.functional as F
from torch import nn

from course.efficientnet_lite import convolution
from utils import IMAGENET_MEAN, IMAGENET_STD, import_lesson, load_image, load_model, predict, preprocess_image


def test_it_knows_its_animals():
    model = load_model("efficientnet_lite0")
    for name, label, probability in (("dog.jpg", "German shepherd", 0.92), ("polar_bear.jpg", "ice bear", 0.99)):
        ((_, found, p),) = predict(model, preprocess_image(load_image(name)), k=1)[0]
        assert found == label
        assert abs(p - probability) < 0.02


def test_its_first_layer_turns_one_normalisation_into_the_other():
    model = load_model("efficientnet_lite0")
    rgb = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(model.features[0]((rgb - mean) / std), (255 * rgb - 127) / 128, rtol=1e-5, atol=1e-5)


def test_same_padding_of_tensorflow():
    """Output i of kernel k at stride 2 starts at pixel 2 i - (k - 2) // 2 of an even side."""
    for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (1, 1)):
        *padding, conv, _norm = convolution(1, 1, kernel, stride)
        nn.init.ones_(conv.weight)
        image = torch.arange(64.0).reshape(1, 1, 8, 8)
        found = nn.Sequential(*padding, conv)(image)
        before, after = (kernel - stride) // 2, (kernel - stride) - (kernel - stride) // 2
        by_hand = F.pad(image, (before, after, before, after)).unfold(2, kernel, stride).unfold(3, kernel, stride)
        torch.testing.assert_close(found, by_hand.sum(dim=(4, 5)))
        assert found.shape[-1] == 8 // stride


def test_the_course_finds_its_layers_and_activations():
    """ReLU6 modules for guided backpropagation, pooling and one linear layer for CAM, the last stage for Grad-CAM."""
    model = load_model("efficientnet_lite0")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(isinstance(module, nn.ReLU6) for module in model.modules()) == 33
    image = preprocess_image(load_image("dog.jpg"))
    lesson_05, lesson_06 = import_lesson("05_gradcam"), import_lesson("06_guided_backpropagation")
    cam = lesson_05.cam(model, image, 235, upsample=False)
    with torch.no_grad():
        score = model(image)[0, 235]
    torch.testing.assert_close(cam.mean() + model.classifier.bias[235], score, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lesson_05.grad_cam(model, image, 235, upsample=False), cam.relu() / 49)
    assert lesson_06.guided_backpropagation(model, image, 235).isfinite().all()
