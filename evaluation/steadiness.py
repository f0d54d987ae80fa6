# %% [markdown]
# # Steadiness: does the map hold still?
#
# Add noise to a photograph, so little that nobody sees it. The network gives the same answer. Should the explanation
# not stay the same as well? This part measures how far a map moves, and shows who wins that contest.
#
# **After this part you can**
#
# 1. measure how far a map can move: max-sensitivity;
# 2. say what value two maps without anything in common would get;
# 3. tell a steady method from a coarse map;
# 4. say why the steadiest map may be worth nothing.
#
# **Level** advanced. **Before it** lessons 03 and 05.
# **Paper** Yeh et al., *On the (In)fidelity and Sensitivity of Explanations*, 2019, arXiv:1901.09392, section 4.

# %%
r"""Max-sensitivity. Run `python -m evaluation.steadiness`; --help lists the options."""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from course.checks import Target, check_counts, one_image, top_class
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import with_noise
from evaluation.methods import METHODS, grain, reduced
from utils import describe_targets, import_lesson, upsample

smoothgrad = import_lesson("03_smoothgrad").smoothgrad

# %% [markdown]
# ## A picture of the idea
#
# Above a photograph with three maps, below the same photograph with noise of 0.3 % of the value range, and its maps.
# Can you see the noise? The numbers say how far each map moved, as a share of its own length.


# %%
def moved_by(before: Tensor, after: Tensor) -> float:
    """|after - before| / |before|, the length taken over all pixels."""
    return ((after - before).norm() / before.norm()).item()


def figure_idea(model: nn.Module, image: Tensor, target: int, names: list[str], seed: int) -> Figure:
    """Maps of a photograph, and of the same one with noise that nobody sees."""
    both = torch.cat([image, with_noise(image, 0.003, seed)])
    maps = {name: METHODS[name](model, both, target) for name in names}
    notes = {name: ["", f"moved by {moved_by(*pair):.2f}"] for name, pair in maps.items()}
    titles = [f"{what}: {title}" for what, title in
              zip(("as it is", "with noise"), describe_targets(model, both, target), strict=True)]  # fmt: skip
    return map_grid(both, maps, titles=titles, notes=notes, heading="The same photograph, twice")


if __name__ == "__main__":
    lesson = start("evaluation.steadiness", "Does the map hold still?", images=["bird.jpg", "panda.jpg"])
    model, images = lesson.model, lesson.images
    targets = lesson.targets.tolist()
    names = ["vanilla_gradient", "grad_cam", "edges"]
    lesson.show(figure_idea(model, images[:1], targets[0], names, lesson.seed), "idea")

# %% [markdown]
# ## An example by hand
#
# A map of two pixels, (3, 4). Its length is $\sqrt{9 + 16} = 5$. Two noisy copies of the picture give (3, 5) and (0,
# 4). They are 1 and 3 away from the clean map. The largest distance counts, and it is divided by the length: 3 / 5 =
# 0.6. Multiply all maps by ten: 30 / 50, the same. So methods with different units can be compared.
#
# What would two maps get that have nothing in common? If both are noise between 0 and 1, a pixel differs by
# $\sqrt{1/6}$ (root mean square), and its own size is $\sqrt{1/3}$. The quotient is 0.71. For signed noise it is
# $\sqrt 2 = 1.41$. A method near these numbers draws a new map each time.

# %%
if __name__ == "__main__":
    clean, copies = torch.tensor([3.0, 4.0]), (torch.tensor([3.0, 5.0]), torch.tensor([0.0, 4.0]))
    print("two pixels:", ", ".join(f"{moved_by(clean, copy):.1f}" for copy in copies))
    seeded = torch.Generator().manual_seed(lesson.seed)
    unsigned, signed = torch.rand(2, 224, 224, generator=seeded), torch.randn(2, 224, 224, generator=seeded)
    print(f"two maps of noise: {moved_by(*unsigned):.2f}; with signs: {moved_by(*signed):.2f}")

