"""evaluation/planted_scenes.py and course/scenes.py: pointing games, scenes, boxes, human maps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PixelFunction
from PIL import Image
from torch import Tensor

from course.pictures import displayable
from course.scenes import (
    backgrounds,
    box_masks,
    boxed_class,
    counterfactual_scene,
    cutout,
    cutout_classes,
    finds,
    found_scenes,
    load_human_map,
    planted_scene,
)  # fmt: skip
from evaluation.methods import METHODS, random_map, uniform_map
from evaluation.planted_scenes import (
    around_the_animal,
    at_resolution,
    energy_pointing_game,
    grid_pointing_game,
    human_agreement,
    localisation,
    pointing_game,
    right_of_two,
)  # fmt: skip
from utils import PROJECT_ROOT, find_class, upsample


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Localisation


def dot(y: int, x: int, size: tuple[int, int] = (60, 100)) -> Tensor:
    map = torch.zeros(size)
    map[y, x] = 1
    return map


@pytest.mark.parametrize(("x", "hit"), [(50, True), (64, True), (65, True), (66, False), (99, False)])
def test_pointing_game_at_its_boundary(x, hit):
    """The region ends at column 50: 14 and 15 pixels away are hits, 16 a miss."""
    region = torch.zeros(60, 100, dtype=torch.bool)
    region[30, 40:51] = True
    assert pointing_game(dot(30, x), region) is hit
    assert pointing_game(dot(30, x), region, tolerance=0) is (x == 50)


def test_pointing_game_measures_straight_distance_and_knows_x_from_y():
    region = dot(20, 70).bool()
    assert pointing_game(dot(29, 82), region) is True            # 9, 12: 15 pixels
    assert pointing_game(dot(30, 82), region) is False
    assert pointing_game(dot(20, 30), dot(30, 20).bool(), tolerance=5) is False


def test_pointing_game_any_instance_first_maximum():
    regions = torch.stack([dot(5, 5), dot(50, 90)]).bool()
    assert pointing_game(dot(50, 80), regions) is True
    tie = dot(5, 5) + dot(59, 0)
    assert pointing_game(tie, regions[:1]) is True
    assert pointing_game(tie, dot(59, 0).bool()) is False        # the later maximum does not count
    assert pointing_game(dot(5, 5) - 2 * dot(50, 90), regions[:1]) is True    # the largest, not the largest |.|


def test_pointing_game_that_makes_no_sense_is_none():
    nothing = torch.zeros(60, 100, dtype=torch.bool)
    assert pointing_game(dot(3, 3), nothing) is None
    assert pointing_game(dot(3, 3), nothing[None].expand(0, -1, -1)) is None
    assert pointing_game(torch.ones(60, 100), ~nothing) is None
    with pytest.raises(ValueError, match="regions"):
        pointing_game(dot(3, 3), nothing.T)


def test_energy_pointing_game():
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:2, :3] = True
    assert energy_pointing_game(torch.ones(4, 5), mask) == pytest.approx(6 / 20)
    assert energy_pointing_game(mask.float(), mask) == 1
    assert energy_pointing_game((~mask).float(), mask) == 0
    map = torch.full((4, 5), -9.0)
    map[0, 0], map[3, 4] = 3.0, 1.0
    assert energy_pointing_game(map, mask) == 0.75              # negative values are no evidence
    instances = torch.stack([dot(0, 0, (4, 5)), dot(3, 4, (4, 5))]).bool()
    assert energy_pointing_game(map, instances) == 1
    assert math.isnan(energy_pointing_game(-torch.ones(4, 5), mask))
    assert math.isnan(energy_pointing_game(torch.ones(4, 5), torch.zeros(4, 5)))


def test_grid_pointing_game(tiny):
    images = torch.randn(4, 3, 16, 20, generator=seeded())

    def oracle(_model, pictures: Tensor, target) -> Tensor:
        """All in the quarter whose number is the class."""
        assert pictures.shape == (4, 3, 16, 20)
        maps = -torch.ones(4, 16, 20)
        for map, number in zip(maps, target, strict=True):
            y, x = divmod(number, 2)
            map[8 * y : 8 * y + 8, 10 * x : 10 * x + 10] = 1
        return maps

    assert grid_pointing_game(oracle, tiny, images, [0, 1, 2, 3]).tolist() == [1, 1, 1, 1]
    assert grid_pointing_game(oracle, tiny, images, [1, 0, 2, 3]).tolist() == [0, 0, 1, 1]
    assert grid_pointing_game(uniform_map, tiny, images, [0, 1, 2, 0]).tolist() == [0.25] * 4
    negative = grid_pointing_game(lambda *_: -torch.ones(4, 16, 20), tiny, images, [0, 1, 2, 0])
    assert negative.isnan().all()
    with pytest.raises(ValueError, match="four"):
        grid_pointing_game(oracle, tiny, images[:3], [0, 1, 2])


def test_human_agreement():
    map = torch.rand(20, 30, generator=seeded(1))
    assert human_agreement(map, map) == pytest.approx(1)
    assert human_agreement(map, torch.exp(5 * map)) == pytest.approx(1)                # any monotone function
    assert human_agreement(map, -map) == pytest.approx(-1)
    assert abs(human_agreement(map, torch.rand(20, 30, generator=seeded(2)))) < 0.15
    assert human_agreement(map, map, ceiling=0.5) == pytest.approx(2)
    ranks = [m.flatten().argsort().argsort().numpy() for m in (map, map.T.reshape(20, 30))]
    assert human_agreement(map, map.T.reshape(20, 30)) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert math.isnan(human_agreement(map, torch.ones(20, 30)))
    assert math.isnan(human_agreement(torch.zeros(20, 30), map))
    with pytest.raises(ValueError, match="load_human_map"):
        human_agreement(map, map.T)


def test_human_maps_from_files(tmp_path):
    """As an array or as a picture, cropped as the photograph is."""
    values = np.zeros((300, 400), dtype=np.uint8)
    values[100:200, 150:250] = 255
    np.save(tmp_path / "map.npy", values)
    Image.fromarray(values).save(tmp_path / "map.png")
    for name in ("map.npy", "map.png"):
        map = load_human_map(tmp_path / name)
        assert map.shape == (224, 224)
        assert map[112, 112] == pytest.approx(1)
        assert map[0, 0] == 0
        assert (map > 0.5).float().mean().item() == pytest.approx((100 * 256 / 300 / 224) ** 2, rel=0.03)


# Planted scenes


GROUND = Image.new("RGB", (300, 400), (90, 120, 60))


def test_a_scene_is_background_plus_animals_where_the_masks_say():
    image, masks, classes = planted_scene(["zebra", "pig"], GROUND, seed=4)
    assert image.shape == (1, 3, 224, 224)
    assert masks.shape == (2, 224, 224)
    assert masks.dtype == torch.bool
    assert classes == [find_class("zebra"), find_class("hog")]
    assert not (masks[0] & masks[1]).any()
    photo = displayable(image)[0]
    near = torch.from_numpy(np.abs(photo - np.array([90, 120, 60]) / 255).max(axis=2) < 0.02)
    grown = torch.nn.functional.max_pool2d(masks.any(dim=0).float()[None], 7, stride=1, padding=3)[0].bool()
    assert near[~grown].all()                                          # nothing but background elsewhere
    assert near[masks.any(dim=0)].float().mean() < 0.2


def test_scenes_are_seeded_and_vary():
    scenes = [planted_scene(["duck"], GROUND, seed=seed)[1][0] for seed in range(60)]
    assert torch.equal(scenes[7], planted_scene(["duck"], GROUND, seed=7)[1][0])
    sides, centres, lean = [], [], []
    for mask in scenes:
        ys, xs = mask.nonzero(as_tuple=True)
        sides.append(max(ys.max() - ys.min(), xs.max() - xs.min()).item() + 1)
        centres.append((ys.double().mean().item(), xs.double().mean().item()))
        lean.append(((2 * xs.double().mean() - xs.min() - xs.max()) / (xs.max() - xs.min())).item())
    assert 66 <= min(sides) < 80
    assert 118 < max(sides) <= 130
    assert np.ptp(centres, axis=0).min() > 70
    assert 15 < sum(value > 0 for value in lean) < 45                  # about half of them are mirrored


def test_edges_are_soft():
    image, masks, _ = planted_scene(["penguin"], Image.new("RGB", (224, 224), "black"), seed=0)
    brightness = displayable(image)[0].mean(axis=2)
    rim = torch.nn.functional.max_pool2d(masks.float(), 3, stride=1, padding=1)[0].bool() & ~masks[0]
    assert ((brightness[rim] > 0.02) & (brightness[rim] < 0.5)).mean() > 0.2


def test_scene_refusals():
    with pytest.raises(ValueError, match="zebra"):
        planted_scene(["unicorn"], GROUND, seed=0)
    with pytest.raises(ValueError, match="no room"):
        planted_scene(["zebra"] * 30, GROUND, seed=0)
    with pytest.raises(ValueError, match="does not fit"):
        planted_scene(["zebra"], GROUND, seed=0, size=64)
    assert planted_scene(["zebra"], GROUND, seed=0, size=64, sides=(20, 40))[0].shape == (1, 3, 64, 64)


def test_cutouts_have_classes_and_backgrounds_no_animals():
    classes = cutout_classes()
    assert len(classes) == len(set(classes.values())) == 25
    for name in classes:
        alpha = np.asarray(cutout(name).getchannel("A"))
        assert 0.1 < (alpha > 127).mean() < 0.95
    assert (PROJECT_ROOT / "data" / "cutouts" / "COPYING").read_text().count("GNU GENERAL PUBLIC LICENSE") >= 1
    annotations = json.loads((PROJECT_ROOT / "data" / "annotations.json").read_text())
    for entry in annotations.values():
        if "background" in entry:
            x0, y0, x1, y1 = entry["background"]
            assert all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d in entry["boxes"])
    assert len(backgrounds()) == 10
    assert min(min(square.size) for square in backgrounds()) >= 224, "a smaller one would have to be enlarged"
    assert len(backgrounds(smallest=0)) == 15


def test_the_same_picture_without_its_animals():
    """Equal everywhere but at the animals, and nothing of them is left."""
    image, ground, masks, classes = counterfactual_scene(["zebra", "pig"], GROUND, seed=4)
    plain = torch.from_numpy(displayable(ground)[0])
    assert (plain - torch.tensor([90, 120, 60]) / 255).abs().max() < 0.01
    grown = torch.nn.functional.max_pool2d(masks.any(dim=0).float()[None], 7, stride=1, padding=3)[0].bool()
    assert (image - ground)[0, :, ~grown].abs().max() < 0.1            # a faint shadow at most
    assert (image - ground)[0, :, masks.any(dim=0)].abs().amax(dim=0).gt(0.05).float().mean() > 0.8
    for seed in range(3):
        options = {"seed": seed, "size": 96, "sides": (30, 60)}
        picture = backgrounds()[seed]
        with_animal = planted_scene(["hen"], picture, **options)
        image, ground, masks, classes = counterfactual_scene(["hen"], picture, **options)
        assert torch.equal(image, with_animal[0])
        assert torch.equal(masks, with_animal[1])
        assert classes == with_animal[2]
        assert ground.shape == image.shape == (1, 3, 96, 96)


@pytest.fixture(scope="module")
def kept(squeezenet) -> dict:
    return {animals: found_scenes(squeezenet, 3, animals=animals, seed=1) for animals in (1, 2)}


def test_only_scenes_count_in_which_the_network_finds_every_animal(kept, squeezenet):
    for animals, (scenes, tried) in kept.items():
        assert len(scenes) == 3 < tried
        for scene in scenes:
            with torch.no_grad():
                p = squeezenet(scene.image).softmax(1)[0]
            best = p.topk(5).indices.tolist()
            assert p[scene.classes[0]] > 0.5 if animals == 1 else all(c in best for c in scene.classes)
            assert scene.masks.shape == (animals, 224, 224)
            assert scene.image.shape == scene.ground.shape
            assert len(scene.name.split(" and ")) == len(scene.classes) == animals
    (again, same), (scenes, tried) = found_scenes(squeezenet, 3, seed=1), kept[1]
    assert same == tried
    assert all(torch.equal(a.image, b.image) for a, b in zip(scenes, again, strict=True))
    other, _ = found_scenes(squeezenet, 1, seed=2)
    assert not torch.equal(other[0].image, scenes[0].image)


def test_what_a_network_finds():
    def knowing(*logits: float) -> PixelFunction:
        return PixelFunction(lambda images: torch.tensor([logits]).expand(len(images), -1))

    image = torch.zeros(1, 3, 4, 4)
    assert finds(knowing(2.0, 0.0, 0.0), image, [0])
    assert not finds(knowing(0.5, 0.0, 0.0), image, [0])               # the best, but below one half
    many = knowing(9.0, 8.0, 7.0, 6.0, 5.0, 4.0)
    assert finds(many, image, [0, 4])
    assert not finds(many, image, [0, 5])
    with pytest.raises(ValueError, match="is it trained"):
        found_scenes(PixelFunction(lambda images: torch.zeros(len(images), 1000)), 1)


def test_the_mask_is_the_best_map_and_noise_the_expected_one(kept):
    for scene in kept[1][0]:
        mask, noise = scene.masks[0], random_map(None, scene.image)[0]
        assert energy_pointing_game(mask.float(), mask) == 1
        assert pointing_game(mask.float(), mask) is True
        assert human_agreement(mask.float(), mask.float()) == pytest.approx(1)
        assert energy_pointing_game(noise, mask) == pytest.approx(mask.float().mean().item(), rel=0.05)


def test_the_mask_as_a_coarse_map_draws_it(kept):
    mask = kept[1][0][0].masks[0]
    cells = torch.tensor([[mask[32 * y : 32 * y + 32, 32 * x : 32 * x + 32].float().mean() for x in range(7)]
                          for y in range(7)])  # fmt: skip
    torch.testing.assert_close(at_resolution(mask, 7), upsample(cells[None], 224)[0])
    energy = [energy_pointing_game(at_resolution(mask, size), mask) for size in (4, 7, 14, 28)]
    assert energy == sorted(energy)
    assert energy_pointing_game(at_resolution(mask, 224), mask) == 1


def test_the_table_of_scenes(kept, squeezenet):
    scenes, _ = kept[1]
    methods = {"mask": lambda model, image, target: next(s for s in scenes if s.image is image).masks.float(),
               "nothing": lambda model, image, target: torch.zeros(1, 224, 224)}  # fmt: skip
    table = localisation(squeezenet, scenes, methods)
    values = table.set_index(["method", "metric", "picture"]).value
    assert (values["mask"] == 1).all()
    assert values["nothing"].isna().all()
    assert len(table) == 12


def test_right_of_two(kept, squeezenet):
    """A map that listens to the class has 1, the opposite 0, and one that does not listen exactly one half."""
    scene = kept[2][0][0]
    index = {label: i for i, label in enumerate(scene.classes)}
    assert right_of_two(lambda m, x, t: scene.masks[index[t]][None].float(), squeezenet, scene) == 1
    assert right_of_two(lambda m, x, t: scene.masks[1 - index[t]][None].float(), squeezenet, scene) == 0
    for method in ("random", "edges"):
        assert right_of_two(METHODS[method], squeezenet, scene) == pytest.approx(0.5, abs=1e-6)
    assert math.isnan(right_of_two(lambda m, x, t: torch.zeros(1, 224, 224), squeezenet, scene))


def test_around_the_animal(kept):
    """The network is the mean of the red channel, so each surrounding can be computed by hand."""
    scene = kept[1][0][0]
    red = PixelFunction(lambda images: images[:, :1].mean(dim=(2, 3)).expand(-1, 1000))
    grounds, mask = torch.randn(2, 3, 224, 224, generator=seeded()), scene.masks[0]
    found = around_the_animal(red, scene, grounds)
    assert found["planted"].item() == pytest.approx(scene.image[0, 0].mean().item(), abs=1e-5)
    assert found["without"].item() == pytest.approx(scene.ground[0, 0].mean().item(), abs=1e-5)
    assert found["grey"].item() == pytest.approx(scene.image[0, 0, mask].sum().item() / 224**2, abs=1e-5)
    for logit, ground in zip(found["elsewhere"].tolist(), grounds, strict=True):
        expected = scene.image[0, 0, mask].sum() + ground[0, ~mask].sum()
        assert logit == pytest.approx(expected.item() / 224**2, abs=1e-5)


def test_which_photographs_have_boxes():
    assert boxed_class(Path("koala.jpg")) == boxed_class(PROJECT_ROOT / "data" / "koala.jpg") == find_class("koala")
    assert boxed_class(Path("giraffe.jpg")) is None                    # ImageNet has none
    assert boxed_class(Path("my_cat.jpg")) is None


def test_a_strangers_picture_of_the_same_name_has_no_boxes(tmp_path):
    (tmp_path / "koala.jpg").write_bytes(b"anything")
    assert boxed_class(tmp_path / "koala.jpg") is None


def test_boxes_are_cropped_as_the_photograph_is(dog):
    """The dog's box, drawn on the photograph, then preprocessed."""
    masks = box_masks("dog.jpg")
    x0, y0, x1, y1 = json.loads((PROJECT_ROOT / "data" / "annotations.json").read_text())["dog.jpg"]["boxes"][0]
    scale = 256 / min(dog.size)
    left, top = (dog.width * scale - 224) / 2, (dog.height * scale - 224) / 2
    ys, xs = masks[0].nonzero(as_tuple=True)
    rows, columns = ([y * scale - top for y in (y0, y1)], [x * scale - left for x in (x0, x1)])
    expected = np.clip([*rows, *columns], 0, 224).tolist()
    assert [ys.min(), ys.max() + 1, xs.min(), xs.max() + 1] == pytest.approx(expected, abs=1.5)
