"""Attention rollout: captured attention, the product of layers, gradients, and the controls."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_common_contract, assert_leaves_no_trace, hook_count, relative_error, run_script, unchanged
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18, vit_b_16

import utils
from advanced import attention_rollout as lesson
from advanced.train_vit import held_out_scenes, load_vit, named_scenes, partly_random
from course.probes import correlation
from evaluation.planted_scenes import energy_pointing_game, pointing_game
from utils import import_lesson, recorded_output


def test_the_doorway_hands_the_method_out():
    assert import_lesson("09_advanced_techniques").attention_rollout is lesson.attention_rollout


def tiny_vit(seed: int = 3, **options) -> VisionTransformer:
    """A float64 transformer in eval mode with fixed random weights; its attention is far from uniform."""
    options = {
        "image_size": 12, "patch_size": 4, "num_layers": 3, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12,
        "num_classes": 3,
    } | options  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VisionTransformer(**options).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.6)
    return model


@pytest.fixture
def vit() -> VisionTransformer:
    return tiny_vit()


@pytest.fixture
def squares() -> Tensor:
    """Three different images, (3, 3, 12, 12), float64."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(3, 3, 12, 12, generator=generator, dtype=torch.float64)
    return images * torch.tensor([0.5, 1.0, 2.0])[:, None, None, None]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """The committed checkpoint."""
    return load_vit()