# %% [markdown]
# ## The formula
#
# $$\text{SENS} = \max_{\|y - x\|_\infty \le r} \frac{\|\Phi(y) - \Phi(x)\|}{\|\Phi(x)\|}
# \qquad\text{(Yeh et al., definition 4.1)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $x$, $y$ | the photograph, and one whose values are at most $r$ away | (3, H, W) |
# | $\Phi$ | the map as a function of the picture; the class stays that of $x$ | (H, W) |
#
# The maximum over all $y$ cannot be computed. It is estimated by the largest of a few random ones.
#
# ## The method


# %%
def max_sensitivity(
    method: Callable,
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
    generator: torch.Generator | None = None,
) -> float:
    """How far can a map move when no value of the image moves by more than `radius`?

    Args:
        method: (model, images, target) -> (B, H, W) or (B, C, H, W).
        model, image, target: as in deletion_curve; the class stays the clean image's.
        radius: of the uniform noise, in normalised units.
        samples: disturbed images tried.
        generator: of the noise, seeded with 0 by default.

    Returns:
        The largest |Phi(y) - Phi(x)| / |Phi(x)| found, >= 0, lower is better. NaN if the clean map is all zero.

    Raises:
        ValueError: as in deletion_curve, or samples below 1.

    Cost: samples + 1 maps. Source: Yeh et al. 2019, arXiv:1901.09392, definition 4.1.
    """
    check_counts(samples=samples)
    image, generator = one_image(model, image), generator or torch.Generator().manual_seed(0)
    target = top_class(model, image, target)
    clean = method(model, image, target)
    if clean.norm() == 0:
        return math.nan
    # BEGIN SOLUTION 8.4
    moved = []
    for _ in range(samples):
        noise = radius * (2 * torch.rand(image.shape, generator=generator) - 1)
        moved.append((method(model, image + noise.to(image), target) - clean).norm() / clean.norm())
    return max(moved).item()
    # END SOLUTION


# %% [markdown]
# ## A check you can break
#
# One "method" has an answer that can be told in advance: the one that returns the photograph itself. It moves exactly
# as far as the noise is long. Noise between -r and r has a root mean square of $r / \sqrt 3$ on each value.

# %%
if __name__ == "__main__":
    image, target = images[:1], targets[0]
    expected = 0.02 / math.sqrt(3) / image.square().mean().sqrt().item()
    measured = max_sensitivity(lambda _model, pictures, _target: pictures, model, image, target)
    print(f"the photograph as its own map: expected {expected:.4f}, measured {measured:.4f}")
    assert abs(measured / expected - 1) < 0.02, "the noise is not uniform, or the length is not divided out"

# %% [markdown]
# ## Methods and controls
#
# Three sizes of noise. To be fair to the fine maps there is one more row: the same gradient, averaged over Grad-CAM's
# cells and upsampled as Grad-CAM is. If Grad-CAM is steady only because its map is coarse, this one must be as steady.


