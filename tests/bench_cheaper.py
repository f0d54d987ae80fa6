"""Two ways to save work that the lessons do not take, and what each would bring.

    python tests/benchmark.py --cheaper      (writes data/results/cheaper.csv and .md, some minutes)
    python tests/benchmark.py --cheaper 1    (a try with one photograph, into outputs/)

Antithetic noise: SmoothGrad over x + n and x - n in pairs, as many gradients as usual. Its error is lesson 03's, from
two runs with different noise, beside that of independent noise; both are shares of one length, the mean of two
estimates of the map's, each from two runs. A shared pass: guided Grad-CAM from one forward pass, not from one for each
of its two factors; the same map in less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd
import torch
from bench_page import machine, markdown, results, write_csv
from torch import Tensor, nn
from tqdm import tqdm

from course.checks import target_logits
from course.files import write_text
from utils import DATA_DIR, import_lesson, load_image, load_model, preprocess_image, recorded_output, upsample

lesson_03, lesson_05 = import_lesson("03_smoothgrad"), import_lesson("05_gradcam")
guided_grad_cam = import_lesson("07_guided_gradcam").guided_grad_cam
vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
NETWORKS = ("squeezenet1_1", "resnet50")
SAMPLES = 20  # the ratio of two errors that both fall as 1 / sqrt(n) does not depend on n
PHOTOS = 6
ROUNDS = 5


def in_pairs(model: nn.Module, image: Tensor, target: int, *, n_samples: int, generator: torch.Generator) -> Tensor:
    """SmoothGrad with x + n and x - n: (1, 3, H, W)."""
    noise = lesson_03.draw_noise(n_samples // 2, image, generator) * 0.15 * (image.max() - image.min())
    gradients = [vanilla_gradient(model, image + part, target) for part in torch.cat([noise, -noise]).split(10)]
    return torch.cat(gradients).mean(dim=0, keepdim=True)


def errors(model: nn.Module, image: Tensor, target: int) -> tuple[float, float]:
    """Relative error of SmoothGrad with independent noise, and in pairs."""
    signals, noises = [], []
    for method in (lesson_03.smoothgrad, in_pairs):
        runs = [method(model, image, target, n_samples=SAMPLES, generator=torch.Generator().manual_seed(seed))
                for seed in (1, 2)]  # fmt: skip
        signal, noise = lesson_03.signal_and_noise(*runs)
        signals.append(signal)
        noises.append(noise)
    signal = sum(signals) / 2                                          # both estimate the same map
    independent, paired = (lesson_03.relative_error(signal, noise).item() for noise in noises)
    return independent, paired


def shared_guided_grad_cam(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    """Guided Grad-CAM of one forward pass: a plain gradient at the layer, then the guided signal at the pixels."""
    guided = []                                                        # empty while the plain gradient is computed

    def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        output.register_hook(lambda R: R.clamp(min=0) if guided else R)

    handles = [module.register_forward_hook(hook) for module in model.modules() if isinstance(module, nn.ReLU)]
    x = images.detach().clone().requires_grad_()
    try:
        with recorded_output(lesson_05.last_conv_layer(model)) as outputs:
            score = target_logits(model(x), target).sum()
    finally:
        for handle in handles:
            handle.remove()
    A = outputs[0]
    (dA,) = torch.autograd.grad(score, A, retain_graph=True)
    guided.append(True)
    (signal,) = torch.autograd.grad(score, x)
    place = (dA.mean(dim=(2, 3), keepdim=True) * A.detach()).sum(dim=1).relu()
    return signal * upsample(place, images.shape[-2:])[:, None]


def time_share(first: Callable[[], Tensor], second: Callable[[], Tensor]) -> float:
    """Second's processor time as a share of first's: the median over rounds, after one call whose maps agree."""
    expected, found = first(), second()
    far = ((found - expected).norm() / expected.norm()).item()
    assert far < 1e-3, f"the shared pass gives another map: {far:.3g}"

    def seconds(call: Callable[[], Tensor]) -> float:
        start = time.process_time()                                    # a busy machine does not count
        call()
        return time.process_time() - start

    pairs = [(seconds(first), seconds(second)) for _ in range(ROUNDS)]
    return float(torch.tensor([b / a for a, b in pairs]).median())


def measure(count: int) -> pd.DataFrame:
    """One row for each network and photograph."""
    rows = []
    for name in NETWORKS:
        model = load_model(name)
        for photo in tqdm(sorted(DATA_DIR.glob("*.jpg"))[:count], desc=f"cheaper, {name}"):
            image = preprocess_image(load_image(photo))
            with torch.no_grad():
                target = model(image).argmax(dim=1)
            independent, paired = errors(model, image, int(target))
            share = time_share(lambda: guided_grad_cam(model, image, target),                  # noqa: B023, called here
                            lambda: shared_guided_grad_cam(model, image, target))  # noqa: B023  # fmt: skip
            rows.append([name, photo.name, independent, paired, paired / independent, share])
    columns = ["network", "image", "error_independent", "error_in_pairs", "ratio", "time_of_shared_pass"]
    return pd.DataFrame(rows, columns=columns)


def summary(table: pd.DataFrame) -> list[list[str]]:
    """Per network: median (lowest to highest) over the photographs; samples that would do the same without pairs."""
    rows = []
    for network, group in table.groupby("network", sort=False):
        texts = [f"{x.median():.2f} ({x.min():.2f} to {x.max():.2f})"
                 for x in (group["ratio"], group["ratio"] ** -2, group["time_of_shared_pass"])]  # fmt: skip
        rows.append([network, *texts, str(len(group))])
    return rows


def main(count: int | None) -> None:
    """Measure, print and write; with a number of photographs into outputs/."""
    about, folder, table = machine(), results(complete=not count), measure(count or PHOTOS)
    write_csv(folder / "cheaper.csv", table)
    header = ["network", "SmoothGrad's error in pairs / with independent noise", "samples that would do as much",
              "guided Grad-CAM's time with a shared pass / without", "photos"]  # fmt: skip
    command = f"python tests/benchmark.py --cheaper{f' {count}' if count else ''}"
    text = ("# Two savings that were not made\n\n"
            f"Median (lowest to highest) over the photographs; `{command}`, {about}."
            f" Processor time. n = {SAMPLES}, noise level 0.15.\n\n"
            f"{markdown(header, summary(table))}")  # fmt: skip
    write_text(folder / "cheaper.md", text)
    print(text)
    print(f"wrote {folder / 'cheaper.csv'} and cheaper.md")