def random_attention(batch: int = 2, heads: int = 3, tokens: int = 5, layers: int = 3) -> list[Tensor]:
    """Made-up attention whose rows sum to 1."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, heads, tokens, tokens)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).softmax(dim=-1) for _ in range(layers)]


# Rollout on hand-set attention


def test_the_picture_of_the_idea_by_code():
    """Half of a half of CLS comes from patch 2."""
    assert lesson.roll_out([A[None, None] for A in lesson.BY_HAND])[0, 0].tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
def test_rollout_rows_sum_to_one(fusion, ratio):
    R = lesson.roll_out(random_attention(), fusion, ratio)
    torch.testing.assert_close(R.sum(dim=-1), torch.ones(2, 5, dtype=torch.float64))
    assert R.min() >= 0


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_identity_attention_gives_identity(fusion):
    weights = [torch.eye(5).expand(2, 3, 5, 5)] * 4
    assert torch.equal(lesson.roll_out(weights, fusion), torch.eye(5).expand(2, 5, 5))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_uniform_attention_in_closed_form(layers):
    """(J/N + I)/2 to the power L is 2^-L I + (1 - 2^-L) J/N."""
    N, kept = 6, 0.5**layers
    R = lesson.roll_out([torch.full((1, 2, N, N), 1 / N, dtype=torch.float64)] * layers)
    expected = kept * torch.eye(N, dtype=torch.float64) + (1 - kept) / N
    torch.testing.assert_close(R, expected[None])


def test_two_layers_by_hand():
    """Two heads, three tokens. Layer 1 fused: CLS from itself and patch 1 alike, patch 1 from patch 2."""
    first = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 1]], [[0.0, 1, 0], [0, 0, 1], [0, 0, 1]]])[None]
    second = torch.tensor([[[0.0, 1, 0], [0, 1, 0], [0, 0, 1]], [[0.0, 0, 1], [0, 1, 0], [0, 0, 1]]])[None]
    # layer 1 with residual: (3/4, 1/4, 0), (0, 1/2, 1/2), (0, 0, 1); row of CLS in layer 2: (1/2, 1/4, 1/4)
    assert lesson.roll_out([first, second])[0, 0].tolist() == [3 / 8, 1 / 8 + 1 / 8, 1 / 8 + 1 / 4]


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_rollout_restated_by_loops(fusion):
    """Fusion, residual, rows, and the product, element by element; the layers do not commute."""
    weights, (batch, heads, N) = random_attention(layers=2), (2, 3, 5)
    fuse = {"mean": lambda values: sum(values) / heads, "max": max, "min": min}[fusion]
    mixed = []
    for A in weights:
        rows = torch.zeros(batch, N, N, dtype=torch.float64)
        for b in range(batch):
            for i in range(N):
                row = [0.5 * fuse([A[b, h, i, j].item() for h in range(heads)]) + 0.5 * (i == j) for j in range(N)]
                rows[b, i] = torch.tensor([value / sum(row) for value in row])
        mixed.append(rows)
    expected = torch.zeros(batch, N, N, dtype=torch.float64)
    for b in range(batch):
        for i in range(N):
            for j in range(N):
                expected[b, i, j] = sum(mixed[1][b, i, k] * mixed[0][b, k, j] for k in range(N))
    torch.testing.assert_close(lesson.roll_out(weights, fusion), expected, rtol=1e-6, atol=1e-7)
    assert relative_error(lesson.roll_out(weights[::-1], fusion), expected) > 0.01


def test_discard_by_hand():
    """Of four weights on patches the lowest half goes, in every row of every image; CLS stays, however small."""
    A = torch.tensor([[[0.01, 0.4, 0.1, 0.2, 0.29], [0.3, 0.05, 0.25, 0.35, 0.05]]])
    assert lesson.discard_lowest(A[0][None].clone(), 0.5)[0, 0].tolist() == pytest.approx([0.01, 0.4, 0, 0, 0.29])
    assert lesson.discard_lowest(A, 0.5)[0, 1].tolist() == pytest.approx([0.3, 0, 0.25, 0.35, 0])
    assert torch.equal(lesson.discard_lowest(A, 0.0), A)
    assert torch.equal(lesson.discard_lowest(A, 0.24), A)              # less than one of four
    assert lesson.discard_lowest(A, 0.99)[..., 1:].count_nonzero() == 2


@pytest.mark.parametrize(("ratio", "dropped"), [(0.29, 29), (0.57, 57), (0.9, 90)])
def test_discard_counts_decimal_shares_right(ratio, dropped):
    A = torch.rand(1, 2, 101, generator=torch.Generator().manual_seed(0))
    assert (lesson.discard_lowest(A, ratio) == 0).sum(dim=-1).tolist() == [[dropped, dropped]]


# Captured attention


def slow_block(block: nn.Module, tokens: Tensor, bump: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """An encoder block for one image (N, D), head by head from in_proj; `bump` is added to the attention."""
    layer, normed = block.self_attention, block.ln_1(tokens)
    D, heads = layer.embed_dim, layer.num_heads
    d, A, mixed = D // heads, [], []
    W, bias = layer.in_proj_weight, layer.in_proj_bias
    for h in range(heads):
        q, k, v = (
            normed @ W[part * D + h * d : part * D + (h + 1) * d].T + bias[part * D + h * d : part * D + (h + 1) * d]
            for part in range(3)
        )
        scores = torch.stack([torch.stack([(qi * kj).sum() / math.sqrt(d) for kj in k]) for qi in q])
        A.append(scores.exp() / scores.exp().sum(dim=1, keepdim=True))
        mixed.append((A[h] + (bump[h] if isinstance(bump, Tensor) else bump)) @ v)
    tokens = tokens + torch.cat(mixed, dim=1) @ layer.out_proj.weight.T + layer.out_proj.bias
    return tokens + block.mlp(block.ln_2(tokens)), torch.stack(A)


def slow_forward(model: VisionTransformer, image: Tensor, bumps: list | None = None) -> tuple[Tensor, list[Tensor]]:
    """Logits (K,) and attention (heads, N, N) a layer of one image (3, H, W)."""
    patches = model.conv_proj(image[None])[0].flatten(1).T             # (N - 1, D)
    tokens = torch.cat([model.class_token[0], patches]) + model.encoder.pos_embedding[0]
    weights = []
    for number, block in enumerate(model.encoder.layers):
        tokens, A = slow_block(block, tokens, bumps[number] if bumps else 0.0)
        weights.append(A)
    return model.heads(model.encoder.ln(tokens)[:1])[0], weights


def test_captured_weights_equal_a_slow_restatement(vit, squares):
    captured = lesson.attention_weights(vit, squares)
    assert [tuple(A.shape) for A in captured] == [(3, 2, 10, 10)] * 3
    for i, image in enumerate(squares):
        with torch.no_grad():
            logits, weights = slow_forward(vit, image)
            torch.testing.assert_close(logits, vit(image[None])[0])
        for A, expected in zip(captured, weights, strict=True):
            torch.testing.assert_close(A[i], expected)


def test_captured_weights_are_what_pytorch_gives_when_asked(vit, squares):
    with recorded_output(vit.encoder.layers[1].ln_1) as tokens, torch.no_grad():
        vit(squares)
        _, asked = vit.encoder.layers[1].self_attention(*[tokens[0]] * 3, average_attn_weights=False)
    torch.testing.assert_close(lesson.attention_weights(vit, squares)[1], asked)


def test_without_asking_there_are_no_weights(vit, squares):
    """The reason for all this; should torchvision ever ask by itself, the lesson's text is out of date."""
    with recorded_output(vit.encoder.layers[0].self_attention) as outputs, torch.no_grad():
        vit(squares)
    assert outputs[0][1] is None


