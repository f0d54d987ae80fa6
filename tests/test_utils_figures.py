"""utils.py: figures."""

import os
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

import utils
from course.figures import color_scale

# Figures


def shown(figure, panel):
    """The last image drawn into a panel."""
    return figure.axes[panel].images[-1]


@pytest.mark.parametrize(
    "form",
    [
        lambda map: map,
        lambda map: map[None],
        lambda map: map[None, None],
        lambda map: map.numpy(),
        lambda map: map.double().numpy()[None],
        lambda map: map[None, None].numpy(),
        lambda map: map.clone().requires_grad_(),
        lambda map: map.half(),
        lambda map: map.numpy()[::-1][::-1],
        lambda map: np.ascontiguousarray(map.numpy()[::-1])[::-1],
    ],
)
def test_maps_of_every_form_draw_the_same(form, dog, bump):
    figure = utils.visualize_saliency(dog, form(bump))
    assert isinstance(figure, Figure)
    assert len(figure.axes) >= 3
    np.testing.assert_allclose(shown(figure, 1).get_array(), bump, atol=1e-3)
    np.testing.assert_allclose(shown(figure, 2).get_array(), bump, atol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(224, 224),
        torch.full((224, 224), 3.0),
        -torch.ones(224, 224),
        torch.linspace(0, 1e-30, 224 * 224).reshape(224, 224),
        torch.eye(224),
        F.one_hot(torch.tensor(5), 224 * 224).reshape(224, 224),
        torch.ones(224, 224, dtype=torch.bool),
    ],
    ids=["zeros", "constant", "negative", "tiny", "sparse", "one pixel", "bool"],
)
def test_unusual_maps_draw_without_warnings(values, dog, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = utils.visualize_saliency(dog, values, tmp_path / "a.png")
    low, high = shown(figure, 1).get_clim()
    assert low < high
    assert np.isfinite([low, high]).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_maps_that_are_not_finite_are_refused(value, dog, bump, tmp_path):
    bump[3, 4] = value
    with pytest.raises(ValueError, match="NaN"):
        utils.visualize_saliency(dog, bump, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shape", [(2, 224, 224), (3, 224, 224), (1, 3, 224, 224), (2, 1, 224, 224), (0, 0), (0, 224, 224), (224,), ()]
)
def test_only_one_map_is_drawn(shape, dog):
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        utils.visualize_saliency(dog, torch.zeros(shape))
    assert not plt.get_fignums()


@pytest.mark.parametrize("shape", [(100, 224), (520, 436), (435, 520)])
def test_a_map_that_fits_neither_crop_nor_picture_is_refused(shape, dog):
    with pytest.raises(ValueError, match="fits neither"):
        utils.visualize_saliency(dog, torch.ones(shape))


def test_a_map_of_another_size_than_the_tensor_is_refused(photos, bump):
    with pytest.raises(ValueError, match="upsample"):
        utils.visualize_saliency(photos[:1], bump[:112, :112])


def test_two_images_for_one_map_are_refused(photos, bump):
    with pytest.raises(ValueError, match="image"):
        utils.visualize_saliency(photos, bump)


@pytest.mark.parametrize("image", ["dog.jpg", np.zeros((224, 224, 3))])
def test_what_is_no_image_is_refused(image, bump):
    with pytest.raises((TypeError, ValueError), match="image"):
        utils.visualize_saliency(image, bump)


@pytest.mark.parametrize("size", [224, 299])
@pytest.mark.parametrize("name", ["dog.jpg", "koala.jpg"])
def test_the_photo_panel_shows_what_the_network_sees(name, size):
    image = utils.load_image(name)
    figure = utils.visualize_saliency(image, torch.ones(size, size))
    seen = utils.displayable(utils.preprocess_image(image, size))[0]
    np.testing.assert_allclose(shown(figure, 0).get_array(), seen, atol=1e-6)
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), seen.mean(axis=2), atol=1e-6)


def test_a_tensor_is_shown_as_it_is(photos, bump):
    for image in (photos[1], photos[1:], photos[1:].clone().requires_grad_()):
        figure = utils.visualize_saliency(image, bump)
        np.testing.assert_allclose(shown(figure, 0).get_array(), utils.displayable(photos)[1], atol=1e-6)


def test_a_map_of_the_whole_picture_is_shown_on_all_of_it(dog):
    figure = utils.visualize_saliency(dog, torch.ones(dog.height, dog.width))
    np.testing.assert_allclose(shown(figure, 0).get_array(), np.asarray(dog) / 255, atol=1e-6)


