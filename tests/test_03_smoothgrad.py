"""Lesson 03: SmoothGrad."""

import captum.attr
import numpy as np
import pytest
import torch
from conftest import PixelFunction, assert_common_contract, assert_leaves_no_trace, relative_error

from utils import import_lesson

lesson = import_lesson("03_smoothgrad")
smoothgrad = lesson.smoothgrad
vanilla_gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
SQUARE = PixelFunction(lambda x: x.pow(2).sum((1, 2, 3))[:, None])  # gradient 2x: the noise shows as it is


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_of(images: torch.Tensor, n: int, seed: int = 0) -> torch.Tensor:
    """The standard normal draws that a generator with this seed gives, one sample after the other."""
    generator = seeded(seed)
    return torch.stack([torch.randn(images.shape[1:], generator=generator) for _ in range(n)]).to(images)


@pytest.mark.parametrize("statistic", ["mean", "mean_square", "variance"])
def test_slow_restatement(tiny, small_images, statistic):
    n, level = 7, 0.2
    noise = noise_of(small_images, n, seed=5)
    expected = torch.zeros_like(small_images)
    for b in range(3):
        image = small_images[b : b + 1]
        sigma = level * (image.max() - image.min())
        gradients = torch.stack([vanilla_gradient(tiny, image + sigma * noise[i], 1)[0] for i in range(n)])
        moments = {
            "mean": gradients.mean(0),
            "mean_square": (gradients**2).mean(0),
            "variance": gradients.var(0, unbiased=False),
        }
        expected[b] = moments[statistic]
    ours = smoothgrad(tiny, small_images, 1, n_samples=n, noise_level=level, statistic=statistic, generator=seeded(5))
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_without_noise_it_is_the_gradient(tiny, small_images, n_samples):
    smooth = smoothgrad(tiny, small_images, 2, n_samples=n_samples, noise_level=0)
    torch.testing.assert_close(smooth, vanilla_gradient(tiny, small_images, 2))


def test_without_noise_the_variance_is_zero(tiny, small_images):
    spread = smoothgrad(tiny, small_images, 2, n_samples=4, noise_level=0, statistic="variance")
    assert spread.min() >= 0
    assert spread.max() < 1e-15


def test_a_constant_image_gets_no_noise(tiny):
    grey = torch.full((1, 3, 7, 9), 0.5, dtype=torch.float64)
    torch.testing.assert_close(smoothgrad(tiny, grey, 0, n_samples=3), vanilla_gradient(tiny, grey, 0))


def test_sigma_is_noise_level_times_each_images_own_range():
    """The variance of 2 (x + sigma e) is 4 sigma^2, for images whose ranges differ by a factor of 100."""
    images = torch.stack([torch.linspace(0, scale, 30_000).reshape(3, 100, 100) for scale in (0.1, 1.0, 10.0)])
    spread = smoothgrad(SQUARE, images, 0, n_samples=40, noise_level=0.15, statistic="variance")
    sigma = (spread.mean(dim=(1, 2, 3)) / 4).sqrt()
    torch.testing.assert_close(sigma, 0.15 * torch.tensor([0.1, 1.0, 10.0]), rtol=0.03, atol=0)


def test_the_noise_has_mean_zero():
    images = torch.linspace(-1, 1, 30_000).reshape(1, 3, 100, 100)
    shift = (smoothgrad(SQUARE, images, n_samples=25) - 2 * images).mean().item()
    assert abs(shift) < 4 * 2 * 0.15 * 2 / (25 * 30_000) ** 0.5


def test_noise_is_fresh_for_each_sample():
    """Reused noise would leave the error of one sample; fresh noise divides its variance by n."""
    images = torch.linspace(-1, 1, 30_000).reshape(1, 3, 100, 100)
    for n in (4, 64):
        error = (smoothgrad(SQUARE, images, n_samples=n, batch_size=3) - 2 * images).var().item()
        assert error == pytest.approx((2 * 0.15 * 2) ** 2 / n, rel=0.1)


def test_batch_size_does_not_matter(tiny, small_images):
    maps = [smoothgrad(tiny, small_images, n_samples=7, batch_size=size) for size in (1, 3, 7, 100)]
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0])


