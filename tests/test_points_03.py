"""Exercises of lesson 03, with their points."""

import math

import pytest
import torch
from conftest import PixelFunction, assert_tensor, drawing, factor, over_there, seeded, unchanged

EXERCISES = {  # title, difficulty, minutes, when
    "3.1": ("Whose range?", 1, 5, "in class"),
    "3.2": ("Collect", 2, 15, "assign"),
    "3.3": ("Three statistics", 2, 10, "assign"),
    "3.4": ("Go on", 3, 15, "assign"),
    "3.5": ("Map and noise", 2, 15, "assign"),
    "3.6": ("How many samples?", 1, 5, "in class"),
    "3.7": ("A pale picture", 1, 3, "in class"),
    "3.8": ("Ten times less", 1, 3, "in class"),
    "3.9": ("The same run twice", 2, 3, "in class"),
}

SAMPLES = 400


def watched(lesson, images: torch.Tensor, options: dict) -> list[torch.Tensor]:
    """What smoothgrad sends through the network, without the first pass that finds the classes."""
    inputs = []

    def formula(x: torch.Tensor) -> torch.Tensor:
        inputs.append(x.detach().clone())
        return x.sum(dim=(2, 3))

    lesson.smoothgrad(PixelFunction(formula), images, 0, **options)
    return inputs[1:]


def seen(lesson, images: torch.Tensor, **options) -> list[torch.Tensor]:
    """The noisy copies, image by image."""
    return over_there(lesson, watched, images, options | {"batch_size": SAMPLES})


def assert_copies(copies: torch.Tensor, image: torch.Tensor, n_samples: int, noise_level: float, generator) -> None:
    """Each copy is the image plus sigma times a draw of the generator's; or minus, which is as good."""
    noise = torch.stack([torch.randn(image.shape, generator=generator) for _ in range(n_samples)]).to(image)
    added = (copies - image) / (noise_level * (image.max() - image.min()))
    assert added.any(), "what goes through the network is the image without noise"
    assert_tensor(added * (added * noise).sum().sign(), noise)


def gradients(model, image: torch.Tensor, target: int, lesson, seed: int = 0, **options) -> torch.Tensor:
    """The gradient at each noisy copy, slowly: the noise is recovered from a run on a network that records."""
    source = torch.Generator().manual_seed(seed)
    x = torch.cat(over_there(lesson, watched, image[None], options | {"generator": source}))
    assert_copies(x, image, options["n_samples"], options["noise_level"], torch.Generator().manual_seed(seed))
    x.requires_grad_()
    return torch.autograd.grad(model(x)[:, target].sum(), x)[0]


@pytest.mark.points(1, exercise="3.1")
def test_sigma_is_the_level_times_each_images_range(lesson, small_images):
    """The noise's standard deviation is a share of each image's own range, from its lowest to its highest value."""
    images = small_images + torch.tensor([0.0, 2.0, -1.0])[:, None, None]          # no colour has the whole range
    copies = seen(lesson, images, n_samples=SAMPLES, noise_level=0.2)
    for image, noisy in zip(images, copies, strict=True):
        sigma = (noisy - image).std().item()
        assert sigma == pytest.approx(0.2 * (image.max() - image.min()).item(), rel=0.05)


@pytest.mark.points(0.5, exercise="3.1")
def test_sigma_follows_the_level_and_the_range(lesson, small_images):
    """Three times the level: three times the noise. An image stretched tenfold gets ten times as much."""
    weak, strong = (seen(lesson, small_images[:1], n_samples=20, noise_level=level)[0] for level in (0.1, 0.3))
    assert_tensor(strong - small_images[0], 3 * (weak - small_images[0]))
    large = seen(lesson, 10 * small_images[:1] + 7, n_samples=20, noise_level=0.1)[0]
    assert_tensor(large - 10 * small_images[0] - 7, 10 * (weak - small_images[0]))


@pytest.mark.points(0.5, exercise="3.1")
def test_no_noise_for_a_flat_image_or_level_zero(lesson, small_images):
    """An image of one colour has no range, so its copies are equal to it; with level 0 all are."""
    images = torch.cat([torch.full_like(small_images[:1], 5), small_images[:1]])
    assert torch.equal(seen(lesson, images, n_samples=3)[0], images[:1].expand(3, -1, -1, -1))
    assert torch.equal(seen(lesson, images, n_samples=3, noise_level=0)[1], images[1:].expand(3, -1, -1, -1))