def test_the_weights_that_pytorch_gives_cannot_be_differentiated(vit, squares):
    """They are made after use: the layer's output does not depend on them."""
    tokens = torch.randn(1, 10, 8, dtype=torch.float64, requires_grad=True)
    output, A = vit.encoder.layers[0].self_attention(tokens, tokens, tokens, average_attn_weights=False)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(output.sum(), A)


def test_rows_of_captured_weights_sum_to_one(vit, squares):
    for A in lesson.attention_weights(vit, squares):
        torch.testing.assert_close(A.sum(dim=-1), torch.ones(3, 2, 10, dtype=torch.float64))
        assert not A.requires_grad


@pytest.mark.parametrize("grad", [True, False])
def test_capturing_leaves_the_output_alone(grad, vit, squares):
    with torch.set_grad_enabled(grad):
        expected = vit(squares)
        with unchanged(vit, squares), lesson.recorded_attention(vit) as weights:
            assert hook_count(vit) == 3
            torch.testing.assert_close(vit(squares), expected)
            assert len(weights) == 3
    assert hook_count(vit) == 0


def test_the_block_undoes_itself_after_an_exception(vit, squares):
    def interrupted() -> None:
        with lesson.recorded_attention(vit):
            vit(squares)
            raise KeyboardInterrupt

    with unchanged(vit, squares), pytest.raises(KeyboardInterrupt):
        interrupted()


# The two methods


@pytest.mark.parametrize("options", [{}, {"head_fusion": "max"}, {"discard_ratio": 0.5}, {"head_fusion": "min"}])
def test_a_batch_gives_what_its_images_give(options, vit, squares):
    batch = lesson.attention_rollout(vit, squares, **options)
    assert batch.shape == (3, 12, 12)
    assert batch.dtype == torch.float64
    singles = torch.cat([lesson.attention_rollout(vit, image[None], **options) for image in squares])
    torch.testing.assert_close(batch, singles)
    assert relative_error(batch[:1], batch[1:2]) > 0.01


