# %% [markdown]
# # Attention rollout: which patches does the answer of a transformer come from?
#
# A vision transformer has no last convolutional layer, so Grad-CAM has nothing to draw. It cuts the picture into
# patches and lets them look at each other, layer by layer. The weights of that looking are there for anyone to see.
# Do they say where the answer comes from?
#
# **After this part you can**
#
# 1. get attention out of a network that does not hand it out;
# 2. multiply it through the layers, by hand for three tokens and by code for 65;
# 3. let the gradient of a class choose among the heads;
# 4. say what a good-looking map is worth, by means of controls.
#
# **Level** advanced. **Before it** lesson 05; `evaluation/planted_scenes.py`.
# **Papers** Abnar, Zuidema, *Quantifying Attention Flow in Transformers*, 2020, arXiv:2005.00928; Chefer, Gur, Wolf,
# *Generic Attention-model Explainability*, 2021, arXiv:2103.15679; the network: Dosovitskiy et al. 2020,
# arXiv:2010.11929.

# %%
r"""Attention rollout. Run `python -m advanced.attention_rollout`; `--model vit_b_16` adds ImageNet's transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from advanced.train_vit import SCENE_CLASSES, Scene, held_out_scenes, load_vit, named_scenes, partly_random
from course.checks import Target, check_inputs, target_indices, target_logits
from course.figures import map_grid
from course.lesson import print_table, start
from course.probes import correlation
from course.transformers import check_runs, check_transformer, find_transformer, patch_map
from evaluation.is_it_chance import Estimate, estimate, hit_rate
from evaluation.methods import METHODS
from evaluation.planted_scenes import energy_pointing_game
from utils import class_labels, recorded_output, upsample

# %% [markdown]
# ## A picture of the idea
#
# A transformer works on *tokens*: one for each patch, and the *class token* (CLS), from which the answer is read. In
# every layer each token mixes itself anew. Half stays what it was, half is taken from the tokens below.
#
# Below are three tokens and two layers, to be read from the top down. The class token took half from patch 1. Patch 1
# had taken half from patch 2. So a half of a half of the class token comes from patch 2. Rollout does nothing else,
# for all tokens and all ways.

# %%
BY_HAND = (                                                            # who takes from whom: row CLS, patch 1, patch 2
    torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1]]),                 # layer 1: patch 1 takes from patch 2
    torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]]),                 # layer 2: CLS takes from patch 1
)


def figure_idea() -> Figure:
    """Three tokens, two layers: arrows as thick as the share that is taken, the way to patch 2 in colour."""
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    way = {(1, 0, 1), (0, 1, 2)}                                       # layer, to, from
    for layer, A in enumerate(BY_HAND):
        for i, j in (0.5 * A + 0.5 * torch.eye(3)).nonzero().tolist():
            share, color = 0.5 * A[i, j].item() + 0.5 * (i == j), "tab:red" if (layer, i, j) in way else "0.6"
            axis.annotate("", (i, layer + 0.86), (j, layer + 0.14), arrowprops={"arrowstyle": "-|>", "lw": 6 * share,
                          "color": color, "mutation_scale": 18})  # fmt: skip
            axis.text((i + j) / 2 + 0.06, layer + 0.5, "1" if share == 1 else "1/2", color=color, fontsize=12)
    for layer, title in enumerate(("the picture's tokens", "after layer 1", "after layer 2")):
        axis.text(-0.75, layer, title, ha="right", va="center")
        for i, name in enumerate(("CLS", "patch 1", "patch 2")):
            axis.text(i, layer, name, ha="center", va="center", bbox={"boxstyle": "round,pad=0.4", "fc": "white"})
    for i, text in enumerate(("1/2 x 1 = 1/2", "1/2 x 1/2 = 1/4", "1/2 x 1/2 = 1/4")):
        axis.text(i, -0.42, text, ha="center", color="tab:red" if i == 2 else "black")
    axis.text(-0.75, -0.42, "what CLS has of each", ha="right")
    axis.set(xlim=(-2.1, 2.5), ylim=(-0.6, 2.3))
    axis.set_axis_off()
    return figure


if __name__ == "__main__":
    lesson = start("advanced.attention_rollout", "Which patches does the answer of a transformer come from?",
                   images=["duck.jpg", "giraffe.jpg"])  # fmt: skip
    vit = load_vit()                                                   # small, trained on planted scenes
    network = vit if lesson.args.model is None else lesson.model       # the one that sees photographs, at the end
    side = find_transformer(network).image_size
    photos = F.interpolate(lesson.images.cpu(), side, mode="bilinear", antialias=True).to(lesson.images)
    lesson.show(figure_idea(), "idea")

# %% [markdown]
# ## The formula
#
# The shares of a layer form a matrix, one row for each token that takes. "All ways" is then a product of matrices:
#
# $$A_l = \mathrm{softmax}\big(Q_l K_l^\top / \sqrt{d}\big), \qquad \tilde A_l = \tfrac12 \bar A_l + \tfrac12 I, \qquad
# R = \tilde A_L \cdots \tilde A_2 \tilde A_1 \qquad\text{(Abnar, Zuidema 2020, section 3, eq. 1)}$$
#
# | symbol | meaning | shape |
# | --- | --- | --- |
# | $Q_l, K_l$ | queries and keys of a head in layer $l$, $d$ numbers a token | (N, d) |
# | $A_l$ | attention of a head: row $i$ says from where token $i$ takes; rows sum to 1 | (N, N) |
# | $\bar A_l$ | the heads of a layer as one matrix, by their mean | (N, N) |
# | $I$ | the residual connection: every token keeps itself | (N, N) |
# | $R$ | rollout; the map is the row of CLS without its own entry | (N, N) |
#
# N is 1 + the number of patches. If rows of $\tilde A_l$ do not sum to 1, they are divided by their sum. There is no
# class in the formula: plain rollout gives every class the same map.
#
# ## The method
#
# ### Step 1: attention has to be asked for
#
# torchvision calls its attention layers with `need_weights=False`. PyTorch then takes a fast kernel that returns the
# output alone. If asked, PyTorch returns weights, but a copy, made after use: the logit does not depend on them, and
# they have no gradient. So we write the layer out, in five lines, and a hook puts our output in the place of
# PyTorch's: the same numbers, by way of weights that we hold.


# %%
def self_attention(layer: nn.MultiheadAttention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What a self-attention layer computes, written out.

    Args:
        layer: with one in_proj_weight for queries, keys and values, as torchvision builds it.
        tokens: (B, N, D).

    Returns:
        The layer's output (B, N, D) and the attention (B, heads, N, N) it came by, whose rows sum to 1.

    Paper: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    projected = F.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)             # (B, N, 3 D)
    q, k, v = projected.unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
    A = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)             # (B, heads, N, N)
    mixed = (A @ v).transpose(1, 2).flatten(2)                                         # (B, N, D)
    return F.linear(mixed, layer.out_proj.weight, layer.out_proj.bias), A


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """Inside the block every run of the model fills the list: attention (B, heads, N, N) of each layer, in order.

    With gradients enabled the graph goes through these tensors. The hooks are gone on exit, after an error too.
    """
    weights = []

    def hook(layer: nn.MultiheadAttention, inputs: tuple, _output: tuple) -> tuple[Tensor, None]:
        output, A = self_attention(layer, inputs[0])
        weights.append(A)
        return output, None                                           # Pitfall: the fused output does not hang on our A

    with ExitStack() as stack:
        for block in find_transformer(model).encoder.layers:
            stack.callback(block.self_attention.register_forward_hook(hook).remove)
        yield weights


def run_recorded(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (B, K) and the attention of every layer, each (B, heads, N, N), of one forward pass."""
    check_transformer(model, images)
    with recorded_attention(model) as weights:
        logits = model(images)
    check_runs(model, weights)
    return logits, weights