@pytest.mark.points(1, exercise="3.2")
def test_smoothgrad_is_the_mean_over_its_noisy_copies(lesson, tiny, small_images):
    """Each copy is the image plus its own noise, as strong as sigma says. The mean of the copies' gradients."""
    found = lesson.smoothgrad(tiny, small_images[1:2], 2, n_samples=7, noise_level=0.5, batch_size=3)
    expected = gradients(tiny, small_images[1], 2, lesson, n_samples=7, noise_level=0.5, batch_size=3)
    assert_tensor(found, expected.mean(dim=0, keepdim=True))


@pytest.mark.points(1, exercise="3.2")
def test_squares_are_taken_before_the_mean(lesson, tiny, small_images):
    """The mean of 1 and -1 is 0. What is the mean of their squares?"""
    options = {"n_samples": 7, "noise_level": 0.5, "batch_size": 3}
    found = lesson.smoothgrad(tiny, small_images[1:2], 2, statistic="mean_square", **options)
    expected = gradients(tiny, small_images[1], 2, lesson, **options).square()
    assert_tensor(found, expected.mean(dim=0, keepdim=True))


@pytest.mark.points(1, exercise="3.2", contract=True)
def test_images_of_a_batch_do_not_mix(lesson, tiny, small_images):
    """An image's result depends neither on the others in its batch nor on their classes, and leaves no trace."""
    options = {"n_samples": 5, "noise_level": 0.4, "batch_size": 2}
    singles = [lesson.smoothgrad(tiny, small_images[i : i + 1], i, **options) for i in range(3)]
    with unchanged(tiny, small_images):
        assert_tensor(lesson.smoothgrad(tiny, small_images, [0, 1, 2], **options), torch.cat(singles))


@pytest.mark.points(1, exercise="3.2")
def test_size_of_the_chunks_and_no_noise(lesson, tiny, small_images):
    """Chunks of 1, 4 and 6 copies give the same sum. Without noise it is the plain gradient."""
    parts = [lesson.smoothgrad(tiny, small_images, 1, n_samples=6, batch_size=size) for size in (1, 4, 6)]
    assert_tensor(parts[0], parts[2])
    assert_tensor(parts[1], parts[2])
    x = small_images.clone().requires_grad_()
    (plain,) = torch.autograd.grad(tiny(x)[:, 1].sum(), x)
    assert_tensor(lesson.smoothgrad(tiny, small_images, 1, n_samples=3, noise_level=0), plain)


@pytest.mark.points(1, exercise="3.3")
def test_mean_and_mean_square(lesson, tiny, small_images):
    """Both are means over the samples: one of the gradients, one of their squares."""
    run = {"n_samples": 5, "noise_level": 0.3, "batch_size": 2}
    samples = gradients(tiny, small_images[2], 0, lesson, **run)
    assert_tensor(lesson.smoothgrad(tiny, small_images[2:], 0, **run), samples.mean(dim=0, keepdim=True))
    found = lesson.smoothgrad(tiny, small_images[2:], 0, statistic="mean_square", **run)
    assert_tensor(found, samples.square().mean(dim=0, keepdim=True))


@pytest.mark.points(1, exercise="3.3")
def test_variance(lesson, tiny, small_images):
    """How far the gradients lie from their mean, squared, on average; divided by n, not by n - 1."""
    run = {"n_samples": 5, "noise_level": 0.3, "batch_size": 2}
    samples = gradients(tiny, small_images[2], 0, lesson, **run)
    found = lesson.smoothgrad(tiny, small_images[2:], 0, statistic="variance", **run)
    assert_tensor(found, samples.var(dim=0, unbiased=False, keepdim=True))


@pytest.mark.points(1, exercise="3.3")
def test_variance_of_a_linear_model_is_zero_and_never_less(lesson):
    """Its gradient does not move; single precision would leave some -1e-6 on large weights."""
    weights = factor(0) * torch.linspace(-3000.1, 2000.7, 24).reshape(3, 2, 4)
    model = PixelFunction(lambda x: (x * weights).sum(dim=(1, 2, 3))[:, None])
    images = torch.linspace(0, 1, 24).reshape(1, 3, 2, 4)
    variance = lesson.smoothgrad(model, images, 0, n_samples=7, batch_size=7, statistic="variance")
    assert (variance >= 0).all()
    assert (variance <= 1e-5 * weights.square()).all()
    assert_tensor(lesson.smoothgrad(model, images, 0, n_samples=7), weights[None])