def test_generator(tiny, small_images):
    default = smoothgrad(tiny, small_images, n_samples=3)
    assert torch.equal(default, smoothgrad(tiny, small_images, n_samples=3, generator=seeded(0)))
    assert torch.equal(default, smoothgrad(tiny, small_images, n_samples=3))
    assert not torch.allclose(default, smoothgrad(tiny, small_images, n_samples=3, generator=seeded(1)))


def test_a_generator_given_goes_on(tiny, small_images):
    generator = seeded(4)
    halves = [smoothgrad(tiny, small_images, 0, n_samples=n, generator=generator) for n in (2, 4)]
    whole = smoothgrad(tiny, small_images, 0, n_samples=6, generator=seeded(4))
    torch.testing.assert_close((2 * halves[0] + 4 * halves[1]) / 6, whole)


def test_running_means_are_smoothgrad(tiny, small_images):
    means = lesson.running_means(tiny, small_images[:1], 1, (1, 3, 8), 0.1, seed=2)
    assert list(means) == [1, 3, 8]
    for n, mean in means.items():
        whole = smoothgrad(tiny, small_images[:1], 1, n_samples=n, noise_level=0.1, generator=seeded(2))
        torch.testing.assert_close(mean, whole)


def test_running_means_compute_no_gradient_twice(small_images):
    seen = []
    model = PixelFunction(lambda x: (seen.append(len(x)), x.pow(2).sum((1, 2, 3))[:, None])[1])
    lesson.running_means(model, small_images[:1], 0, (1, 3, 8), 0.1, seed=2)
    assert sum(seen) == 8 + 3                                          # and one look at the clean image a call


def test_the_target_is_the_clean_images_top_class(small_images):
    """A class that only wins under noise must not be explained."""
    model = PixelFunction(lambda x: torch.stack([x.mean((1, 2, 3)) * 0 + 1, x.std((1, 2, 3)) * 5], dim=1))
    grey = torch.full((1, 3, 4, 4), 0.3, dtype=torch.float64)
    grey[0, 0, 0, 0] = 0.9
    assert model(grey).argmax() == 0
    assert smoothgrad(model, grey, n_samples=5, noise_level=2.0).abs().max() == 0


def test_signal_and_noise_by_hand():
    """The product of the runs, and half their squared distance, each image on its own."""
    first = torch.tensor([[3.0, 1.0, -1.0, 0.0], [1.0, 0.0, 0.0, 2.0]]).reshape(2, 1, 2, 2)
    second = torch.tensor([[2.0, 3.0, 1.0, 5.0], [1.0, 0.0, 0.0, -2.0]]).reshape(2, 1, 2, 2)
    signal, noise = lesson.signal_and_noise(first, second)
    assert signal.tolist() == [6 + 3 - 1, 1 - 4]
    assert noise.tolist() == [(1 + 4 + 4 + 25) / 2, 16 / 2]


