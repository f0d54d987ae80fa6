"""Networks of your own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from advanced.attention_rollout import attention_rollout
from advanced.lrp import lrp
from course.checks import (
    one_line,
)
from course.figures import show_map, show_photo
from course.paths import DATA_DIR
from course.pictures import displayable, load_image
from utils import (
    import_lesson,
    load_model,
    preprocess_image,
)

lesson_05 = import_lesson("05_gradcam")
lesson_06 = import_lesson("06_guided_backpropagation")
lesson_07 = import_lesson("07_guided_gradcam")


def probes() -> dict[str, Callable[[nn.Module, Tensor], object]]:
    """Every method of the course, as cheap as it gets."""
    lesson_01, lesson_02 = import_lesson("01_vanilla_gradient_saliency"), import_lesson("02_gradient_input_saliency")
    lesson_03, lesson_04 = import_lesson("03_smoothgrad"), import_lesson("04_integrated_gradients")
    return {
        "vanilla_gradient": lesson_01.vanilla_gradient,
        "gradient_times_input": lesson_02.gradient_times_input,
        "smoothgrad": partial(lesson_03.smoothgrad, n_samples=1),
        "integrated_gradients": partial(lesson_04.integrated_gradients, n_steps=1),
        "grad_cam": lesson_05.grad_cam,
        "cam": lesson_05.cam,
        "guided_backpropagation": lesson_06.guided_backpropagation,
        "deconvnet": lesson_06.deconvnet,
        "guided_grad_cam": lesson_07.guided_grad_cam,
        "lrp": lrp,
        "attention_rollout": attention_rollout,
    }


def explainable(model: nn.Module, size: tuple[int, int] = (224, 224)) -> list[tuple[str, str, str]]:
    """What of the course applies to a classifier?

    Args:
        model: any nn.Module in eval mode, (1, 3, H, W) -> logits (1, K).
        size: (H, W) of the images it takes.

    Returns:
        Rows (item, "yes" or "no", remark): one a method, with its own sentence where it refuses; then the layer that
        Grad-CAM takes, whether CAM holds, and the activations that hooks do not see. Print them with print_table.
    """
    weight = next(model.parameters(), torch.empty(0))
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    image, rows = noise.to(weight), []
    for name, method in probes().items():
        try:
            method(model, image)
            rows.append((name, "yes", ""))
        except Exception as error:  # whatever the model or the method has against it is the answer
            rows.append((name, "no", one_line(error)))
    answers = {name: (answer, remark) for name, answer, remark in rows}
    try:
        layer = lesson_05.last_conv_layer(model)
        name = next(name for name, module in model.named_modules() if module is layer)
        rows.append(("Grad-CAM's layer", "yes", f"{name} ({type(layer).__name__})"))
    except ValueError as error:
        rows.append(("Grad-CAM's layer", "no", one_line(error)))
    unseen = answers["guided_backpropagation"][1]
    hidden = unseen.partition("also ran ")[2].partition(", as a function")[0]
    rows.append(("activations without a module or rule", "yes" if hidden else "no", hidden))
    return rows


class CamClassifier(nn.Module):
    """Convolutional features, global average pooling, one linear layer: a network that CAM explains exactly.

    Args:
        backbone: "resnet50", "squeezenet1_1" (embedded), or one with `features`, "vgg16" (torchvision's weights).
        num_classes: of the new linear layer, whose weights are zero until they are trained.
    """

    def __init__(self, backbone: str = "resnet50", num_classes: int = 2) -> None:
        super().__init__()
        network = load_model(backbone)
        if hasattr(network, "features"):
            stages = list(network.features.named_children())
            stages = stages[:-1] if isinstance(stages[-1][1], nn.MaxPool2d) else stages           # VGG's last pooling
        else:
            stages = [(name, part) for name, part in network.named_children() if name not in ("avgpool", "fc")]
        self.features = nn.Sequential(OrderedDict(stages))
        with torch.no_grad():
            channels = self.features(torch.zeros(1, 3, 64, 64)).shape[1]
        self.fc = nn.Linear(channels, num_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.fc(self.features(images).mean(dim=(2, 3)))


HEAD = DATA_DIR / "weights" / "cats_dogs_head.pt"


def cats_against_dogs() -> tuple[CamClassifier, dict]:
    """The classifier whose head lies in data/weights, and the notes beside it."""
    content = torch.load(HEAD, weights_only=True)
    model = CamClassifier(content["backbone"], len(content["classes"]))
    model.fc.weight.copy_(content["weight"])
    model.fc.bias.copy_(content["bias"])
    return model, content


def figure_cats_and_dogs(model: CamClassifier, notes: dict) -> Figure:
    """CAM, Grad-CAM and the gradient of the predicted class on two photographs, and the measured confusion matrix."""
    classes, saliency = notes["classes"], import_lesson("01_vanilla_gradient_saliency").saliency_map
    figure, axes = plt.subplots(2, 5, figsize=(16, 6.8), layout="constrained")
    for row, name in zip(axes, ("cat.jpg", "dog.jpg"), strict=True):
        image = preprocess_image(load_image(name)).to(model.fc.weight.device)
        photo, label = displayable(image)[0], int(model(image).argmax())
        p = model(image).softmax(dim=1)[0, label]
        show_photo(row[0], photo, f"{name}: {classes[label]} {p:.2f}")
        show_map(row[1], lesson_05.cam(model, image, label)[0], title=f"CAM, {classes[label]} (signed)", photo=photo)
        show_map(row[2], lesson_05.grad_cam(model, image, label)[0], title="Grad-CAM = ReLU(CAM) / 49", photo=photo)
        show_map(row[3], saliency(model, image, label)[0], title="gradient")
    table, axis = torch.tensor(notes["confusion"]), axes[0, 4]
    axis.imshow(table.numpy(), cmap="Blues")
    for i, counts in enumerate(table.tolist()):
        for j, count in enumerate(counts):
            axis.text(j, i, count, ha="center", va="center", color="white" if count > table.max() / 2 else "black")
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="predicted", ylabel="right", title=f"{int(table.sum())} test pictures")
    axes[1, 4].set_axis_off()
    figure.suptitle("Cats against dogs: one linear layer on pooled features")
    return figure


class Adapter(nn.Module):
    """A network with another way to call it: call(network, images) -> logits (B, K)."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        return self.call(self.network, images)


class TwoInputs(nn.Module):
    """An example: a picture and a number, and ReLU as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(9, 4)

    def forward(self, images: Tensor, age: Tensor) -> Tensor:
        """(B, 3, H, W), (B, 1) -> (B, 4)."""
        return self.fc(torch.cat([F.relu(self.conv(images)).mean(dim=(2, 3)), age], dim=1))


class Segmenter(nn.Module):
    """An example: a score for each class at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4, H, W)."""
        return self.layers(images)


def adapted_examples() -> list[list]:
    """Rows for a table: three networks before and after, and which of three methods take them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        two, segmenter = TwoInputs().eval(), Segmenter().eval()
    networks = {
        "two inputs": two,
        "two inputs, adapted": Adapter(two, lambda net, x: net(x, torch.ones(len(x), 1))),
        "segmentation": segmenter,
        "segmentation, adapted": Adapter(segmenter, lambda net, x: net(x)[..., 8:16, 8:16].mean(dim=(2, 3))),
    }
    rows = []
    for name, network in networks.items():
        answers = {item: answer for item, answer, _ in explainable(network, size=(24, 24))}
        rows.append([name, *(answers[item] for item in ("vanilla_gradient", "guided_backpropagation", "lrp"))])
    return rows