@torch.inference_mode(False)
@torch.no_grad()
def attention_weights(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The attention of every layer.

    Args:
        model: a torchvision VisionTransformer in eval mode, or a module around one.
        images: normalised images of its size, (B, 3, H, W), float. Left as they are.

    Returns:
        One tensor (B, heads, N, N) a layer, from the image upwards; N = 1 + patches, token 0 is CLS, rows sum to 1.

    Raises:
        ValueError: as vanilla_gradient; no such transformer; images of another size.
    """
    return run_recorded(model, images)[1]


# %% [markdown]
# The network below is torchvision's transformer with five small layers, trained by `advanced/train_vit.py` to name one
# of twelve animals on a background. It reads 8 x 8 patches. Each small map shows from where the class token takes in
# one head. No head tells the whole story. In layer 1 a head picks one or two patches. In layer 5 head 1 leaves the
# class token nearly as it was, and head 3 looks past the animal.

# %%
if __name__ == "__main__":
    one = named_scenes(vit, held_out_scenes(40 if lesson.quick else 200, seed=lesson.seed + 4))
    images, labels = torch.cat([scene.image for scene in one]), [scene.classes[0] for scene in one]
    with torch.no_grad():
        plain, (written_out, weights) = vit(images), run_recorded(vit, images)
    print(f"logits by hand and by PyTorch: apart by {(plain - written_out).abs().max():.0e} of {plain.abs().max():.1f}")
    layers = (0, 2, 4)
    heads = {f"head {h + 1}": torch.cat([patch_map(weights[layer][:1, h], vit, False) for layer in layers])
             for h in range(4)}  # fmt: skip
    notes = {name: [f"CLS itself {1 - map.sum():.2f}" for map in maps] for name, maps in heads.items()}
    titles = [f"{SCENE_CLASSES[labels[0]]}, layer {layer + 1}" for layer in layers]
    shown = map_grid(images[:1].expand(3, -1, -1, -1), heads, scale="row", titles=titles, notes=notes,
                     heading="From which patches the class token takes", size=2.4)  # fmt: skip
    lesson.show(shown, "attention")

# %% [markdown]
# ### Step 2: rollout
#
# Three ways to fuse the heads are in use; the paper takes the mean. `discard_ratio` is a habit of implementations, not
# of the paper: the weakest weights of every row are dropped, which gives a cleaner picture. Whether it is also a truer
# one, a control below will say.

# %%
FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda A: A.mean(dim=1),
    "max": lambda A: A.amax(dim=1),
    "min": lambda A: A.amin(dim=1),
}


def discard_lowest(A: Tensor, ratio: float) -> Tensor:
    """In every row of (B, N, N), set the lowest `ratio` of the weights on patches to 0; those on CLS stay."""
    count = int(ratio * (A.shape[-1] - 1) + 1e-9)                      # 0.29 * 100 is 28.999...
    lowest = A[..., 1:].topk(count, dim=-1, largest=False).indices + 1
    return A.scatter(-1, lowest, 0.0)


def with_residual(A: Tensor) -> Tensor:
    """Half attention, half identity, every row scaled to sum 1: (B, N, N)."""
    # BEGIN SOLUTION 9.3
    A = 0.5 * A + 0.5 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    return A / A.sum(dim=-1, keepdim=True)                             # Pitfall: without keepdim, columns are divided
    # END SOLUTION


def roll_out(weights: Sequence[Tensor], head_fusion: str = "mean", discard_ratio: float = 0.0) -> Tensor:
    """Attention of all layers, each (B, heads, N, N) -> R (B, N, N), whose rows sum to 1."""
    R = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
    for A in weights:                                                  # from the image upwards
        fused = discard_lowest(FUSIONS[head_fusion](A), discard_ratio)
        # BEGIN SOLUTION 9.3
        R = with_residual(fused) @ R                                   # eq. 1: the upper layer stands on the left
        # END SOLUTION
    return R


def attention_rollout(
    model: nn.Module, images: Tensor, *, head_fusion: str = "mean", discard_ratio: float = 0.0, upsample: bool = True
) -> Tensor:
    """Attention rollout: how much of each patch reaches the class token, whatever the class.

    Args:
        model, images: as in attention_weights.
        head_fusion: "mean" (the paper), "max" or "min" over the heads of a layer.
        discard_ratio: share of every row's weights on patches, the lowest, that is dropped in each layer, 0 <= . < 1.
            Weights on CLS are never dropped. The paper drops none; others rank all rows of an image together.
        upsample: bilinearly to (B, H, W); False leaves (B, h, w), one value a patch.

    Returns:
        (B, H, W) or (B, h, w), detached, >= 0. A (B, h, w) map sums to 1 less what CLS keeps of itself.

    Raises:
        ValueError: as attention_weights; an unknown head_fusion; a discard_ratio outside [0, 1).

    Paper: Abnar, Zuidema 2020, arXiv:2005.00928, eq. 1.
    """
    if head_fusion not in FUSIONS:
        raise ValueError(f"head_fusion must be one of {', '.join(FUSIONS)}, got {head_fusion!r}")
    if not isinstance(discard_ratio, int | float) or not 0 <= discard_ratio < 1:
        raise ValueError(f"discard_ratio must be a number of at least 0 and below 1, got {discard_ratio!r}")
    return patch_map(roll_out(attention_weights(model, images), head_fusion, discard_ratio), model, upsample)


def last_attention(model: nn.Module, images: Tensor, *, upsample: bool = True) -> Tensor:
    """What is often shown instead: CLS's row of the last layer's attention, mean over heads. (B, H, W) or (B, h, w)."""
    return patch_map(attention_weights(model, images)[-1].mean(dim=1), model, upsample)


# %% [markdown]
# ## A check you can break
#
# The picture of the idea, by code. And the sum of every row: 1, for three tokens as for 65. Shares may move, but none
# gets lost.


# %%
def kept_by_cls(layers: int, tokens: int) -> float:
    """What CLS still has of itself after rollout, if every token looks at all tokens alike, in every layer."""
    # BEGIN SOLUTION 9.9
    kept = 0.5**layers                                                 # never taken from another token
    return kept + (1 - kept) / tokens                                  # the rest is the same mixture for all
    # END SOLUTION


if __name__ == "__main__":
    by_hand = roll_out([A[None, None] for A in BY_HAND])[0, 0]
    assert by_hand.tolist() == [0.5, 0.25, 0.25], "not a half of a half"
    R = roll_out(weights)
    assert torch.allclose(R.sum(dim=-1), torch.ones(R.shape[:2]), atol=1e-4), "a share got lost"
    alike = kept_by_cls(len(weights), R.shape[-1])
    print(f"CLS has {R[:, 0, 0].mean():.3f} of itself; {alike:.3f} if every token looked at all tokens alike")

# %% [markdown]
# ### Step 3: rollout that knows the class
#
# Chefer et al. let the gradient of the class's logit choose. A weight counts as far as more of it would raise the
# logit. What would lower it is set to 0, head by head:
#
# $$\bar A_l = \mathbb{E}_h\big[(\nabla A_l \odot A_l)^+\big], \qquad
# R \leftarrow R + \bar A_l R, \quad R_0 = I \qquad\text{(Chefer et al. 2021, rules 5 and 6)}$$


# %%
@torch.inference_mode(False)
@torch.enable_grad()
def gradient_rollout(model: nn.Module, images: Tensor, target: Target = None, *, upsample: bool = True) -> Tensor:
    """Gradient-weighted rollout: along which attention did evidence *for the class* reach the class token?

    Args:
        model, images, upsample: as in attention_rollout.
        target: None (each image's top class), one class index for all, or one per image.

    Returns:
        (B, H, W) or (B, h, w), detached, >= 0, in logit units, not rescaled.

    Raises:
        ValueError: as attention_weights; as vanilla_gradient for the target.

    Paper: Chefer, Gur, Wolf 2021, arXiv:2103.15679, rules 5 and 6, for an encoder with self-attention only.
    """
    check_inputs(model, images)
    x = images.detach().clone().requires_grad_()                       # so that the graph exists with frozen weights
    logits, weights = run_recorded(model, x)
    gradients = torch.autograd.grad(target_logits(logits, target).sum(), weights)
    R = torch.eye(weights[0].shape[-1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    for A, dA in zip(weights, gradients, strict=True):
        # BEGIN SOLUTION 9.4
        A_bar = (dA * A).clamp(min=0).mean(dim=1)                      # rule 5: (B, N, N)
        R = R + A_bar @ R                                              # rule 6
        # END SOLUTION
    return patch_map(R.detach(), model, upsample)


# %% [markdown]
# Now two animals in one picture, and we ask for each in turn. Rollout gives one map for both questions. The two numbers
# above a map are its shares on the first and on the second animal; each covers some 0.05 of the area.


# %%
def class_name(model: nn.Module, label: int) -> str:
    """Name of a class of our transformer; of another one as in lesson 01."""
    classes = find_transformer(model).num_classes
    names = SCENE_CLASSES if classes == len(SCENE_CLASSES) else class_labels(torch.empty(1, classes))
    return names[label].replace("_", " ")


if __name__ == "__main__":
    two = named_scenes(vit, held_out_scenes(20 if lesson.quick else 100, animals=2, seed=lesson.seed + 5))
    three, first, second = two[:3], *([scene.classes[i] for scene in two[:3]] for i in (0, 1))
    pair = torch.cat([scene.image for scene in three])
    columns = {"last layer's attention": last_attention(vit, pair), "rollout": attention_rollout(vit, pair),
               "gradient rollout: first": gradient_rollout(vit, pair, first),
               "gradient rollout: second": gradient_rollout(vit, pair, second)}  # fmt: skip
    notes = {name: [" / ".join(f"{energy_pointing_game(map, mask):.2f}" for mask in scene.masks)
                    for map, scene in zip(maps, three, strict=True)] for name, maps in columns.items()}  # fmt: skip
    titles = [" and ".join(class_name(vit, label) for label in scene.classes) for scene in three]
    lesson.show(map_grid(pair, columns, overlay=True, titles=titles, notes=notes, heading="Two animals"), "rollout")

# %% [markdown]
# ## Is it the network, or is it the picture?
#
# Rollout lies on the animal. That is no proof. An animal on a lawn has edges, and a map of edges lies on it too. So
# every score needs *controls*: maps that know less. Two questions of `evaluation/planted_scenes.py`, on scenes whose
# animals the network names:
#
# - *energy*: which share of the map lies on the animal?
# - *hits*: does its maximum lie there, or within 4 of 64 pixels?
#
# No map of 8 x 8 values can follow an outline, so the last row gives the best one: the animal's own mask, made coarse.
# "Top tenth" keeps the highest tenth of the patches, the control for `discard_ratio`.

# %%
TOLERANCE = 4


def top_tenth(maps: Tensor) -> Tensor:
    """(B, h, w) with all but the highest tenth of each map's values set to 0."""
    return maps * (maps >= maps.flatten(1).quantile(0.9, dim=1)[:, None, None])


def compared_maps(model: nn.Module, scenes: Sequence[Scene], asked: int) -> dict[str, Tensor]:
    """The controls, and the maps in question for animal number `asked` of each scene: name -> (B, H, W)."""
    images, target = torch.cat([scene.image for scene in scenes]), [scene.classes[asked] for scene in scenes]
    edges = METHODS["edges"](model, images, target)
    masks = torch.stack([scene.masks[asked] for scene in scenes]).float()
    coarse, best = (F.avg_pool2d(maps[:, None], 8)[:, 0] for maps in (edges, masks))
    return {
        "uniform": torch.ones_like(edges),
        "edges (Sobel)": edges,
        "edges, 8 x 8": upsample(coarse, images.shape[-2:]),
        "edges, 8 x 8, top tenth": upsample(top_tenth(coarse), images.shape[-2:]),
        "rollout, untrained network": attention_rollout(partly_random(model, [""]), images),
        "last layer's attention": last_attention(model, images),
        "rollout": attention_rollout(model, images),
        "rollout, discard 0.9": attention_rollout(model, images, discard_ratio=0.9),
        "gradient rollout": gradient_rollout(model, images, target),
        "gradient x input": METHODS["gradient_times_input"](model, images, target),
        "perfect 8 x 8 map": upsample(best, images.shape[-2:]),
    }


def scores_of(maps: Tensor, masks: Tensor, others: Tensor) -> Tensor:
    """Energy on the animal, energy on others, and hits, of maps and masks (B, H, W): (B, 3).

    A constant map's maximum is everywhere: it gets a random pixel's chance.
    """
    maps = maps.clamp(min=0)
    energies = [(maps * region).sum(dim=(1, 2)) / maps.sum(dim=(1, 2)) for region in (masks, others)]
    near = torch.from_numpy(np.stack([distance_transform_edt(~mask) <= TOLERANCE for mask in masks.numpy()])).float()
    hits = near.flatten(1).gather(1, maps.flatten(1).argmax(dim=1)[:, None])[:, 0]
    hits = torch.where(maps.amax(dim=(1, 2)) > maps.amin(dim=(1, 2)), hits, near.mean(dim=(1, 2)))
    return torch.stack([*energies, hits], dim=1)


def rollout_scores(model: nn.Module, scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    """Map's name -> (3, scenes), as scores_of: each animal of a scene is asked for in turn, and the mean taken."""
    scores: dict[str, list] = {}
    for asked in range(len(scenes[0].classes)):
        masks = torch.stack([scene.masks[asked] for scene in scenes])
        others = torch.stack([scene.masks.any(dim=0) for scene in scenes]) & ~masks
        for name, maps in compared_maps(model, scenes, asked).items():
            scores.setdefault(name, []).append(scores_of(maps, masks, others).T.numpy())
    return {name: np.mean(rows, axis=0) for name, rows in scores.items()}


def rate(hits: np.ndarray) -> Estimate:
    """Wilson's interval for hits and misses; by bootstrap where a scene can have half a hit, or a chance."""
    return hit_rate(hits) if np.isin(hits, (0, 1)).all() else estimate(hits)


if __name__ == "__main__":
    alone = rollout_scores(vit, one)
    print_table([f"one animal, n = {len(one)}", "energy", "hits"],
                [[name, estimate(energy), rate(hits)] for name, (energy, _, hits) in alone.items()])  # fmt: skip
    energy, _, hits = alone["rollout"] - alone["edges, 8 x 8"]
    print(f"rollout minus edges, 8 x 8: energy {estimate(energy)}, hits {estimate(hits)}")

# %% [markdown]
# On one animal rollout's energy is that of coarse edges, to two digits; its maximum hits more often (0.92 against
# 0.83). Dropping weights doubles its energy. But keeping the highest tenth of the patches does the same for the
# *edges*: a higher energy that any cut would bring says nothing about the network.
#
# Gradient rollout comes close to the best coarse map. So does gradient x input, which knows nothing of attention. What
# sets the two apart? Two animals, each asked for in turn. A map that ignores the class is right half of the time.

# %%
if __name__ == "__main__":
    both = rollout_scores(vit, two)
    print_table([f"two animals, n = {len(two)}", "energy on the one asked for", "on the other", "hits"],
                [[name, *map(estimate, energies), rate(hits)] for name, (*energies, hits) in both.items()])  # fmt: skip

# %% [markdown]
# ## Does the map depend on what the network has learnt?
#
# We put random weights into the network, from the answer downwards, and compare with the maps of the trained network.
# A map that explains the answer must change as soon as the answer does.

# %%
STEPS = {"head": ["heads"], "+ layer 5": ["encoder.layers.encoder_layer_4"],
         "+ layers 3, 4": [f"encoder.layers.encoder_layer_{i}" for i in (2, 3)], "all": [""]}  # fmt: skip

if __name__ == "__main__":
    few, forgotten, rows = slice(20 if lesson.quick else 60), [], []
    trained = attention_rollout(vit, images[few]), gradient_rollout(vit, images[few], labels[few])
    for name, parts in STEPS.items():
        forgotten += parts
        other = partly_random(vit, forgotten, lesson.seed)
        with torch.no_grad():
            right = (other(images[few]).argmax(dim=1) == torch.tensor(labels[few])).float().mean().item()
        maps = attention_rollout(other, images[few]), gradient_rollout(other, images[few], labels[few])
        r = [np.mean([*map(correlation, before, after)]) for before, after in zip(trained, maps, strict=True)]
        rows.append([name, *(f"{value:.2f}" for value in (right, *r))])
    print_table(["random weights in", "right answers\n(chance 0.08)", "r of rollout", "r of gradient rollout"], rows)

# %% [markdown]
# With random weights in the head and the last layer the network can only guess, and rollout has not noticed: r = 1.00.
# It tells how patches reach the class token, not what the answer is made of. Gradient rollout changes with the head.
#
# ## Photographs, and ImageNet's transformer
#
# `--model vit_b_16` draws the picture below with torchvision's ViT-B/16: 12 layers of 12 heads, 196 patches, 86 million
# parameters. Its weights (330 MB) are downloaded once; without internet the program says so in one sentence. `vit_b_32`
# and `vit_l_16` work alike. `swin_t` and `maxvit_t` do not: their attention looks through windows and has no class
# token, so there is no one matrix a layer to multiply.
#
# Without `--model` it is our small transformer. It has only seen cut-outs, never a photograph of an animal. It calls
# the duck a rainbow lorikeet, because of the beak. The giraffe, an animal that it does not know, is a gorilla. The maps
# lie on the animals all the same: a good place is no sign of a right answer.

# %%
if __name__ == "__main__":
    with torch.no_grad():
        logits = network(photos)
    asked = target_indices(lesson.target, logits)[:, None]             # --target, or the top class
    pairs = logits.scatter(1, asked, torch.inf).topk(2).indices        # and the highest other one
    columns = {"last layer's attention": last_attention(network, photos), "rollout": attention_rollout(network, photos)}
    notes = {}
    for name, chosen in zip(("gradient rollout", "another class"), pairs.T, strict=True):
        columns[name] = gradient_rollout(network, photos, chosen)
        p = target_logits(logits.softmax(dim=1), chosen).tolist()
        notes[name] = [f"{class_name(network, label)} {p:.2f}" for label, p in zip(chosen.tolist(), p, strict=True)]
    shown = map_grid(photos, columns, overlay=True, notes=notes, titles=lesson.names, heading="Photographs")
    lesson.show(shown, "photographs")

# %% [markdown]
# ## What the picture does not show
#
# - **Not the class.** With two animals rollout lies on both alike, whichever is asked for (0.12 each).
# - **Not the whole layer.** What token $i$ takes from token $j$ is the weight *times a value vector*. A large weight on
#   a short vector moves little. The second half of each layer, the MLP, does not appear at all.
# - **Not half and half.** That every token keeps half of itself is a convention. Below, the lengths of the two parts
#   are measured: in layer 1 nearly all of the class token is new, in layer 5 a fifth.
# - **Gradient rollout: not what speaks against the class.** That is set to 0. Its size depends on the gradient: compare
#   places, not pictures.
# - **No more than patches.** A token of a higher layer is no longer its patch. A weight on a token at the animal's edge
#   may be for what that token fetched elsewhere.
# - **Not new animals.** Training and test share the same twelve cut-outs. Places, sizes, mirror images and backgrounds
#   are new, the animals are not. The tables hold for animals that the network may know by heart.

# %%
if __name__ == "__main__":
    blocks = list(vit.encoder.layers)
    with ExitStack() as stack, torch.no_grad():
        below = [stack.enter_context(recorded_output(layer)) for layer in (vit.encoder.dropout, *blocks[:-1])]
        taken = [stack.enter_context(recorded_output(block.dropout)) for block in blocks]
        vit(images[few])
    rows = []
    for layer, ((old,), (new,)) in enumerate(zip(below, taken, strict=True), start=1):
        share = new.norm(dim=-1) / (new.norm(dim=-1) + old.norm(dim=-1))               # (B, N)
        rows.append([layer, *(f"{mean:.2f}" for mean in (share[:, 0].mean(), share[:, 1:].mean(), 0.5))])
    print_table(["layer", "new in CLS", "new in a patch", "rollout's convention"], rows)

# %% [markdown]
# ## Exercises
#
# ### Predict first
#
# **9.12 Each for itself** (difficulty 1, 3 minutes, 1 point). In every layer every token looks only at itself. What
# share of the class token does rollout give to the class token? Answer: a number.
#
# **9.13 Two animals** (difficulty 1, 3 minutes, 1 point). Two animals are in a scene. Plain rollout has 0.12 on each,
# whichever is asked for. What follows?
#
# - **a** The network cannot tell the two animals apart.
# - **b** The map is broken, because it should lie on one of them.
# - **c** It shows where tokens were gathered from, and does not know the class that is asked for.
# - **d** More layers would separate the animals.

# %%
# BEGIN SOLUTION 9.12
ANSWER_9_12 = 1
# END SOLUTION
# BEGIN SOLUTION 9.13
ANSWER_9_13 = "c"
# END SOLUTION

# %% [markdown]
# ### Then write
#
# **9.3 Roll it out** (difficulty 2, 20 minutes, 4 points). Fill in `with_residual` and the product in `roll_out`.
# *Hints:* mix with the identity first, divide second · a row's sum must stay a column, or the division runs along the
# wrong axis (for one square matrix without an error) · which layer comes first from the image?
#
# **9.4 Ask for a class** (difficulty 2, 20 minutes, 4 points). Fill in the two lines of `gradient_rollout`. *First
# predict:* a head's gradient is negative wherever it looks; what does that head add to R? *Hints:* gradient times
# weight, head by head · set to 0 before the mean: a head that argues against the class must not silence one that argues
# for it · nothing is divided this time, because R starts as the identity and only grows.
#
# **9.9 Predict** (difficulty 2, 15 minutes, 2 points). Fill in `kept_by_cls`: a formula, without any matrix. *Hints:*
# one layer first: half is kept, and of the half that is taken from all tokens, CLS gets 1/N back · what is left in the
# end of the half that was never taken away? *Then break it:* a network with two layers more, does its map get flatter?
#
# ## Recap
#
# Which patches does the answer of a transformer come from? Numbers: `python -m advanced.attention_rollout`, 199 scenes
# with one animal, 64 with two.
#
# 1. Attention has to be asked for. Written out in five lines it can be seen and differentiated.
# 2. Rollout multiplies it through the layers, half and half with the residual. Its maximum lies on the animal in 92 %
#    of the scenes, coarse edges' in 83 %. Its energy, 0.22, is that of coarse edges.
# 3. Rollout knows no class: with two animals it lies on both alike, and it stays as it is when the head is random. So
#    it does not answer the question. It shows which patches *could* have had a say.
# 4. Gradient rollout asks for a class: 0.47 on the animal asked for, 0.06 on the other, where the best map of 8 x 8
#    patches has 0.55 and gradient x input 0.37 and 0.22.
# 5. One good-looking picture does not tell 2. from 4. The controls do.