def test_signal_and_noise_are_without_bias():
    """Known map, known noise, 4,000 pairs of runs: right on average, where dividing by a run's own length is not."""
    generator, pairs, sigma = seeded(), 4_000, 0.8
    m = torch.linspace(-1, 1, 48, dtype=torch.float64).reshape(1, 3, 4, 4)
    A, B = (m + sigma * torch.randn(pairs, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    signal, noise = lesson.signal_and_noise(A, B)
    length, energy = m.square().sum().item(), 48 * sigma**2                                  # 16.7 and 30.7
    for found, true in ((signal, length), (noise, energy)):
        assert abs(found.mean().item() - true) < 4 * found.std().item() / pairs**0.5
    assert A.square().sum(dim=(1, 2, 3)).mean().item() == pytest.approx(length + energy, rel=0.02)


def test_signal_and_noise_of_real_runs_in_closed_form():
    """The gradient 2 (x + sigma e) has the map 2x, and n samples leave 4 sigma^2 / n in each of the N values."""
    images = torch.linspace(-1, 1, 30_000, dtype=torch.float64).reshape(1, 3, 100, 100)
    for n in (1, 4, 16):
        runs = (smoothgrad(SQUARE, images, 0, n_samples=n, generator=seeded(seed)) for seed in (0, 1))
        signal, noise = lesson.signal_and_noise(*runs)
        assert signal.item() == pytest.approx(4 * images.square().sum().item(), rel=0.03)
        assert noise.item() == pytest.approx(4 * 0.3**2 / n * 30_000, rel=0.03)


def test_vargrad_of_one_run_promises_the_noise_that_two_runs_find(tiny, small_images):
    """sum of the variance / (n - 1), on average over many pairs of runs of a real (small) network."""
    n, pairs = 3, 60
    found, promised = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for seed in range(pairs):
        runs = [smoothgrad(tiny, small_images, 1, n_samples=n, generator=seeded(2 * seed + k)) for k in (0, 1)]
        spread = smoothgrad(tiny, small_images, 1, n_samples=n, statistic="variance", generator=seeded(2 * seed))
        found += lesson.signal_and_noise(*runs)[1] / pairs
        promised += spread.sum(dim=(1, 2, 3)) / (n - 1) / pairs
    torch.testing.assert_close(found, promised, rtol=0.25, atol=0)


def test_relative_error():
    signal, noise = torch.tensor([4.0, 4.0, 0.0, -1.0]), torch.tensor([1.0, 16.0, 1.0, 1.0])
    assert lesson.relative_error(signal, noise).tolist() == [0.5, 2.0, float("inf"), float("inf")]


def test_samples_needed():
    """A third of the error takes nine times the samples; rounded up."""
    assert lesson.samples_needed(0.6, 10, 0.2) in (90, 91)                                   # 0.6 / 0.2 is not quite 3
    assert lesson.samples_needed(1.039, 16, 0.1) == 1728
    assert lesson.samples_needed(0.05, 16, 0.1) == 4


def test_the_average_of_the_idea_keeps_a_constant_and_a_trend():
    assert lesson.averaged(np.full(9, 3.0), 2).tolist() == pytest.approx([3.0] * 9)
    line = lesson.averaged(np.arange(41.0), 2)
    assert line[20] == pytest.approx(20)
    rough = np.tile([1.0, -1.0], 20)
    assert abs(lesson.averaged(rough, 3)[20]) < 0.01


def test_a_curve_without_a_map_is_drawn_without_extrapolation():
    figure = lesson.figure_errors({0.15: {1: 2.0, 4: 1.0}, 0.3: {1: float("inf"), 4: float("inf")}})
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["noise level 0.15, measured", "extrapolated: n = 400", "noise level 0.3, measured"]


@pytest.mark.parametrize(
    "options",
    [
        {"n_samples": 0}, {"n_samples": 2.5}, {"batch_size": 0}, {"noise_level": -0.1},
        {"noise_level": float("nan")}, {"statistic": "median"},
    ],
)
def test_options_out_of_range_are_refused(tiny, small_images, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        smoothgrad(tiny, small_images, **options)


def test_common_contract(tiny, small_images):
    assert_common_contract(lambda *args: smoothgrad(*args, n_samples=4, batch_size=3), tiny, small_images)


def test_leaves_no_trace(tiny, small_images):
    assert_leaves_no_trace(lambda *args: smoothgrad(*args, n_samples=2), tiny, small_images)


@pytest.mark.parametrize("network", ["squeezenet", pytest.param("resnet", marks=pytest.mark.slow)])
def test_captum_agrees_on_the_same_noisy_images(network, photos, request):
    """captum draws its own noise, so it gets ours one image at a time; averaging its maps must give ours."""
    model, n = request.getfixturevalue(network), 3
    image = photos[:1]
    sigma = 0.15 * (image.max() - image.min())
    saliency = captum.attr.Saliency(model)
    theirs = sum(
        saliency.attribute((image + sigma * noise).requires_grad_(), 235, abs=False)
        for noise in noise_of(image, n)
    ) / n
    assert relative_error(smoothgrad(model, image, 235, n_samples=n), theirs) < 1e-4


def test_captum_noise_tunnel_has_the_same_mean_and_spread():
    """An independent implementation with its own noise: equal moments within the error of sampling."""
    image = torch.linspace(-1, 1, 30_000).reshape(1, 3, 100, 100)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(SQUARE))
    for statistic, name in {"mean_square": "smoothgrad_sq", "variance": "vargrad"}.items():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            theirs = tunnel.attribute(
                image.clone().requires_grad_(), nt_type=name, nt_samples=40, stdevs=0.3, target=0, abs=False
            )
        ours = smoothgrad(SQUARE, image, 0, n_samples=40, statistic=statistic)
        assert ours.mean().item() == pytest.approx(theirs.mean().item(), rel=0.01)
