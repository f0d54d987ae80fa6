"""utils.py: reading and preprocessing pictures."""

import contextlib
import gc
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import transforms

import utils
from utils import DATA_DIR, IMAGENET_MEAN, IMAGENET_STD

# Pictures


def pixels(path):
    return np.asarray(utils.load_image(path)).tolist()


def refusal(path, kind=ValueError):
    """The message of the error that loading raises: one line that names the file."""
    with pytest.raises(kind) as caught:
        utils.load_image(path)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
    return message.replace(str(path), "")


def png_that_claims(width, height, path):
    """A PNG of one pixel whose header says otherwise."""
    Image.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_every_exif_orientation_comes_out_upright(orientation, undo, suffix, tmp_path):
    upright = Image.fromarray(np.arange(0, 180, 10, dtype=np.uint8).reshape(2, 3, 3))
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    loaded = utils.load_image(tmp_path / f"a.{suffix}")
    assert np.array_equal(loaded, upright)
    assert np.array_equal(ImageOps.exif_transpose(loaded), upright), "the next reader would turn it again"


def test_a_phone_jpeg_comes_out_upright(picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    loaded = utils.load_image(tmp_path / "a.jpg")
    assert loaded.size == picture.size
    assert np.abs(np.asarray(loaded, float) - np.asarray(picture, float)).mean() < 3


def test_unreadable_exif_is_no_other_error(picture, tmp_path):
    """Either the picture or a refusal; here the width is a word."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "abc"
    picture.save(tmp_path / "a.jpg", exif=exif.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x00\x00\x02"))
    with contextlib.suppress(ValueError):
        assert utils.load_image(tmp_path / "a.jpg").size == (40, 60)


def test_grey_becomes_three_equal_colours(tmp_path):
    Image.fromarray(np.array([[0, 100, 255]], np.uint8)).save(tmp_path / "a.png")
    loaded = utils.load_image(tmp_path / "a.png")
    assert loaded.mode == "RGB"
    assert np.asarray(loaded).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


def test_black_and_white_keeps_both(tmp_path):
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(suffix, tmp_path):
    values = np.array([[0, 300, 257 * 100, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert [grey for grey, _, _ in pixels(tmp_path / f"a.{suffix}")[0]] == [0, 1, 100, 254, 255]


def test_32_bit_integers_are_read_as_16_bit_ones(tmp_path):
    values = np.array([[-5, 0, 257 * 100, 65535, 10**6]], np.int32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert [grey for grey, _, _ in pixels(tmp_path / "a.tif")[0]] == [0, 0, 100, 255, 255]


def test_floats_are_stretched_to_the_whole_range(tmp_path):
    Image.fromarray(np.array([[-1.0, 0.0, 0.6, 1.0]], np.float32)).save(tmp_path / "a.tif")
    assert [grey for grey, _, _ in pixels(tmp_path / "a.tif")[0]] == pytest.approx([0, 127.5, 204, 255], abs=0.6)


def test_odd_floats_do_no_harm(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in ([[7.0, 7.0]], [[np.nan, 1.0]], [[np.inf, 1.0]]):
            Image.fromarray(np.array(values, np.float32)).save(tmp_path / "a.tif")
            assert utils.load_image(tmp_path / "a.tif").mode == "RGB"


def test_palette_without_transparency(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8), "L")
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[[10, 20, 30], [200, 100, 50], [200, 100, 50]]]


def test_palette_with_transparency_is_flattened_on_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "L")
    image.putpalette([10, 20, 30, 200, 100, 50, 255, 0, 0])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255, 51]))
    assert pixels(tmp_path / "a.png") == [[[255, 255, 255], [200, 100, 50], [255, 204, 204]]]


def test_one_transparent_colour_is_flattened_on_white(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    image.save(tmp_path / "a.png", transparency=(1, 2, 3))
    assert pixels(tmp_path / "a.png") == [[[255, 255, 255], [9, 9, 9]]]


def test_rgba_is_flattened_on_white(tmp_path):
    image = np.array([[[255, 0, 0, 51], [10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 102]]], np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[[255, 204, 204], [10, 20, 30], [255, 255, 255], [153, 153, 153]]]


def test_grey_with_alpha_is_flattened_on_white(tmp_path):
    image = Image.merge("LA", [Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 51)])
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png") == [[[204, 204, 204]]]


def test_cmyk_jpeg_is_not_inverted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert pixels(tmp_path / "a.jpg")[8][8] == pytest.approx([255, 0, 0], abs=4)


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "a.gif") == [[[255, 0, 0]] * 3] * 2


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(20_000, 20_000), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_more_pixels_than_memory_is_one_refusal(size, tmp_path):
    assert "pixels" in refusal(png_that_claims(*size, tmp_path / "bomb.png"))


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_truncated_pictures_are_refused(suffix, share, picture, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    picture.save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path)


@pytest.mark.parametrize("content", [b"", b"just a text\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_refused(content, tmp_path):
    (tmp_path / "notes.jpg").write_bytes(content)
    refusal(tmp_path / "notes.jpg")


def test_a_folder_is_refused(tmp_path):
    assert "folder" in refusal(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    refusal(tmp_path / "nothing.jpg", FileNotFoundError)
    refusal("nothing.jpg", FileNotFoundError)
    assert refusal(str(tmp_path / "dog.jpg"), FileNotFoundError) == "there is no picture "     # data/ was not looked at
    assert "neither here nor in data/; did you mean dog.jpg" in refusal("dgo.jpg", FileNotFoundError)
    assert refusal("qqqq.tif", FileNotFoundError) == "there is no picture , neither here nor in data/"


def test_bare_names_are_found_in_data_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dog = Image.open(DATA_DIR / "dog.jpg")
    assert np.array_equal(utils.load_image("dog.jpg"), dog)
    assert np.array_equal(utils.load_image(Path("dog.jpg")), dog)
    assert np.array_equal(utils.load_image(DATA_DIR / "dog.jpg"), dog)


def test_a_file_in_the_current_folder_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2)).save("dog.jpg")
    assert utils.load_image("dog.jpg").size == (3, 2)


def test_the_file_is_closed_after_loading(tmp_path, picture):
    picture.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        utils.load_image(tmp_path / "a.png")
        refusal(tmp_path / "b.png")
        gc.collect()


def reference(image, size):
    """torchvision's own evaluation pipeline."""
    steps = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])(image)[None]