# %%
def coarse_gradient(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """Simonyan's map, averaged over Grad-CAM's cells and upsampled as Grad-CAM is."""
    fine = METHODS["vanilla_gradient"](model, images, target)
    cells = F.adaptive_avg_pool2d(fine[:, None], grain(model, images))[:, 0]
    return upsample(cells, images.shape[-2:])


def figure_radii(found: dict[str, list[float]], radii: list[float]) -> Figure:
    """How far each map moves, for each size of the noise."""
    figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
    for name, values in found.items():
        axis.plot(radii, values, "o-", label=name)
    axis.axhline(math.sqrt(0.5), color="black", ls="--", lw=1, label="noise against noise, 0.71")
    axis.set(xscale="log", yscale="log", xlabel="largest change of a value of the photograph, in normalised units",
             ylabel="largest move of the map, as a share of its length")  # fmt: skip
    axis.set_xticks(radii, [f"{radius:g}" for radius in radii], minor=False)
    axis.legend(fontsize=8, bbox_to_anchor=(1, 1))
    return figure


if __name__ == "__main__":
    asked = {name: METHODS[name] for name in ("vanilla_gradient", "gradient_times_input", "guided_backpropagation")}
    asked |= {"smoothgrad, 8 samples": reduced(smoothgrad, n_samples=8), "gradient, coarse": coarse_gradient,
              "grad_cam": METHODS["grad_cam"], "edges": METHODS["edges"], "centre": METHODS["centre"]}  # fmt: skip
    radii = [0.002, 0.02, 0.2]
    found = {
        name: [max(max_sensitivity(method, model, picture, label, radius=radius, samples=2)
                   for picture, label in zip(images.split(1), targets, strict=True)) for radius in radii]
        for name, method in asked.items()
    }  # fmt: skip
    print(f"largest move of a map, {len(images)} photographs; two maps of noise: 0.71")
    print_table(["map", *(f"noise {radius}" for radius in radii)], [[name, *row] for name, row in found.items()])
    drawn = {name: values for name, values in found.items() if min(values) > 0}      # 0 has no place on a log scale
    lesson.show(figure_radii(drawn, radii), "radii")

# %% [markdown]
# With ResNet-50, noise of 0.02, which nobody sees, moves the gradient by 0.58 of its length, and gradient x input by
# 1.00. With noise of 0.2 the gradient reaches 0.83: two maps of noise are closer to each other (0.71) than it is to
# itself. SmoothGrad with 8 samples, and the coarse gradient, move by 0.17 and 0.14. So a factor of four comes from
# averaging alone. Grad-CAM moves by 0.02, another factor of six, and that one is its own: in a ResNet its weights for
# the channels are the same for every picture (lesson 05), so only the activations can move it.
#
# ## The trap: what never moves
#
# Who wins? The centre, with 0: it never looks. Then the edges, with 0.01: they look at the photograph, but not at the
# network. Both are steadier than any method, and neither explains anything. Whoever chooses a method by steadiness
# alone chooses the one that looks least. So ask first whether the map depends on the network at all (the part on sanity
# checks), and then how steady it is.
#
# ## What the picture does not show
#
# - **Not that a map is right.** A map that is always the same scores 0, the best there is.
# - **Not the worst case.** Some random disturbances are not the worst one. Whoever searches for it finds far more
#   (lesson 09).
# - **Not a fault of the method alone.** If the network's slopes change from picture to picture, an honest map of slopes
#   must change with them.
# - **Not where a map moved.** One length for the whole picture: a spot that jumps and a grain that flickers look alike.
#
# ## Exercises
#
# ### Predict first
#
# **8.22 The picture as its own map** (difficulty 2, 4 minutes, 1 point). The map *is* the picture: 10,000 values, of
# length (norm) 50. No value moves by more than 0.1. How large can max-sensitivity be at most? Answer: a number.
#
# **8.23 Zero** (difficulty 1, 3 minutes, 1 point). A map has a max-sensitivity of 0, the best value there is. What do
# you know?
#
# - **a** The network is robust against this noise.
# - **b** The map is right at every pixel.
# - **c** The map did not move; a map that never looks at the picture does that, too.
# - **d** The noise was too weak, so the run is invalid.

# %%
# BEGIN SOLUTION 8.22
ANSWER_8_22 = 0.2
# END SOLUTION
# BEGIN SOLUTION 8.23
ANSWER_8_23 = "c"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **8.4 Max-sensitivity** (difficulty 2, 15 minutes, 3 points). Fill in the loop. An early implementation divided the
# running maximum by the norm in every round, and reported thousands. *First predict* the value for a map that is the
# image itself. *Then extend it:* add noise to the *score* as well. Which changes more, the score or its map?
# *Hints:* uniform in [-r, r] · new noise each time · one norm below, that of the clean map.
#
# ## Recap
#
# Does the map hold still?
#
# 1. Max-sensitivity is the largest move of a map, over its length, when no value of the picture moves by more than r.
# 2. The reference is 0.71, two maps of noise. The gradient comes close to it with noise that nobody sees (ResNet-50:
#    0.58), Grad-CAM stays at 0.02.
# 3. Averaging makes steady, over pictures (SmoothGrad) or over places (cells). Compare maps of one grain.
# 4. The steadiest map is the one that never looks. Low values count only for maps that depend on the network.