def test_rollout_is_the_class_tokens_row_as_a_picture(vit, squares):
    R = lesson.roll_out(lesson.attention_weights(vit, squares))
    maps = lesson.attention_rollout(vit, squares, upsample=False)
    for i in range(3):
        for y in range(3):
            for x in range(3):
                assert maps[i, y, x] == R[i, 0, 1 + 3 * y + x]
    torch.testing.assert_close(maps.sum(dim=(1, 2)), 1 - R[:, 0, 0])
    enlarged = F.interpolate(maps[:, None], (12, 12), mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(lesson.attention_rollout(vit, squares), enlarged)


def test_a_patch_that_nobody_looks_at_gets_nothing(squares):
    """Queries and keys pick one patch: all attention on token 5, so all of the map is on the middle patch."""
    model = tiny_vit(num_layers=1, num_heads=1)
    with torch.no_grad():
        block = model.encoder.layers[0]
        block.self_attention.in_proj_weight[:16] = 0                   # scores come from the biases and ln_1 alone
        block.self_attention.in_proj_bias[:16] = 0
        block.self_attention.in_proj_weight[8] = 1.0                   # k_0 = sum of the normed token's entries
        block.self_attention.in_proj_bias[0] = 1000.0                  # q_0
        block.ln_1.weight.fill_(1.0)
        block.ln_1.bias.zero_()
        block.ln_1.weight[0] = 2.0                                     # so the sum is the token's first normed entry
        model.encoder.pos_embedding[0, 5, 0] += 100
    maps = lesson.attention_rollout(model, squares, upsample=False)
    expected = torch.zeros(3, 3, 3, dtype=torch.float64)
    expected[:, 1, 1] = 0.5
    torch.testing.assert_close(maps, expected)


def test_gradient_rollout_against_finite_differences(squares):
    """Rules 5 and 6 by loops, the gradient by nudging every single attention weight."""
    model = tiny_vit(image_size=12, patch_size=6, num_layers=2)
    image, heads, N, step = squares[0], 2, 5, 1e-5
    with torch.no_grad():
        _, weights = slow_forward(model, image)
        R = torch.eye(N, dtype=torch.float64)
        for layer in range(2):
            A_bar = torch.zeros(N, N, dtype=torch.float64)
            for h in range(heads):
                for i in range(N):
                    for j in range(N):
                        bump = torch.zeros(2, heads, N, N, dtype=torch.float64)
                        bump[layer, h, i, j] = step
                        up, down = (slow_forward(model, image, list(sign * bump))[0][2] for sign in (1, -1))
                        slope = (up - down).item() / (2 * step)
                        A_bar[i, j] += max(0.0, slope * weights[layer][h, i, j].item()) / heads
            R = R + A_bar @ R
    expected = R[0, 1:].reshape(1, 2, 2)
    maps = lesson.gradient_rollout(model, image[None], 2, upsample=False)
    torch.testing.assert_close(maps, expected, rtol=1e-6, atol=1e-9)
    assert maps.max() > 0


def test_gradient_rollout_knows_the_class(vit, squares):
    maps = [lesson.gradient_rollout(vit, squares, label) for label in range(3)]
    assert relative_error(maps[0], maps[1]) > 0.01
    assert relative_error(maps[0], maps[2]) > 0.01


def test_a_class_that_no_token_speaks_for_has_an_empty_map(vit, squares):
    with torch.no_grad():
        vit.heads.head.weight[1] = 0
    assert torch.equal(lesson.gradient_rollout(vit, squares, 1), torch.zeros(3, 12, 12, dtype=torch.float64))


def test_gradient_rollout_needs_no_parameter_that_wants_gradients(vit, squares):
    expected = lesson.gradient_rollout(vit, squares, 0)
    assert torch.equal(lesson.gradient_rollout(vit.requires_grad_(False), squares, 0), expected)


def test_common_contract_of_gradient_rollout(vit, squares):
    assert_common_contract(lesson.gradient_rollout, vit, squares)


def test_gradient_rollout_leaves_no_trace(vit, squares):
    assert_leaves_no_trace(lesson.gradient_rollout, vit, squares)


class BrokenInside(nn.Module):
    """In place of the last encoder block: raises."""

    def forward(self, tokens: Tensor) -> Tensor:
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("method", [lesson.attention_rollout, lesson.attention_weights, lesson.last_attention])
def test_methods_without_a_class_leave_no_trace(method, vit, squares):
    with unchanged(vit, squares):
        expected = method(vit, squares)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), unchanged(vit, squares):
            torch.testing.assert_close(method(vit, squares), expected)
    wanting = squares.clone().requires_grad_()
    with unchanged(vit, wanting):
        found = method(vit, wanting)
    assert not (found[0] if isinstance(found, list) else found).requires_grad
    vit.encoder.ln = BrokenInside().eval()
    with unchanged(vit, squares), pytest.raises(RuntimeError, match="broken on purpose"):
        method(vit, squares)


TRANSFORMER_METHODS = [lesson.attention_weights, lesson.attention_rollout, lesson.gradient_rollout]


@pytest.mark.parametrize("method", TRANSFORMER_METHODS)
def test_refusals(method, vit, squares):
    with torch.random.fork_rng():
        convolutional = resnet18().eval()
        pair = nn.ModuleList([vit, tiny_vit()]).eval()
    with pytest.raises(ValueError, match=r"needs a torchvision VisionTransformer.*ResNet is none.*grad_cam"):
        method(convolutional, torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="ModuleList has 2"):
        method(pair, squares)
    with pytest.raises(ValueError, match=r"takes 12 x 12 images, got \(12, 16\)"):
        method(vit, F.pad(squares, (2, 2)))
    for wrong in (squares[0], squares.long(), squares * float("nan"), "dog.jpg"):
        with pytest.raises(ValueError, match="images"):
            method(vit, wrong)
    vit.encoder.layers[1].dropout.train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        method(vit, squares)


@pytest.mark.parametrize("options", [{"head_fusion": "median"}, {"head_fusion": None}, {"discard_ratio": 1.0},
                                     {"discard_ratio": -0.1}, {"discard_ratio": float("nan")},
                                     {"discard_ratio": "all"}])  # fmt: skip
def test_wrong_options_are_named(options, vit, squares):
    with pytest.raises(ValueError, match=next(iter(options))):
        lesson.attention_rollout(vit, squares, **options)


