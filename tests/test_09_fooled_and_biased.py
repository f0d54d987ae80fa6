"""Maps that are fooled, networks that are biased."""

import numpy as np
import pytest
import torch
from conftest import hook_count, relative_error, unchanged
from matplotlib.figure import Figure
from torch import nn

from advanced import fooled_and_biased as lesson
from course.scenes import found_scenes
from evaluation.methods import METHODS
from utils import DATA_DIR, import_lesson

grad_cam = import_lesson("05_gradcam").grad_cam
guided_backpropagation = import_lesson("06_guided_backpropagation").guided_backpropagation

STD = torch.tensor(lesson.IMAGENET_STD)[:, None, None]
MEAN = torch.tensor(lesson.IMAGENET_MEAN)[:, None, None]


# The attack


def test_smooth_grad_cam_is_grad_cam(squeezenet, photos):
    map, logits = lesson.smooth_grad_cam(squeezenet, photos[:1].clone().requires_grad_(), 235)
    torch.testing.assert_close(map.detach(), grad_cam(squeezenet, photos[:1], 235, upsample=False))
    torch.testing.assert_close(logits.detach(), squeezenet(photos[:1]))
    assert map.requires_grad


def test_hard_gates_give_guided_backpropagation_and_the_answer_is_never_soft(squeezenet, photos):
    image = photos[:1].clone().requires_grad_()
    with unchanged(squeezenet, photos):
        map, logits = lesson.smooth_guided(squeezenet, image, 235, beta=1e6)
    expected = guided_backpropagation(squeezenet, photos[:1], 235).abs().amax(dim=1)
    assert relative_error(map.detach(), expected) < 0.01
    soft, soft_logits = lesson.smooth_guided(squeezenet, image, 235, beta=2)
    for found in (logits, soft_logits):
        torch.testing.assert_close(found.detach(), squeezenet(photos[:1]), rtol=1e-4, atol=1e-4)
    assert relative_error(soft.detach(), expected) > 0.02


def test_the_gradient_of_the_goal_is_no_guided_one():
    """Two ReLUs on one pixel, soft gates: score = -2 r(x) + 3 r(2 x); the guided signal drops the first one.

    d|signal|/dx = 3 * 2 * 2 * s'(2 x), with the softplus' s' = beta sigmoid (1 - sigmoid).
    """
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2, 1)).eval()
    network[0].weight.data = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    network[3].weight.data = torch.tensor([[-2.0, 3.0]])
    x = torch.full((1, 1, 1, 1), 0.4, requires_grad=True)
    map, _ = lesson.smooth_guided(network, x, 0, beta=2)
    gate = torch.sigmoid(torch.tensor(2 * 0.8))
    assert map.item() == pytest.approx((3 * 2 * gate).item())
    (slope,) = torch.autograd.grad(map.sum(), x)
    assert slope.item() == pytest.approx((3 * 2 * 2 * 2 * gate * (1 - gate)).item(), rel=1e-5)
    assert network[1].inplace
    assert hook_count(network) == 0


@pytest.mark.slow
@pytest.mark.parametrize("of", ["grad_cam", "guided_backpropagation"])
def test_the_map_moves_the_answer_stays(of, squeezenet, photos):
    image, where = photos[:1], lesson.corner(photos)
    with unchanged(squeezenet, image):
        moved = lesson.measured_attack(squeezenet, image, 235, of, iterations=12)
    assert torch.equal(moved.path[:1], image)
    assert len(moved.path) == 13
    assert ((moved.path - image).abs() * STD * 255).max() <= 4 + 1e-3
    colours = moved.path * STD + MEAN
    assert colours.min() > -1e-5
    assert colours.max() < 1 + 1e-5
    assert moved.shares[-1] > 3 * moved.shares[0]
    assert moved.shares[0] == pytest.approx(lesson.energy_pointing_game(METHODS[of](squeezenet, image, 235)[0], where))
    assert max(moved.noise) < 1.5 * moved.shares[0]                    # noise of the same size moves nothing
    assert moved.as_file == pytest.approx(moved.shares[-1], abs=0.02)  # and a file keeps the attack
    assert moved.p[1] > 0.9 * moved.p[0]
    assert squeezenet(moved.path[-1:]).argmax().item() == 235


