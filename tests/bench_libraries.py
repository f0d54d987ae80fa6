"""Every method as ours and three libraries' users call it, and the check that their maps agree.

The libraries get the network as their users have it, torchvision's ResNet-50 in eval mode; ours is the one that
load_model prepares (batch norm folded, frozen, channels_last). Same weights, images, classes and settings.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from course.explainer import attribution_method
from course.weights import in_bfloat16, put_stride_in_first_convolution, read_embedded
from utils import load_image, load_model, normalize_map, preprocess_image

Call = Callable[[Tensor, Tensor], Tensor]  # images, their classes -> maps
SAMPLES = 50  # of SmoothGrad, and steps of Integrated Gradients
BATCH = ("dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg")  # twice, for eight
# |theirs - ours| / |ours| at most. The order of sums differs, so some ReLUs near 0 are on one side in one network and
# on the other in the other, which a gradient feels more than a sum over places or samples
TOLERANCE = {"vanilla_gradient": 0.05, "gradient_times_input": 0.05, "smoothgrad": 0.1}
OTHERS = 0.02


# Who is compared. Each gives the call of a method, on a network of its own, or None.


def ours(method: str, *, half: bool = False) -> Call | None:
    """This course, on the network that load_model prepares."""
    model = in_bfloat16(load_model()) if half else load_model()
    if method == "forward_pass":
        return lambda images, target: forward(model, images)
    if method == "lrp":
        from advanced.lrp import lrp

        return partial(lrp, model)
    return partial(attribution_method(method), model)


def torchvisions(method: str) -> Call | None:
    """The plain network; it has no methods."""
    model = plain_resnet50()
    return (lambda images, target: forward(model, images)) if method == "forward_pass" else None


def captums(method: str) -> Call | None:
    """captum. Its LRP refuses a network with batch norm."""
    import captum.attr as captum

    warnings.filterwarnings("ignore", message="Setting backward hooks")  # at every call
    model = plain_resnet50()
    tunnel, path = captum.NoiseTunnel(captum.Saliency(model)), captum.IntegratedGradients(model)
    cam, guided_cam = captum.LayerGradCam(model, model.layer4), captum.GuidedGradCam(model, model.layer4)

    def smoothgrad(images: Tensor, target: Tensor) -> Tensor:
        sigma = 0.15 * (images.max() - images.min()).item()            # of one image
        return tunnel.attribute(fresh(images), nt_samples=SAMPLES, nt_samples_batch_size=10, stdevs=sigma,
                                target=target, abs=False)  # fmt: skip

    def grad_cam(images: Tensor, target: Tensor) -> Tensor:
        maps = cam.attribute(fresh(images), target, relu_attributions=True)
        return captum.LayerAttribution.interpolate(maps, tuple(images.shape[-2:]), "bilinear")[:, 0]

    return {
        "vanilla_gradient": lambda x, target: captum.Saliency(model).attribute(fresh(x), target, abs=False),
        "gradient_times_input": lambda x, target: captum.InputXGradient(model).attribute(fresh(x), target),
        "guided_backpropagation": lambda x, target: captum.GuidedBackprop(model).attribute(fresh(x), target),
        "grad_cam": grad_cam,
        "guided_grad_cam": lambda x, t: guided_cam.attribute(fresh(x), t, interpolate_mode="bilinear"),
        "smoothgrad": smoothgrad,
        "integrated_gradients": lambda x, t: path.attribute(x, target=t, n_steps=SAMPLES, internal_batch_size=10),
    }.get(method)


def grad_cams(method: str) -> Call | None:
    """pytorch-grad-cam. Its guided backpropagation takes one image at a time."""
    from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = plain_resnet50()
    cam, guided = GradCAM(model=model, target_layers=[model.layer4]), GuidedBackpropReLUModel(model=model)

    def grad_cam(images: Tensor, target: Tensor) -> Tensor:
        return torch.from_numpy(cam(input_tensor=images, targets=[ClassifierOutputTarget(int(t)) for t in target]))

    def guided_backpropagation(images: Tensor, target: Tensor) -> Tensor:
        pairs = zip(images, target.tolist(), strict=True)
        return torch.stack([torch.from_numpy(guided(fresh(x[None]), t)).permute(2, 0, 1) for x, t in pairs])

    return {
        "grad_cam": grad_cam, "guided_backpropagation": guided_backpropagation,
        "guided_grad_cam": lambda x, target: guided_backpropagation(x, target) * grad_cam(x, target)[:, None],
    }.get(method)  # fmt: skip


def zennits(method: str) -> Call | None:
    """zennit, with its rules put into the network once, not at every call. It takes samples and steps one by one."""
    from zennit.attribution import Gradient, IntegratedGradients, SmoothGrad
    from zennit.composites import EpsilonPlus, GuidedBackprop
    from zennit.torchvision import ResNetCanonizer

    model = plain_resnet50()
    if method == "guided_backpropagation":
        GuidedBackprop().register(model)
    elif method == "lrp":
        from advanced.lrp import EPSILON, TINY, sign

        def stabilized(z: Tensor) -> Tensor:                           # as our epsilon_rule
            size = z.flatten(1).square().mean(dim=1).sqrt().reshape(-1, *[1] * (z.ndim - 1))
            return sign(z) * (z.abs() + EPSILON * size + TINY)

        EpsilonPlus(epsilon=stabilized, canonizers=[ResNetCanonizer()]).register(model)
    gradient = Gradient(model)
    attributor = {
        "vanilla_gradient": gradient, "guided_backpropagation": gradient, "lrp": gradient,
        "smoothgrad": SmoothGrad(model, noise_level=0.15, n_iter=SAMPLES),
        "integrated_gradients": IntegratedGradients(model, n_iter=SAMPLES),
    }.get(method)  # fmt: skip

    def call(images: Tensor, target: Tensor) -> Tensor:
        chosen = F.one_hot(target, 1000).to(images)
        return attributor(images, (lambda logits: logits * chosen) if method == "lrp" else chosen)[1]

    return attributor and call


# Name -> (its calls, its package)
LIBRARIES = {
    "ours": (ours, "torch"), "ours in bfloat16": (partial(ours, half=True), "torch"),
    "torchvision": (torchvisions, "torchvision"), "captum": (captums, "captum"),
    "pytorch-grad-cam": (grad_cams, "grad-cam"), "zennit": (zennits, "zennit"),
}  # fmt: skip
MODULES = {"grad-cam": "pytorch_grad_cam"}  # where a package's name is not its module's


def plain_resnet50() -> nn.Module:
    """The embedded network without load_model's preparation, as torchvision would build it."""
    model = torchvision.models.resnet50()
    put_stride_in_first_convolution(model)
    model.load_state_dict(read_embedded("resnet50"), strict=False)  # it has no count of batches seen
    return model.eval()