class Twice(nn.Module):
    """Runs its transformer on the image and on its mirror image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) + self.model(images.flip(3))


@pytest.mark.parametrize("method", TRANSFORMER_METHODS)
def test_layers_that_run_twice_are_refused(method, vit, squares):
    with pytest.raises(ValueError, match="3 layers ran 6 times"):
        method(Twice(vit).eval(), squares)


@pytest.mark.parametrize(
    "options",
    [
        {"num_heads": 1}, {"num_heads": 3, "hidden_dim": 12}, {"image_size": 8, "patch_size": 2}, {"num_layers": 1},
        {"representation_size": 5}, {"patch_size": 12},
    ],
)  # fmt: skip
def test_other_sizes(options, squares):
    model = tiny_vit(**options)
    images = squares[..., : model.image_size, : model.image_size]
    side = model.image_size // model.patch_size
    for method in (lesson.attention_rollout, lesson.gradient_rollout, lesson.last_attention):
        assert method(model, images).shape == images[:, 0].shape
        assert method(model, images, upsample=False).shape == (3, side, side)
    for A, image_A in zip(lesson.attention_weights(model, images), slow_forward(model, images[1])[1], strict=True):
        torch.testing.assert_close(A[1], image_A.detach())


def test_a_module_around_a_transformer(vit, squares):
    wrapped = nn.Sequential(nn.Identity(), vit, nn.Identity()).eval()
    assert torch.equal(lesson.attention_rollout(wrapped, squares), lesson.attention_rollout(vit, squares))
    assert torch.equal(lesson.gradient_rollout(wrapped, squares, 1), lesson.gradient_rollout(vit, squares, 1))


def test_float32_and_channels_last(vit, squares):
    images = squares.float().to(memory_format=torch.channels_last)
    maps = lesson.gradient_rollout(vit.float().to(memory_format=torch.channels_last), images, 0)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps.double(), lesson.gradient_rollout(vit.double(), squares, 0), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_vit_b_16_of_torchvision():
    """With all weights 0 its attention is uniform: every patch gets (1 - 2^-12) / 197."""
    with torch.device("meta"):
        model = vit_b_16(weights=None)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    maps = lesson.attention_rollout(model, torch.zeros(1, 3, 224, 224), upsample=False)
    torch.testing.assert_close(maps, torch.full((1, 14, 14), (1 - 0.5**12) / 197))


# Controls and scores


def test_scores_of_made_up_maps():
    """A map that is the mask has energy 1 and a hit; half on each of two animals, 0.5 and 0.5."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:20, 10:20], masks[1, 40:50, 40:50] = True, True
    maps, others = masks.float(), masks.flip(0)
    assert lesson.scores_of(maps, masks, others).tolist() == [[1.0, 0.0, 1.0]] * 2
    assert lesson.scores_of(maps.flip(0), masks, others).tolist() == [[0.0, 1.0, 0.0]] * 2
    both = masks.any(dim=0, keepdim=True).float().expand(2, -1, -1)
    assert lesson.scores_of(both, masks, others)[:, :2].tolist() == [[0.5, 0.5]] * 2
    (energy, other, chance), _ = lesson.scores_of(torch.ones(2, 64, 64), masks, torch.zeros_like(masks)).tolist()
    disc = sum(x * x + y * y <= 16 for x in range(1, 5) for y in range(1, 5))
    assert (energy, other) == (pytest.approx(100 / 4096), 0)
    assert chance == pytest.approx((100 + 4 * 10 * 4 + 4 * disc) / 4096)


def test_scores_are_those_of_the_pointing_games():
    generator = torch.Generator().manual_seed(1)
    maps, masks = torch.randn(6, 32, 24, generator=generator), torch.rand(6, 32, 24, generator=generator) > 0.995
    masks[:, 3, 4] = True
    for map, mask, row in zip(maps, masks, lesson.scores_of(maps, masks, ~masks), strict=True):
        hit = float(pointing_game(map, mask, tolerance=lesson.TOLERANCE))
        assert row.tolist() == pytest.approx([energy_pointing_game(map, mask), energy_pointing_game(map, ~mask), hit])


def test_rates_are_wilsons_for_hits_and_bootstrapped_for_halves():
    assert lesson.rate(torch.ones(64).numpy())[:3] == (1, pytest.approx(64 / (64 + 1.959964**2)), 1)
    halves = lesson.rate(torch.tensor([0.5, 1, 0.5, 0.5, 1, 0]).numpy())
    assert halves.mean == pytest.approx(3.5 / 6)
    assert halves.low < halves.mean < halves.high


def test_the_top_tenth():
    maps = torch.arange(128.0).reshape(2, 8, 8)
    kept = lesson.top_tenth(maps)
    assert [(map != 0).sum().item() for map in kept] == [7, 7]
    assert torch.equal(kept[0].flatten()[57:], maps[0].flatten()[57:])