@pytest.mark.points(1, exercise="3.4")
def test_each_mean_is_smoothgrads(lesson, tiny, small_images):
    """After k samples the mean is what SmoothGrad gives for k samples and the same seed, whatever the class."""
    image, seed = small_images[:1], seeded(4)
    for target in range(3):
        found = lesson.running_means(tiny, image, target, [2, 5, 11], 0.3, seed=seed)
        for count in (2, 5, 11):
            generator = torch.Generator().manual_seed(seed)
            expected = lesson.smoothgrad(tiny, image, target, n_samples=count, noise_level=0.3, generator=generator)
            assert_tensor(found[count], expected)


def differentiated(lesson, image: torch.Tensor) -> list[torch.Tensor]:
    """The copies whose gradient running_means computes."""
    copies = []

    def formula(x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            copies.append(x.detach().clone())
        return x.sum(dim=(2, 3))

    lesson.running_means(PixelFunction(formula), image, 0, [3, 4, 9], 0.2, seed=0)
    return copies


@pytest.mark.points(1, exercise="3.4")
def test_no_gradient_is_computed_twice(lesson, small_images):
    """Go on where the last mean stopped. Every sample has noise of its own."""
    noisy = torch.cat(over_there(lesson, differentiated, small_images[:1]))
    assert len(noisy) == 9, f"{len(noisy)} gradients for 9 samples"
    assert len(noisy.flatten(1).unique(dim=0)) == 9, "the same noise twice"


@pytest.mark.points(1, exercise="3.4")
def test_counts_weigh_the_means(lesson, tiny, small_images):
    """One sample more hardly moves a mean of twenty."""
    found = lesson.running_means(tiny, small_images[2:], 0, [20, 21], 0.5, seed=seeded(1))
    samples = gradients(tiny, small_images[2], 0, lesson, seed=seeded(1), n_samples=21, noise_level=0.5)
    assert sorted(count for count in found if count) == [20, 21]
    assert_tensor(found[21], samples.mean(dim=0, keepdim=True))


def runs(seed: int, shape: tuple[int, ...] = (3, 3, 4, 5)) -> tuple[torch.Tensor, torch.Tensor]:
    """Two maps that share something, in double precision."""
    generator = drawing(seed)
    shared, *own = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return shared + own[0], shared + own[1]


@pytest.mark.points(1, exercise="3.5")
def test_signal_is_what_the_runs_have_in_common(lesson):
    """The sum of their products, for each image; nothing of it is divided or rooted."""
    first, second = runs(1)
    signal, _ = lesson.signal_and_noise(first, second)
    expected = torch.stack([sum(a * b for a, b in zip(x.flatten(), y.flatten(), strict=True))
                            for x, y in zip(first, second, strict=True)])  # fmt: skip
    assert_tensor(signal, expected)


@pytest.mark.points(1, exercise="3.5")
def test_noise_is_half_the_squared_distance(lesson):
    """Two runs differ by the noise of both, so the noise of one is half of that. Image by image."""
    first, second = runs(2)
    _, noise = lesson.signal_and_noise(first, second)
    assert_tensor(noise, (first - second).square().flatten(1).sum(dim=1) / 2)


@pytest.mark.points(1, exercise="3.5")
def test_signal_and_noise_are_right_on_average(lesson):
    """2,000 pairs of runs of a known map with known noise, each pair an image of the batch."""
    generator, m = drawing(3), factor(0) * torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(3, 2, 2)
    first, second = (m + 0.7 * torch.randn(2_000, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    signal, noise = lesson.signal_and_noise(first, second)
    for found, true in ((signal, m.square().sum().item()), (noise, 12 * 0.7**2)):
        assert found.shape == (2_000,)
        assert abs(found.mean().item() - true) < 6 * found.std().item() / 2_000**0.5


@pytest.mark.points(1, exercise="3.6")
def test_number_of_samples_for_an_error(lesson):
    """The error falls as 1 / sqrt(n): rounded up to a whole sample."""
    cases = {(1.039, 16, 0.1): 1728, (0.5, 7, 0.2): 44, (0.05, 16, 0.1): 4, (0.73, 32, 0.73): 32, (2.0, 1, 0.3): 45}
    error, n = 0.1 + torch.rand(1, generator=drawing(0)).item(), int(torch.randint(5, 90, (1,), generator=drawing(1)))
    cases[error, n, 0.05] = math.ceil(n * (error / 0.05) ** 2)
    for (error, n, wanted), needed in cases.items():
        found = lesson.samples_needed(error, n, wanted)
        assert found == needed, f"from error {error} at n = {n} to {wanted}: {found} samples, should be {needed}"


# BEGIN KEPT BACK
QUESTIONS = {
    "3.7": {
        0.75: "0.15 x 5 / 1. The network hardly sees the pale picture, and its map depends on who else is in the "
              "batch.",
        0.15: "That would be right if each picture had its own sigma.",
        0.03: "Here the range of the pale picture was divided by the large one. Which of the two stands below?",
        "else": "First sigma in units: level times the range that was used. Then divide by the pale picture's range.",
    },
    "3.8": {
        5000: "The *squared* error falls like 1 / n: ten times less error takes a hundred times the samples.",
        500: "The error does not fall like 1 / n. What does?",
        "else": "The squared error falls like 1 / n.",
    },
    "3.9": {
        "a": "A function sees two tensors. Could it know how they were drawn?",
        "b": "What is the product of A and A? And their difference?",
        "c": "The estimate uses the difference of the runs. What is A - A?",
        "d": "The difference is 0, so it finds no noise. Only independent runs can tell noise from map.",
    },
}


def true_3_7(lesson) -> float:
    return 0.15 * 5 / 1


def true_3_8(lesson) -> float:
    return lesson.samples_needed(0.6, 50, 0.06)


RANGE = "images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))"
GRADIENTS = "gradients = vanilla_gradient(model, images[i] + sigma[i] * noise, int(target[i]))"

WRONG = [
    ("3.1", "nothing computed", "", "sigma = torch.zeros_like(images[:, 0, 0, 0])"),
    ("3.2", "nothing computed", "", "pass"),
    ("3.2", "the images added up", "", "total[i] += images[i] * len(noise)"),
    ("3.3", "nothing computed", "", "return torch.zeros_like(images)"),
    ("3.3", "the sum for each statistic", "", "return total"),
    ("3.4", "nothing computed", "", "means[count] = torch.zeros_like(image)"),
    ("3.4", "the image itself", "", "means[count] = image"),
    ("3.1", "divided by the range", "noise_level * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))",
     "noise_level / (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))).clamp(min=1e-12)"),
    ("3.1", "range of the whole batch", RANGE, "(images.max() - images.min()).expand(len(images))"),
    ("3.1", "squared", "", f"sigma = (noise_level * ({RANGE})) ** 2"),
    ("3.1", "root", "", f"sigma = (noise_level * ({RANGE})).sqrt()"),
    ("3.1", "standard deviation of the image", RANGE, "images.std(dim=(1, 2, 3))"),
    ("3.1", "maximum only", RANGE, "images.amax(dim=(1, 2, 3))"),
    ("3.1", "range taken for 1", f"({RANGE})", "torch.ones_like(images[:, 0, 0, 0])"),
    ("3.1", "range of one colour", RANGE, "(images.amax(dim=(2, 3)) - images.amin(dim=(2, 3))).amax(dim=1)"),
    ("3.1", "twice the way from the mean", RANGE,
     "2 * (images - images.mean(dim=(1, 2, 3), keepdim=True)).abs().amax(dim=(1, 2, 3))"),
    ("3.1", "half the range", f"({RANGE})", f"({RANGE}) / 2"),
    ("3.1", "sum of the extremes", " - images.amin", " + images.amin"),
    ("3.2", "first image for all", "images[i]", "images[0]"),
    ("3.2", "first class for all", "int(target[i])", "int(target[0])"),
    ("3.2", "first sigma for all", "sigma[i]", "sigma[0]"),
    ("3.2", "noise instead of the noisy image", "images[i] + sigma[i] * noise", "sigma[i] * noise"),
    ("3.2", "sigma forgotten", "sigma[i] * noise", "noise"),
    ("3.2", "only the last chunk counts", "total[i] += gradients", "total[i] = gradients"),
    ("3.2", "mean of a chunk instead of its sum", "total[i] += gradients.sum(dim=0)",
     "total[i] += gradients.mean(dim=0)"),
    ("3.2", "square of the sum", "gradients.square().sum(dim=0)", "gradients.sum(dim=0).square()"),
    ("3.2", "absolute gradients", "total[i] += gradients.sum", "total[i] += gradients.abs().sum"),
    ("3.2", "noise reused: the first copy for all", "sigma[i] * noise", "sigma[i] * noise[:1].expand_as(noise)"),
    ("3.2", "no noise at all", "images[i] + sigma[i] * noise", "images[i].expand_as(noise)"),
    ("3.2", "noise upwards only", "sigma[i] * noise", "sigma[i] * noise.abs()"),
    ("3.2", "copies clamped to the picture's range", "images[i] + sigma[i] * noise",
     "(images[i] + sigma[i] * noise).clamp(images[i].min(), images[i].max())"),
    ("3.2", "uniform noise", "sigma[i] * noise", "sigma[i] * 3**0.5 * torch.erf(noise / 2**0.5)"),
    ("3.2", "noise of one's own, whatever the generator", "sigma[i] * noise",
     "sigma[i] * torch.randn(noise.shape, generator=torch.Generator().manual_seed(done)).to(noise)"),
    ("3.2", "signs for noise", "sigma[i] * noise", "sigma[i] * noise.sign()"),
    ("3.2", "one number for all pixels of a copy", "sigma[i] * noise",
     "sigma[i] * noise[:, :1, :1, :1].expand_as(noise)"),
    ("3.2", "squares forgotten", "gradients.square()", "gradients"),
    ("3.2", "image added up as it gets noisier", "images[i] + sigma[i] * noise",
     "images[i] + (sigma[i] * noise).cumsum(dim=0)"),
    ("3.3", "standard deviation", "(mean_square - mean.square()).clamp(min=0)",
     "(mean_square - mean.square()).clamp(min=0).sqrt()"),
    ("3.3", "no clamp", ".clamp(min=0)", ""),
    ("3.3", "square of the mean", "return mean_square\n", "return mean.square()\n"),
    ("3.3", "not divided", "total / n_samples, total_square / n_samples", "total, total_square"),
    ("3.3", "divided by n - 1", "total / n_samples, total_square / n_samples",
     "total / n_samples, total_square / max(n_samples - 1, 1)"),
    ("3.3", "divided by the chunk", "total / n_samples, total_square / n_samples",
     "total / batch_size, total_square / batch_size"),
    ("3.3", "divided by the chunk, where it is smaller", "total / n_samples, total_square / n_samples",
     "total / min(n_samples, batch_size), total_square / min(n_samples, batch_size)"),
    ("3.3", "mean not squared", "mean.square()", "mean"),
    ("3.3", "absolute mean", "return mean\n", "return mean.abs()\n"),
    ("3.4", "plain average of means", "(done * means[done] + (count - done) * more) / count",
     "(means[done] + more) / 2 if done else more"),
    ("3.4", "noise reused: no generator", ", generator=generator", ""),
    ("3.4", "begins anew each time", "n_samples=count - done", "n_samples=count"),
    ("3.4", "the picture's top class", "model, image, target,", "model, image, None,"),
    ("3.4", "a new seed for each part", "generator=generator", "generator=torch.Generator().manual_seed(seed + done)"),
    ("3.4", "not divided", "(done * means[done] + (count - done) * more) / count",
     "done * means[done] + (count - done) * more"),
    ("3.4", "weights swapped", "(done * means[done] + (count - done) * more) / count",
     "((count - done) * means[done] + done * more) / count if done else more"),
    ("3.4", "only the new samples", "(done * means[done] + (count - done) * more) / count", "more"),
    ("3.4", "all anew with the same noise", "",
     "more = smoothgrad(model, image, target, n_samples=count, noise_level=noise_level,\n"
     "                  generator=torch.Generator().manual_seed(seed))\nmeans[count] = more"),
    ("3.5", "nothing computed", "", "return torch.zeros(len(first)), torch.zeros(len(first))"),
    ("3.5", "the runs themselves", "", "return first, second"),
    ("3.5", "length of one run", "first * second", "first * first"),
    ("3.5", "length of the mean", "(first * second)", "((first + second) / 2).square()"),
    ("3.5", "whole batch at once", "(first * second).sum(dim=(1, 2, 3))",
     "(first * second).sum().expand(len(first))"),
    ("3.5", "noise of both runs", "(dim=(1, 2, 3)) / 2", "(dim=(1, 2, 3))"),
    ("3.5", "noise of the mean", "(dim=(1, 2, 3)) / 2", "(dim=(1, 2, 3)) / 4"),
    ("3.5", "lengths instead of squares", "(first - second).square().sum(dim=(1, 2, 3)) / 2",
     "((first - second).square().sum(dim=(1, 2, 3)) / 2).sqrt()"),
    ("3.5", "absolute products", "(first * second)", "(first * second).abs()"),
    ("3.5", "never below zero", "(first * second).sum(dim=(1, 2, 3))",
     "(first * second).clamp(min=0).sum(dim=(1, 2, 3))"),
    ("3.5", "covariance", "(first * second)", "((first - first.mean(dim=(1, 2, 3), keepdim=True)) * second)"),
    ("3.5", "variance of the difference", "(first - second).square().sum(dim=(1, 2, 3)) / 2",
     "(first - second).var(dim=(1, 2, 3), unbiased=False) * first[0].numel() / 2"),
    ("3.5", "means instead of sums", "(first * second).sum", "(first * second).mean"),
    ("3.5", "the other way round", "return signal, noise", "return noise, signal"),
    ("3.6", "nothing computed", "", "return 0"),
    ("3.6", "the samples there are", "", "return n_samples"),
    ("3.6", "falls as 1 / n", "(error / wanted) ** 2", "(error / wanted)"),
    ("3.6", "upside down", "(error / wanted)", "(wanted / error)"),
    ("3.6", "further samples only", "math.ceil(n_samples * (error / wanted) ** 2)",
     "math.ceil(n_samples * (error / wanted) ** 2) - n_samples"),
    ("3.6", "rounded down", "math.ceil", "math.floor"),
    ("3.6", "rounded", "math.ceil", "round"),
    ("3.6", "one more than rounded down", "math.ceil(n_samples * (error / wanted) ** 2)",
     "int(n_samples * (error / wanted) ** 2) + 1"),
    ("3.6", "n forgotten", "n_samples * ", ""),
    ("3.6", "difference instead of ratio", "(error / wanted)", "(error - wanted)"),
]  # fmt: skip

RIGHT = [
    ("3.5", "by einsum and norms", "", "signal = torch.einsum('bchw,bchw->b', first, second)\n"
     "return signal, (first - second).flatten(1).norm(dim=1) ** 2 / 2"),
    ("3.5", "noise as a rest", "", "signal = (first * second).flatten(1).sum(-1)\n"
     "lengths = (first**2 + second**2).flatten(1).sum(-1) / 2\nreturn signal, lengths - signal"),
    ("3.6", "by the squared errors", "math.ceil(n_samples * (error / wanted) ** 2)",
     "-int(-(n_samples * error**2 / wanted**2) // 1)"),
    ("3.1", "flattened", RANGE, "images.flatten(1).max(dim=1).values - images.flatten(1).min(dim=1).values"),
    ("3.2", "copy by copy", "", "for z in noise:\n"
     "    gradient = vanilla_gradient(model, (images[i] + sigma[i] * z)[None], int(target[i]))[0]\n"
     "    total[i] = total[i] + gradient\n    total_square[i] = total_square[i] + gradient**2"),
    ("3.2", "noise taken away", "images[i] + sigma", "images[i] - sigma"),
    ("3.2", "two copies at a time", "", "for z in noise.split(2):\n"
     "    gradients = vanilla_gradient(model, torch.add(images[i], z, alpha=float(sigma[i])), int(target[i]))\n"
     "    total[i] += gradients.sum(0)\n    total_square[i] += (gradients * gradients).sum(0)"),
    ("3.3", "torch.where against rounding", "(mean_square - mean.square()).clamp(min=0)",
     "torch.relu(mean_square - mean * mean)"),
    ("3.4", "moved towards the new mean", "(done * means[done] + (count - done) * more) / count",
     "means[done] + (more - means[done]) * ((count - done) / count)"),
]  # fmt: skip
# END KEPT BACK
