"""Other devices and other kernels: maps stay where the images are, and are the same map.

Without a GPU two things can be tried. Tensors on "meta" have a device and a shape but no values, so whatever is made on
the CPU and forgotten there is found. And the CPU has a second set of kernels (without oneDNN), which add up in another
order, as another device does: ReLUs within rounding of 0 flip then, and the map moves a little.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advanced.lrp import lrp
from course.explainer import ATTRIBUTIONS, Explainer, attribution_method
from course.probes import mosaic
from utils import import_lesson, load_model

smoothgrad = import_lesson("03_smoothgrad").smoothgrad
METHODS = {**{name: attribution_method(name) for name in ATTRIBUTIONS}, "lrp": lrp}
# Length of the difference as a share of the map's; with few samples or steps, because many would average rounding out
# (measured without oneDNN: 0.0034 at most, gradient x input; class activation maps 3e-7)
BOUNDS = {name: 1e-3 if "cam" in name and "guided" not in name else 2e-2 for name in METHODS}
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def run(name: str, model: nn.Module, images: Tensor, target: object) -> Tensor:
    options = {"smoothgrad": {"n_samples": 3}, "integrated_gradients": {"n_steps": 3}}.get(name, {})
    return METHODS[name](model, images, target, **options)


# Nothing stays on the CPU


@pytest.fixture
def meta(monkeypatch) -> nn.Module:
    """SqueezeNet without values; questions for a value without one are answered with 1 or true."""
    for name, answer in (("__bool__", True), ("__int__", 1), ("__float__", 1.0), ("item", 1), ("tolist", None)):
        asked = getattr(Tensor, name)

        def answered(tensor, asked=asked, answer=answer):
            if tensor.device.type != "meta":
                return asked(tensor)
            return [1] * len(tensor) if answer is None else answer

        monkeypatch.setattr(Tensor, name, answered)
    return load_model("squeezenet1_1").to("meta")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("target", [None, 3, [3, 5]])
def test_every_method_works_where_the_images_are(name, target, meta):
    images = torch.empty(2, 3, 224, 224, device="meta")
    found = run(name, meta, images, target)
    assert found.device.type == "meta"
    assert len(found) == 2


def test_a_tensor_left_on_the_cpu_is_noticed(meta):
    """The test above would pass if "meta" did not mind."""
    images = torch.empty(2, 3, 224, 224, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        images + torch.ones(2, 3, 224, 224)
    with pytest.raises((RuntimeError, NotImplementedError)):
        meta(images).gather(1, torch.zeros(2, 1, dtype=torch.long)) + torch.ones(2, 1)


# The same map with other kernels


# TF32 rounds to 10 bits where float32 has 23; bfloat16, with 7, moves a gradient by a third of its length
WIDER = {"cpu without oneDNN": 1, "cuda": 1, "cuda, TF32": 20}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kernels", [pytest.param(k, marks=NO_GPU) if "cuda" in k else k for k in WIDER])
def test_the_map_is_the_same_with_other_kernels(name, kernels, squeezenet, photos, monkeypatch):
    expected, device = run(name, squeezenet, photos, [235, 88]), kernels[:4] if "cuda" in kernels else "cpu"
    if device == "cpu":
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    else:
        for part in (torch.backends.cudnn, torch.backends.cuda.matmul):
            monkeypatch.setattr(part, "allow_tf32", "TF32" in kernels)
    found = run(name, load_model("squeezenet1_1", device), photos.to(device), [235, 88]).cpu()
    error = (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert (error < WIDER[kernels] * BOUNDS[name]).all(), error
    assert (error > 0).all(), "the kernels were the same ones"


@NO_GPU
@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_noise_may_come_from_a_generator_of_either_device(where, photos):
    model = load_model("squeezenet1_1", "cuda")
    maps = [smoothgrad(model, photos.cuda(), 88, n_samples=2, generator=torch.Generator(where).manual_seed(3))
            for _ in range(2)]  # fmt: skip
    assert maps[0].device.type == "cuda"
    assert (maps[0] - maps[1]).norm() < 1e-2 * maps[0].norm()


@NO_GPU
@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_on_a_gpu(name, photos):
    if name == "lrp":
        pytest.skip("LRP's rules need float32")
    model = load_model("squeezenet1_1", "cuda")
    full, half = (next(iter(Explainer(model, name, bfloat16=b).explain(photos[:1], 235))) for b in (False, True))
    assert torch.cosine_similarity(full.map.flatten(), half.map.flatten(), dim=0) > 0.7


@NO_GPU
def test_a_batch_on_a_gpu_is_what_its_images_are(photos):
    """Loosely: cuDNN may choose another kernel for another size of the batch."""
    model = load_model("squeezenet1_1", "cuda")
    gradient = METHODS["vanilla_gradient"]
    together = gradient(model, photos.cuda(), [235, 88])
    alone = torch.cat([gradient(model, photos[i : i + 1].cuda(), label) for i, label in enumerate((235, 88))])
    assert ((together - alone).flatten(1).norm(dim=1) < 2e-2 * alone.flatten(1).norm(dim=1)).all()


def test_a_mosaic_is_where_its_pictures_are(photos):
    four = torch.cat([photos, photos])
    assert mosaic(four).shape == (1, 3, 224, 224)
    if torch.cuda.is_available():
        torch.testing.assert_close(mosaic(four.cuda()).cpu(), mosaic(four))