@pytest.fixture(scope="module")
def alone(trained) -> dict:
    """Mean scores on scenes with one animal, of a seed that no text quotes: name -> (energy, other, hits)."""
    scores = lesson.rollout_scores(trained, named_scenes(trained, held_out_scenes(60, seed=77)))
    return {name: rows.mean(axis=1) for name, rows in scores.items()}


@pytest.mark.slow
def test_rollout_lies_on_the_animal_more_than_chance(alone):
    area, _, chance = alone["uniform"]
    assert alone["rollout"][0] > 1.5 * area
    assert alone["gradient rollout"][0] > 2 * area
    assert alone["rollout"][2] > chance + 0.2
    assert alone["gradient rollout"][2] > chance + 0.2


@pytest.mark.slow
def test_controls_and_ceiling(alone):
    """What the part's text says: rollout's energy is that of coarse edges; nothing coarse beats the perfect map."""
    assert alone["rollout, untrained network"][0] < 1.3 * alone["uniform"][0]
    assert abs(alone["rollout"][0] - alone["edges, 8 x 8"][0]) < 0.05
    assert alone["edges, 8 x 8, top tenth"][0] > 1.5 * alone["edges, 8 x 8"][0]
    assert alone["gradient rollout"][0] > 2 * alone["edges, 8 x 8"][0]
    coarse = [name for name in alone if "rollout" in name or "8 x 8" in name]
    assert max(coarse, key=lambda name: alone[name][0]) == "perfect 8 x 8 map"
    assert alone["perfect 8 x 8 map"][2] == 1


@pytest.mark.slow
def test_only_gradients_answer_to_the_class(trained):
    """Two animals, each asked for in turn: a map that ignores the class has the same on both, scene by scene."""
    scores = lesson.rollout_scores(trained, named_scenes(trained, held_out_scenes(80, animals=2, seed=78)))
    for name, (asked, other, hits) in scores.items():
        blind = "gradient" not in name and "perfect" not in name
        assert (asked == pytest.approx(other)) == blind, name
        assert hits.max() <= 0.5 or not blind, name
    asked, other, _ = scores["gradient rollout"].mean(axis=1)
    assert asked > 1.5 * other
    assert asked > scores["gradient x input"][0].mean()


def test_rollout_does_not_notice_a_random_head(trained):
    images = torch.cat([scene.image for scene in held_out_scenes(8, seed=79)])
    headless, empty = partly_random(trained, ["heads"]), partly_random(trained, [""])
    assert torch.equal(lesson.attention_rollout(headless, images), lesson.attention_rollout(trained, images))
    assert not torch.equal(headless(images), trained(images))
    for map, other in zip(*(lesson.attention_rollout(model, images) for model in (trained, empty)), strict=True):
        assert correlation(map, other) < 0.9


def test_kept_by_cls_is_what_rollout_gives():
    for layers, tokens in ((1, 3), (5, 65), (12, 197)):
        alike = torch.full((1, 2, tokens, tokens), 1 / tokens, dtype=torch.float64)
        assert lesson.kept_by_cls(layers, tokens) == pytest.approx(lesson.roll_out([alike] * layers)[0, 0, 0].item())


def test_class_names(trained):
    assert lesson.class_name(trained, 9) == "tiger sumatran"
    with torch.device("meta"):
        assert lesson.class_name(vit_b_16(weights=None), 88) == "macaw"


@pytest.mark.slow
def test_photographs_with_imagenets_transformer(tmp_path, capfd, monkeypatch):
    """Without a download: random weights, and four narrow blocks. Through the doorway, with the class asked for."""
    asked, sizes = [], {"num_layers": 4, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
    small = VisionTransformer(image_size=224, patch_size=16, **sizes)
    monkeypatch.setattr(utils, "torchvision_network", lambda name: asked.append(name) or small)
    options = ["--quick", "--model", "vit_b_16", "--image", "panda.jpg", "--target", "giant panda"]
    assert run_script("09_advanced_techniques", *options, "--output-dir", str(tmp_path)) == 0
    assert asked == ["vit_b_16"]
    assert f"wrote {tmp_path / 'photographs.png'}" in capfd.readouterr().out


def test_a_convolutional_network_has_no_rollout(tmp_path, capfd):
    options = ["--quick", "--model", "squeezenet1_1", "--output-dir", str(tmp_path)]
    assert run_script("advanced.attention_rollout", *options) == 1
    assert "error: rollout needs a torchvision VisionTransformer such as vit_b_16" in capfd.readouterr().err