@pytest.mark.slow
def test_it_moves_to_any_region(squeezenet, photos):
    for rows, columns in ((slice(0, 75), slice(0, 75)), (slice(150, 224), slice(150, 224))):
        where = torch.zeros(224, 224, dtype=torch.bool)
        where[rows, columns] = True
        moved = lesson.move_map(squeezenet, photos[:1], 235, where, iterations=6)
        assert moved.shape == (1, 3, 224, 224)
        both = torch.cat([photos[:1], moved])
        share = [lesson.energy_pointing_game(map, where) for map in grad_cam(squeezenet, both, 235)]
        assert share[1] > share[0] + 0.03


def test_the_corner_is_a_ninth():
    where = lesson.corner(torch.zeros(1, 3, 224, 224))
    assert where.sum() == 75 * 74
    assert where[-1, 0]
    assert not where[0, 0]
    assert not where[-1, -1]


def test_rounded_pictures_have_256_values(photos):
    colours = (lesson.rounded(photos) * STD + MEAN) * 255
    assert (colours - colours.round()).abs().max() < 1e-3
    assert ((lesson.rounded(photos) - photos).abs() * STD * 255).max() <= 0.5 + 1e-3
    between = photos + 0.4 / 255 / STD                                 # photographs come from files
    torch.testing.assert_close(lesson.rounded(between), photos, rtol=0, atol=1e-4)


def test_wrong_photographs_are_left_out(tmp_path):
    """The dog is right, the koala called a panda is wrong; the class of the other two is not known."""
    files = [*(DATA_DIR / name for name in ("dog.jpg", "koala.jpg", "giraffe.jpg")), tmp_path / "dog.jpg"]
    files[-1].write_bytes(b"")
    assert lesson.right_ones(files, torch.tensor([235, 388, 7, 8])) == [0, 2, 3]
    with pytest.raises(ValueError, match="--image"):
        lesson.right_ones(files[:2], torch.tensor([88, 88]))


# The shortcut


def test_tags_cover_what_their_mask_says():
    image = torch.zeros(1, 3, 224, 224)
    tagged, mask = lesson.add_tag(image, seed=4)
    assert mask.sum() == lesson.TAG**2
    assert torch.equal((tagged != 0).any(dim=1)[0], mask)
    assert not torch.equal(mask, lesson.add_tag(image, seed=5)[1])
    both, masks = lesson.with_tags(image.expand(2, -1, -1, -1), seed=4)
    assert torch.equal(both[:1], tagged)
    assert torch.equal((both != 0).any(dim=1), masks)


def test_the_tag_is_not_much_larger_than_the_animal():
    _, masks, _ = lesson.cue_scenes(20, seed=20_000)
    assert masks.float().sum(dim=(1, 2)).mean() > lesson.TAG**2 / 2


@pytest.fixture(scope="module")
def heads() -> dict:
    return lesson.trained_heads()


@pytest.fixture(scope="module")
def evidence(heads) -> dict:
    images, _, labels = lesson.cue_scenes(20, seed=20_000)
    plain = images[labels == 1]
    tagged, tags = lesson.with_tags(plain, seed=3)
    return {head: lesson.tag_evidence(network, plain, tagged, tags, 4) for head, network in heads.items()}


@pytest.mark.slow
def test_only_the_biased_head_follows_the_tag(heads):
    """Beaver and wombat without a tag, beaver and wombat with one: how often each is called beaver."""
    called = {row[0]: row[1:] for row in lesson.answers(heads)}
    assert called["biased"][0] < 0.5
    assert called["biased"][1] < 0.1
    assert called["biased"][2] > 0.9
    assert called["biased"][3] > 0.7
    for head in ("clean", "mixed"):
        assert called[head][0] > 0.7
        assert called[head][1] < 0.2
        assert called[head][3] < called["biased"][3] - 0.2
    assert called["mixed"][3] < 0.4