@torch.inference_mode()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Logits, as a network in use computes them."""
    return model(images)


def fresh(images: Tensor) -> Tensor:
    """A copy that wants a gradient, as the libraries ask for."""
    return images.clone().requires_grad_()


def pictures(count: int) -> Tensor:
    """The photographs: (count, 3, 224, 224)."""
    return torch.cat([preprocess_image(load_image(name)) for name in (BATCH * 2)[:count]])


def installed() -> set[str]:
    """The packages that are there."""
    return {package for _, package in LIBRARIES.values() if importlib.util.find_spec(MODULES.get(package, package))}


# Do they agree?


def distance(theirs: Tensor, expected: Tensor) -> float:
    """|theirs - expected| / |expected|."""
    return ((theirs - expected).norm() / expected.norm()).item()


def distance_but_for_noise(theirs: Tensor, found: Tensor, other: Tensor) -> float:
    """How far their average is from two of ours, with noise of their own: in what they share, or in length."""
    shared = (theirs * found).sum() / (other * found).sum()            # noise is independent, so it drops out
    return max(abs(shared.item() - 1), abs((theirs.norm() / found.norm()).item() - 1))


def check(method: str, library: str, theirs: Tensor, found: Tensor, images: Tensor, target: Tensor) -> None:
    """AssertionError if a library's maps are not ours."""
    if library == "ours in bfloat16":
        return                                                         # `--bfloat16` measures how far they are apart
    limit = TOLERANCE.get(method, OTHERS)
    own = partial(ours, method)
    if method == "smoothgrad":
        far = distance_but_for_noise(theirs, found, own()(images, target, generator=torch.Generator().manual_seed(1)))
    elif library == "pytorch-grad-cam" and method == "grad_cam":
        far = distance(theirs, normalize_map(found))                   # its maps are scaled to [0, 1]
    elif library == "pytorch-grad-cam" and method == "guided_grad_cam":
        cam = normalize_map(ours("grad_cam")(images, target))
        far = distance(theirs, ours("guided_backpropagation")(images, target) * cam[:, None])
    elif library == "zennit" and method == "integrated_gradients":
        far = distance(theirs, own()(images, target, rule="right", n_steps=SAMPLES))
    else:
        far = distance(theirs, found)
    assert far <= limit, f"{library}'s {method} differs from ours by {far:.3g}, more than {limit:.3g}"