@pytest.mark.parametrize("side", [1, 7, 224])
def test_the_overlay_covers_the_photo(side, dog):
    figure = utils.visualize_saliency(dog, torch.rand(side, side, generator=torch.Generator().manual_seed(0)))
    photo, overlay = figure.axes[2].images
    assert list(photo.get_extent()) == list(overlay.get_extent())
    assert overlay.get_array().shape == (side, side)
    left, right = figure.axes[2].get_xlim()
    bottom, top = figure.axes[2].get_ylim()
    assert left < right
    assert bottom > top, "row 0 is drawn at the bottom"


def test_the_overlay_is_more_opaque_where_the_map_is_stronger(dog, bump):
    alpha = shown(utils.visualize_saliency(dog, bump), 2).get_alpha()
    assert alpha[112, 145] > alpha[112, 80] > alpha[20, 20]
    signed = shown(utils.visualize_saliency(dog, -bump), 2).get_alpha()
    np.testing.assert_allclose(signed, alpha)


def test_a_signed_map_has_a_scale_symmetric_about_zero(dog, bump):
    figure = utils.visualize_saliency(dog, bump - 0.1)
    for panel in (1, 2):
        low, high = shown(figure, panel).get_clim()
        assert low == -high < 0
    assert shown(figure, 1).get_cmap().name != shown(utils.visualize_saliency(dog, bump), 1).get_cmap().name


def test_a_non_negative_map_has_a_scale_from_zero(dog, bump):
    low, high = shown(utils.visualize_saliency(dog, bump + 2), 1).get_clim()
    assert low == 0
    assert 2.9 < high <= 3


def test_color_scale_is_common_and_robust():
    values = torch.zeros(1000)
    values[:100] = 1.0
    values[0] = 1e6
    assert color_scale(values)["vmax"] == pytest.approx(1)
    assert color_scale(values, percentile=100)["vmax"] == pytest.approx(1e6)
    scale = color_scale(torch.ones(4), torch.full((4,), -3.0))
    assert (scale["vmin"], scale["vmax"]) == (-3, 3)


def test_the_title_is_shown(dog, bump):
    assert utils.visualize_saliency(dog, bump, title="gradient, koala 0.99").get_suptitle() == "gradient, koala 0.99"
    assert utils.visualize_saliency(dog, bump).get_suptitle() == ""


def test_drawing_leaves_the_map_alone(dog, bump):
    before = bump.clone()
    utils.visualize_saliency(dog, bump)
    assert torch.equal(bump, before)


@pytest.mark.parametrize("kind", [str, Path])
def test_saving_makes_the_folder_and_leaves_one_picture(kind, dog, bump, tmp_path):
    path = tmp_path / "new" / "folder" / "dog.png"
    figure = utils.visualize_saliency(dog, bump, kind(path))
    assert isinstance(figure, Figure)
    assert os.listdir(path.parent) == ["dog.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 2 * image.height > 400
        assert len(image.convert("RGB").getcolors(10**6)) > 1000


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.PNG", "PNG"), ("plain", "PNG")])
def test_the_suffix_chooses_the_format(name, kind, dog, bump, tmp_path):
    utils.visualize_saliency(dog, bump, tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == kind
    assert os.listdir(tmp_path) == [name]


def test_saving_replaces_an_older_figure(dog, bump, tmp_path):
    (tmp_path / "a.png").write_text("old")
    utils.visualize_saliency(dog, bump, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").format == "PNG"


def test_saved_figures_do_not_stay_open(dog, bump, tmp_path):
    for i in range(2):
        utils.visualize_saliency(dog, bump, tmp_path / f"{i}.png")
    assert not plt.get_fignums()
    utils.visualize_saliency(dog, bump)
    assert len(plt.get_fignums()) == 1


def fail_half_way(_figure, file, **_options):
    file.write(b"half a picture")
    raise OSError(28, "No space left on device")


def test_a_failing_save_leaves_nothing(dog, bump, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", fail_half_way)
    with pytest.raises(OSError, match="No space"):
        utils.visualize_saliency(dog, bump, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_failing_save_keeps_the_older_figure(dog, bump, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")
    monkeypatch.setattr(Figure, "savefig", fail_half_way)
    with pytest.raises(OSError, match="No space"):
        utils.visualize_saliency(dog, bump, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_text() == "old"


def test_a_folder_as_target_leaves_nothing(dog, bump, tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        utils.visualize_saliency(dog, bump, tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


def test_an_unknown_format_leaves_nothing(dog, bump, tmp_path):
    with pytest.raises(ValueError, match="xyz"):
        utils.visualize_saliency(dog, bump, tmp_path / "a.xyz")
    assert not list(tmp_path.iterdir())


def test_a_failing_save_does_not_leave_the_figure_open(dog, bump, tmp_path):
    with pytest.raises(ValueError, match="xyz"):
        utils.visualize_saliency(dog, bump, tmp_path / "a.xyz")
    assert not plt.get_fignums()