@pytest.mark.parametrize("name", ["dog.jpg", "koala.jpg", "cat.jpg"])
@pytest.mark.parametrize("size", [224, 299, 64])
def test_preprocessing_equals_torchvisions(name, size):
    image = utils.load_image(name)
    assert torch.equal(utils.preprocess_image(image, size), reference(image, size))


def test_224_is_the_default_size(picture):
    assert torch.equal(utils.preprocess_image(picture), reference(picture, 224))


def test_a_white_picture_by_hand():
    images = utils.preprocess_image(Image.new("RGB", (300, 400), "white"))
    expected = [(1 - mean) / std for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)]
    assert images.dtype == torch.float32
    assert images[0, :, 100, 50].tolist() == pytest.approx(expected)


def test_preprocessing_gives_a_leaf_for_backward(picture):
    images = utils.preprocess_image(picture)
    assert images.is_leaf
    assert not images.requires_grad
    images.requires_grad = True
    images.pow(2).sum().backward()
    assert torch.equal(images.grad, 2 * images.detach())


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_are_preprocessed_as_their_rgb(mode, picture):
    image = picture.convert(mode)
    assert torch.equal(utils.preprocess_image(image), reference(image.convert("RGB"), 224))


def test_transparency_is_preprocessed_as_white():
    white = utils.preprocess_image(Image.new("RGB", (50, 50), "white"))
    assert torch.equal(utils.preprocess_image(Image.new("RGBA", (50, 50), (0, 0, 0, 0))), white)


@pytest.mark.parametrize("wrong", ["dog.jpg", Path("dog.jpg"), np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8)])
def test_only_pictures_are_preprocessed(wrong):
    with pytest.raises(TypeError, match="load_image"):
        utils.preprocess_image(wrong)


def test_one_pixel_fills_the_square():
    images = utils.preprocess_image(Image.new("RGB", (1, 1), (255, 0, 0)))
    assert images.shape == (1, 3, 224, 224)
    assert utils.displayable(images)[0].reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([1, 0, 0], abs=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_a_long_strip_stays_small_and_centred(turned):
    strip = np.zeros((3, 20_000, 3), np.uint8)
    strip[:, :10_000, 0] = strip[:, 10_000:, 2] = 255
    image = Image.fromarray(strip.transpose(1, 0, 2).copy() if turned else strip)
    resource = pytest.importorskip("resource")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = utils.displayable(utils.preprocess_image(image))[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000
    shown = shown.transpose(1, 0, 2) if turned else shown
    assert shown[:, :50].mean(axis=(0, 1)).tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert shown[:, -50:].mean(axis=(0, 1)).tolist() == pytest.approx([0, 0, 1], abs=0.02)


@pytest.mark.parametrize("size", [(400, 60), (60, 401), (399, 61)])
def test_a_panorama_is_cropped_as_torchvision_does(size):
    x = np.linspace(0, 255, size[0])[None, :, None] * np.ones((size[1], 1, 3))
    y = np.linspace(0, 255, size[1])[:, None, None] * np.ones((1, size[0], 3))
    image = Image.fromarray(((x + y) / 2).astype(np.uint8))
    difference = utils.preprocess_image(image) - reference(image, 224)
    assert difference.abs().max() < 0.06


def test_displayable_undoes_preprocessing():
    image = utils.load_image("bird.jpg")
    crop = transforms.CenterCrop(224)(transforms.Resize(256)(image))
    shown = utils.displayable(utils.preprocess_image(image).requires_grad_())
    assert shown.shape == (1, 224, 224, 3)
    np.testing.assert_allclose(shown[0] * 255, np.asarray(crop), atol=1e-3)


def test_displayable_stays_in_range():
    shown = utils.displayable(torch.tensor([-100.0, 0.0, 100.0]).reshape(1, 3, 1, 1))
    assert shown.ravel().tolist() == pytest.approx([0.0, 0.456, 1.0])