@pytest.mark.slow
def test_the_tag_counts_more_for_the_biased_head_than_for_its_controls(evidence):
    """Paired by scene, all three measures; with a clean head in the biased one's place each line would fail."""
    for control in ("clean", "mixed"):
        for measure in ("logit", "Grad-CAM", "IG"):
            difference = np.subtract(evidence["biased"][measure], evidence[control][measure])
            assert lesson.estimate(difference).low > 0
    assert np.mean(np.subtract(evidence["biased"]["logit"], evidence["clean"]["logit"])) > 1
    assert np.mean(np.subtract(evidence["biased"]["Grad-CAM"], evidence["mixed"]["Grad-CAM"])) > 0.06
    assert np.mean(evidence["clean"]["Grad-CAM"]) > 2 * lesson.TAG**2 / 224**2         # a tag attracts an innocent map


@pytest.mark.slow
def test_what_ig_puts_on_the_tag_is_about_what_the_tag_does(evidence):
    for head in ("biased", "clean", "mixed"):
        claimed, done = np.mean(evidence[head]["IG"]), np.mean(evidence[head]["logit"])
        assert claimed == pytest.approx(done, abs=0.8)


def test_a_tag_that_means_nothing_is_on_half_of_each_class():
    labels = torch.tensor([0, 0, 1, 0, 1, 0, 1, 1, 1, 1])
    mixed = lesson.carries_tag("mixed", labels)
    assert mixed[labels == 0].sum() == 2
    assert mixed[labels == 1].sum() == 3
    assert torch.equal(lesson.carries_tag("biased", labels), labels == 0)
    assert not lesson.carries_tag("clean", labels).any()


# Causes


def test_mask_out_takes_the_highest_squares():
    images, maps = torch.ones(2, 3, 64, 64), torch.zeros(2, 64, 64)
    maps[0, 16:32, 48:64], maps[1, :16, :16] = 1, 1
    maps[:, 40, 40] = 0.5
    masked = lesson.mask_out(images, maps, 1 / 16)
    expected = torch.ones(2, 64, 64)
    expected[0, 16:32, 48:64], expected[1, :16, :16] = 0, 0
    assert torch.equal(masked, expected[:, None].expand(-1, 3, -1, -1))
    assert torch.equal(lesson.mask_out(images, maps, 0.0), images)
    assert lesson.mask_out(images, maps, 0.5).mean() == 0.5
    truth = torch.full_like(images, 7.0)
    assert torch.equal(lesson.mask_out(images, maps, 1 / 16, truth), torch.where(expected[:, None] == 1, images, truth))


@pytest.mark.slow
def test_the_true_background_costs_nothing_where_no_animal_is(squeezenet):
    """Squares beside the animal: the truth changes no pixel, grey does; squares on it: the score falls either way."""
    scenes, _ = found_scenes(squeezenet, 4, seed=0)
    off = lesson.losses(squeezenet, scenes, [lesson.beside(scene) for scene in scenes])
    on = lesson.losses(squeezenet, scenes, [scene.masks[:1].float() for scene in scenes])
    assert np.abs(off[:, 1]).max() < 0.01                              # a fringe of 1 / 255 may be left
    assert np.abs(off[:, 0]).max() > 0.1
    assert (on.mean(axis=0) > 3).all()


@pytest.mark.slow
def test_masking_by_grad_cam_beats_masking_by_noise(squeezenet):
    """Both with grey and with the true background."""
    scenes, _ = found_scenes(squeezenet, 6, seed=1)
    cam, noise = (
        lesson.losses(squeezenet, scenes, [METHODS[name](squeezenet, s.image, s.classes[0]) for s in scenes])
        for name in ("grad_cam", "random")
    )
    assert (cam.mean(axis=0) > noise.mean(axis=0) + 1).all()


# Pictures


def test_figures():
    assert isinstance(lesson.figure_idea(), Figure)
    attack = lesson.Moved(torch.zeros(7, 3, 8, 8), [0.1, 0.4, 0.6], [0.1, 0.1, 0.1], 0.6, [1.0, 0.9])
    one = lesson.figure_trajectories({"grad_cam": {"dog.jpg": attack}})
    assert [line.get_xdata().tolist() for line in one.axes[0].lines] == [[0, 3, 6]] * 2
    assert len(lesson.figure_trajectories({"grad_cam": {"a": attack}, "guided": {"a": attack}}).axes) == 2
