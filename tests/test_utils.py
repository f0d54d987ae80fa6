"""utils.py: pictures, networks, classes and targets, maps, figures, lessons, and the data they use."""

import contextlib
import copy
import gc
import http.server
import inspect
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
import zlib
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import Broken, PixelFunction, hook_count, relative_error, unchanged
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import nn
from torchvision import transforms

import utils
from utils import DATA_DIR, IMAGENET_MEAN, IMAGENET_STD, PROJECT_ROOT

# Pictures


@pytest.fixture
def picture():
    """60 x 40 pixels of smooth colour."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([4 * x, 6 * y, 2 * x + 3 * y], axis=2).astype(np.uint8))


def pixels(path):
    return np.asarray(utils.load_image(path)).tolist()


def refusal(path, kind=ValueError):
    """The message of the error that loading raises: one line that names the file."""
    with pytest.raises(kind) as caught:
        utils.load_image(path)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
    return message


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
    values = np.array([[0, 300, 257 * 100, 257 * 200, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert [grey for grey, _, _ in pixels(tmp_path / f"a.{suffix}")[0]] == [0, 1, 100, 200, 255]


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
    refusal(str(tmp_path / "dog.jpg"), FileNotFoundError)


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


# Networks

QUICK_START = """
from utils import load_image, preprocess_image, load_model, visualize_saliency
model = load_model()
image = load_image('dog.jpg')
input_tensor = preprocess_image(image)
input_tensor.requires_grad = True
output = model(input_tensor)
class_idx = output.argmax(dim=1)
output[0, class_idx].backward()
saliency = input_tensor.grad.abs().max(dim=1)[0]
visualize_saliency(image, saliency)
"""


def test_quick_start_word_for_word():
    code = QUICK_START + "print(class_idx.item(), tuple(saliency.shape), saliency.max().item() > 0)"
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "235 (1, 224, 224) True\n"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where torch.hub keeps a network's weights, for this test only."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return lambda name: folder / Path(torchvision.models.get_model_weights(name).DEFAULT.url).name


@pytest.fixture
def offline(monkeypatch):
    """No host name can be resolved."""

    def fail(*_args, **_kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt fails the test."""

    def fail(*_args, **_kwargs):
        pytest.fail("used the network")

    monkeypatch.setattr(socket, "socket", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(urllib.request, "urlopen", fail)


@pytest.fixture
def server(monkeypatch):
    """serve(name, body, cut): network `name` is downloaded from here; the connection ends `cut` bytes early."""
    with contextlib.ExitStack() as stack:

        def serve(name, body, cut=0, file="weights.pth"):
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_HEAD(self):
                    self.send_response(200 if body else 404)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()

                def do_GET(self):
                    self.do_HEAD()
                    self.wfile.write(body[: len(body) - cut])

                def log_message(self, *_args):
                    pass

            try:
                web = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
                socket.create_connection(web.server_address, timeout=5).close()
            except OSError:
                pytest.skip("no loopback interface here")
            threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(web.shutdown)
            serve_from(monkeypatch, name, f"http://127.0.0.1:{web.server_port}/{file}")

        yield serve


def serve_from(monkeypatch, name, url):
    monkeypatch.setattr(torchvision.models.get_model_weights(name).DEFAULT.value, "url", url)


def randomised(model, seed=0):
    """The model in eval mode with random weights and with running statistics far from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                if module.affine:
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(0, 0.5, generator=generator)
                if module.running_mean is not None:
                    module.running_mean.normal_(0, 0.5, generator=generator)
                    module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


def outputs_and_gradient(model, images):
    images = images.clone().requires_grad_()
    logits = model(images)
    weights = torch.linspace(-1, 2, logits[0].numel(), dtype=logits.dtype).reshape(logits[0].shape).cos()
    (gradient,) = torch.autograd.grad((logits * weights).sum(), images)
    return logits.detach(), gradient


def assert_same_function(model, other, images, tolerance):
    """`model` and `other` may be networks or what outputs_and_gradient returned for them."""
    first, second = (
        pair if isinstance(pair, tuple) else outputs_and_gradient(pair, images) for pair in (model, other)
    )
    assert relative_error(first[0], second[0]) < tolerance
    assert relative_error(first[1], second[1]) < tolerance


@pytest.fixture(scope="module")
def well_known():
    names = ["dog.jpg", "bird.jpg", "panda.jpg", "koala.jpg", "chicken.jpg"]
    return torch.cat([utils.preprocess_image(utils.load_image(name)) for name in names])


def test_resnet50_knows_its_animals(resnet, well_known):
    expected = [
        (235, "German shepherd", 0.98),
        (88, "macaw", 1.0),
        (388, "giant panda", 1.0),
        (105, "koala", 1.0),
        (8, "hen", 0.97),
    ]
    for (best,), (index, label, probability) in zip(utils.predict(resnet, well_known, k=1), expected, strict=True):
        assert best == (index, label, pytest.approx(probability, abs=0.01 if probability == 1 else 0.02))


def test_squeezenet_knows_its_animals(squeezenet, well_known):
    expected = [(235, 0.95), (88, 0.97), (388, 1.0), (105, 1.0), (8, 0.99)]
    for ((index, _, probability),), right in zip(utils.predict(squeezenet, well_known, k=1), expected, strict=True):
        assert (index, probability) == (right[0], pytest.approx(right[1], abs=0.02))


@pytest.mark.parametrize("name", ["resnet", "squeezenet"])
def test_embedded_networks_are_ready_for_attribution(name, request):
    model = request.getfixturevalue(name)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert hook_count(model) == 0


def test_resnet50_keeps_its_layer_names(resnet):
    assert isinstance(resnet.get_submodule("layer4"), nn.Sequential)
    assert resnet.get_submodule("conv1").weight.shape == (64, 3, 7, 7)
    assert resnet.get_submodule("layer1.0.conv2").weight.shape == (64, 64, 3, 3)
    names = {name for name, _ in torchvision.models.resnet50().named_modules()}
    assert {name for name, _ in resnet.named_modules()} == names


def test_resnet50_is_the_default(resnet):
    model = utils.load_model()
    assert isinstance(model, torchvision.models.ResNet)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resnet.parameters(), strict=True))


def test_two_loads_share_nothing(squeezenet):
    model = utils.load_model("squeezenet1_1")
    weights, before = next(squeezenet.parameters()), next(squeezenet.parameters()).clone()
    next(model.parameters()).zero_()
    assert torch.equal(weights, before)


def test_resnet50_is_its_weight_file_unfolded(resnet, photos):
    """The gradient only in double precision: in single, rounding switches a ReLU here and there, folded or not."""
    raw = torchvision.models.resnet50(weights=None)
    utils.put_stride_in_first_convolution(raw)
    raw.load_state_dict(utils.read_embedded("resnet50"))
    raw.eval()
    with torch.no_grad():
        assert relative_error(resnet(photos), raw(photos)) < 1e-4
    patch, folded = photos[:1, :, 64:160, 64:160].double(), utils.fold_batch_norm(copy.deepcopy(raw.double()))
    assert batch_norms(folded) == 0
    assert_same_function(folded, raw, patch, 1e-9)


@pytest.mark.parametrize("name", list(utils.EMBEDDED))
def test_loading_touches_neither_network_nor_random_state(name, no_network):
    before = torch.get_rng_state()
    utils.load_model(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_needs_no_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    utils.load_model("squeezenet1_1")


@pytest.mark.parametrize("damage", ["altered", "truncated", "empty", "missing"])
def test_a_damaged_weight_file_says_how_to_restore_it(damage, tmp_path, monkeypatch, no_network):
    data = bytearray((DATA_DIR / "weights" / "squeezenet1_1.pt").read_bytes())
    data[len(data) // 2] ^= damage == "altered"
    data = {"truncated": data[:-100], "empty": b""}.get(damage, data)
    (tmp_path / "weights").mkdir()
    if damage != "missing":
        (tmp_path / "weights" / "squeezenet1_1.pt").write_bytes(data)
    monkeypatch.setattr(utils, "DATA_DIR", tmp_path)
    with pytest.raises(RuntimeError, match=r"git checkout -- data/weights/squeezenet1_1\.pt"):
        utils.load_model("squeezenet1_1")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5", "resnet50"), ("ResNet50", "resnet50"), ("squeezenet", "squeezenet1_1"), ("vgg-16", "vgg16")],
)
def test_an_unknown_network_names_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"{name}.*\b{near}\b"):
        utils.load_model(name)


@pytest.mark.parametrize("name", ["", "x", None, 50, "fasterrcnn_resnet50_fpn", "deeplabv3_resnet50"])
def test_what_is_no_classifier_is_refused(name):
    with pytest.raises(ValueError, match="there is no model"):
        utils.load_model(name)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "hpu", "privateuseone", ""])
def test_an_unavailable_device_is_one_sentence(device):
    with pytest.raises(ValueError, match=r"device '.*' is not available here; use 'cpu'\Z"):
        utils.load_model("squeezenet1_1", device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_one_is_one_sentence():
    with pytest.raises(ValueError, match=r"device 'cuda.*' is not available here; use 'cpu'\Z"):
        utils.load_model("resnet50", torch.device("cuda"))


def test_devices_have_names_and_objects():
    assert next(utils.load_model("squeezenet1_1", torch.device("cpu")).parameters()).device.type == "cpu"


def old_densenet_names(state):
    """As in torchvision's densenet files: denselayer1.norm.1.weight for denselayer1.norm1.weight, and no counters."""
    state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    dense = [key for key in state if "denselayer" in key]
    for key in dense:
        layer, _, parameter = key.rpartition(".")
        state[f"{layer[:-1]}.{layer[-1]}.{parameter}"] = state.pop(key)
    return state


@pytest.mark.parametrize(
    ("name", "options", "stored_as"),
    [
        ("resnet18", {}, dict),
        ("mobilenet_v3_small", {}, dict),
        ("regnet_y_400mf", {}, dict),
        ("densenet121", {}, old_densenet_names),
        ("googlenet", {"transform_input": True, "init_weights": False}, dict),
    ],
)
def test_torchvisions_networks_compute_what_torchvision_computes(name, options, stored_as, cache, no_network):
    """Its weight files need its own constructor: some change names, some the input's normalisation."""
    expected = randomised(torchvision.models.get_model(name, weights=None, **options))
    torch.save(stored_as(expected.state_dict()), cache(name))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    model = utils.load_model(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert relative_error(model(images), expected(images)) < 1e-4


def test_a_download_is_kept_for_the_next_time(server, cache, tmp_path, monkeypatch):
    expected = torchvision.models.squeezenet1_0(weights=None).eval()
    torch.save(expected.state_dict(), tmp_path / "net.pth")
    server("squeezenet1_0", (tmp_path / "net.pth").read_bytes())
    assert torch.equal(utils.load_model("squeezenet1_0").classifier[1].weight, expected.classifier[1].weight)
    serve_from(monkeypatch, "squeezenet1_0", "http://127.0.0.1:9/weights.pth")
    assert torch.equal(utils.load_model("squeezenet1_0").classifier[1].weight, expected.classifier[1].weight)


def assert_says_what_works_offline(error):
    assert "resnet18" in str(error)
    assert all(name in str(error) for name in utils.EMBEDDED)
    assert "\n" not in str(error)


def test_without_a_network_the_embedded_ones_are_named(offline, cache):
    start = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        utils.load_model("resnet18")
    assert time.monotonic() - start < 15
    assert_says_what_works_offline(caught.value)


def test_name_resolution_that_hangs_is_given_up(cache, monkeypatch):
    release = threading.Event()

    def hang(*_args, **_kwargs):
        release.wait(30)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    try:
        with pytest.raises(ConnectionError) as caught:
            utils.torchvision_network("resnet18", patience=0.3)
    finally:
        release.set()
    assert time.monotonic() - start < 5
    assert_says_what_works_offline(caught.value)


def test_a_server_that_never_answers_is_given_up(cache, monkeypatch):
    try:
        server = socket.create_server(("127.0.0.1", 0))
    except OSError:
        pytest.skip("no loopback interface here")
    with server:
        serve_from(monkeypatch, "resnet18", f"http://127.0.0.1:{server.getsockname()[1]}/weights.pth")
        start = time.monotonic()
        with pytest.raises(ConnectionError) as caught:
            utils.torchvision_network("resnet18", patience=0.3)
    assert time.monotonic() - start < 5
    assert_says_what_works_offline(caught.value)


def test_the_usual_patience_is_below_15_seconds():
    assert inspect.signature(utils.torchvision_network).parameters["patience"].default < 15


def test_a_file_the_server_does_not_have(server, cache):
    server("resnet18", b"")
    with pytest.raises(ConnectionError) as caught:
        utils.torchvision_network("resnet18", patience=5)
    assert_says_what_works_offline(caught.value)


def test_a_download_that_breaks_off_is_no_damaged_file(server, cache, tmp_path):
    """Nothing is in the cache, so nothing can be deleted from it."""
    server("resnet18", b"0" * 10_000, cut=3_000, file="resnet18-0123456789abcdef.pth")
    with pytest.raises(ConnectionError) as caught:
        utils.torchvision_network("resnet18", patience=5)
    assert_says_what_works_offline(caught.value)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


@pytest.mark.parametrize("before", [None, 123.0])
def test_the_sockets_time_limit_is_restored(before, offline, cache):
    usual = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before)
    try:
        with pytest.raises(ConnectionError):
            utils.load_model("resnet18")
        assert socket.getdefaulttimeout() == before
    finally:
        socket.setdefaulttimeout(usual)


@pytest.mark.parametrize("damage", ["empty", "text", "html", "cut", "cut a lot", "no weights", "other weights"])
def test_a_damaged_cached_file_is_named(damage, cache, no_network):
    path = cache("resnet18")
    torch.save([1, 2] if damage == "no weights" else {"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    whole = path.read_bytes()
    content = {"empty": b"", "text": b"hello world", "html": b"<html>", "cut": whole[:-1000], "cut a lot": whole[:1000]}
    path.write_bytes(content.get(damage, whole))
    with pytest.raises(RuntimeError) as caught:
        utils.load_model("resnet18")
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


# Folding


class Wired(nn.Module):
    """Two convolutions, two batch norms and a ReLU, connected by a formula (net, images) -> outputs."""

    def __init__(self, formula, **options):
        super().__init__()
        self.conv, self.conv2 = nn.Conv2d(3, 3, 3, padding=1, **options), nn.Conv2d(3, 3, 1, **options)
        self.bn, self.bn2, self.relu = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.ReLU()
        self.formula = formula

    def forward(self, images):
        return self.formula(self, images)


def batch_norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def assert_folds(model, left, images=None):
    """Same module, same names, same function, and `left` batch norms."""
    if images is None:
        images = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    randomised(model.double())
    names, before = [name for name, _ in model.named_modules()], outputs_and_gradient(model, images.double())
    assert utils.fold_batch_norm(model) is model
    assert_same_function(model, before, images.double(), 1e-10)
    assert [name for name, _ in model.named_modules()] == names
    assert batch_norms(model) == left
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(("name", "left"), [("resnet18", 0), ("mobilenet_v2", 0), ("densenet121", 62)])
def test_folding_keeps_torchvisions_networks(name, left):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert_folds(torchvision.models.get_model(name, weights=None), left, images)


def test_folding_in_single_precision():
    model = randomised(torchvision.models.resnet18(weights=None))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert relative_error(utils.fold_batch_norm(copy.deepcopy(model))(images), model(images)) < 1e-4


@pytest.mark.parametrize(("bias", "expected_bias"), [(None, 3.5), (7.0, 14.0)])
def test_folding_by_hand(bias, expected_bias):
    """y = 3 (2x + b - 1) / sqrt(4) + 5."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=bias is not None), nn.BatchNorm2d(1, eps=0.5))
    with torch.no_grad():
        model[0].weight.fill_(2)
        if bias is not None:
            model[0].bias.fill_(bias)
        for name, value in {"weight": 3, "bias": 5, "running_mean": 1, "running_var": 3.5}.items():
            getattr(model[1], name).fill_(value)
    utils.fold_batch_norm(model.eval())
    assert (model[0].weight.item(), model[0].bias.item()) == pytest.approx((3.0, expected_bias))
    assert isinstance(model[1], nn.Identity)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"groups": 3}, {"stride": 2, "dilation": 2}, {"padding": 2, "padding_mode": "reflect"}]
)
def test_every_kind_of_convolution_folds(bias, options):
    assert_folds(nn.Sequential(nn.Conv2d(3, 6, 3, bias=bias, **options), nn.BatchNorm2d(6), nn.ReLU()), left=0)


@pytest.mark.parametrize("options", [{"eps": 0.3}, {"affine": False}])
def test_every_kind_of_batch_norm_folds(options):
    assert_folds(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options)), left=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("formula", "left"),
    [
        pytest.param(lambda net, x: net.bn2(net.conv2(net.bn(net.conv(x)))), 0, id="two pairs"),
        pytest.param(lambda net, x: net.bn(net.conv2(net.bn2(net.conv(x)))), 0, id="crossed names"),
        pytest.param(lambda net, x: net.bn2(net.bn(net.conv(x))), 1, id="two norms in a row"),
        pytest.param(lambda net, x: net.bn2(net.conv2(net.relu(net.bn(net.relu(net.conv(x)))))), 1, id="ReLU between"),
        pytest.param(lambda net, x: net.conv2(net.bn2(net.bn(x))), 2, id="norm first"),
        pytest.param(lambda net, x: net.bn(net.conv(net.conv(x))), 2, id="convolution used twice"),
        pytest.param(lambda net, x: net.bn(net.conv(x)) + net.bn2(net.conv(x)), 2, id="two calls, two norms"),
        pytest.param(lambda net, x: (y := net.conv(x)) + net.bn(y), 2, id="two consumers"),
        pytest.param(lambda net, x: net.bn(y := net.conv(x)) + net.bn2(y), 2, id="two norms on one output"),
        pytest.param(lambda net, x: net.bn(net.conv2(net.bn(net.conv(x)))), 2, id="norm used twice"),
        pytest.param(lambda net, x: net.bn(net.conv(x) + 1), 2, id="sum between"),
        pytest.param(lambda net, x: net.bn(net.conv(x)) * net.conv.weight.sum(), 2, id="weight used directly"),
    ],
)
def test_only_lone_pairs_fold(formula, left, bias):
    """`left` counts a batch norm that the formula never calls as well."""
    assert_folds(Wired(formula, bias=bias), left)


@pytest.mark.parametrize("name", ["conv", "bn"])
def test_a_layer_used_twice_under_two_names_is_left_alone(name):
    model = Wired(lambda net, x: net.bn(net.conv(x)) + net.bn2(net.conv2(net.alias(x))))
    model.alias = getattr(model, name)
    assert_folds(model, left=1)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.ConvTranspose2d(3, 3, 3), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), nn.BatchNorm2d(3)),
    ],
    ids=["transposed", "no running statistics", "weight norm"],
)
def test_what_cannot_fold_is_left_alone(model):
    images = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    before = outputs_and_gradient(model.eval(), images)
    assert batch_norms(utils.fold_batch_norm(model)) == 1
    assert_same_function(model, before, images, 1e-6)


@pytest.mark.parametrize("part", [0, 1])
def test_folding_refuses_train_mode(part):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).eval()
    model[part].train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        utils.fold_batch_norm(model)
    assert batch_norms(model) == 1


def test_folding_refuses_what_it_cannot_trace():
    model = Wired(lambda net, x: net.bn(net.conv(x)) if x.sum() > 0 else x).eval()
    with pytest.raises(ValueError, match="cannot trace"):
        utils.fold_batch_norm(model)
    assert batch_norms(model) == 2


def test_without_batch_norm_nothing_is_traced():
    model = PixelFunction(lambda x: x if x.sum() > 0 else -x)
    assert utils.fold_batch_norm(model) is model


# Recorded outputs


def test_each_call_is_recorded(tiny, small_images):
    with utils.recorded_output(tiny.conv1) as outputs, torch.no_grad():
        tiny(small_images)
        tiny(small_images * 2)
    torch.testing.assert_close(outputs, [tiny.conv1(small_images), tiny.conv1(small_images * 2)])
    tiny(small_images)
    assert len(outputs) == 2


def test_an_in_place_relu_does_not_overwrite_the_record(tiny, small_images):
    with torch.no_grad(), utils.recorded_output(tiny.conv2) as outputs:
        logits = tiny(small_images)
    assert outputs[0].min() < 0
    torch.testing.assert_close(tiny.fc(outputs[0].relu().mean(dim=(2, 3))), logits)


def test_recording_changes_nothing(tiny, small_images):
    expected = outputs_and_gradient(tiny, small_images)
    with unchanged(tiny, small_images), utils.recorded_output(tiny.conv2):
        assert_same_function(tiny, expected, small_images, 1e-12)


def test_the_hook_is_gone_after_an_exception(tiny, small_images):
    broken = Broken(tiny)
    with unchanged(tiny, small_images), pytest.raises(RuntimeError, match="purpose"), utils.recorded_output(tiny.conv1):
        broken(small_images)


def test_gradient_with_respect_to_the_record(tiny, small_images):
    """S = w . mean(relu(A)) + b: dS/dA = w (A > 0) / number of positions."""
    with utils.recorded_output(tiny.conv2) as outputs:
        score = tiny(small_images)[:, 1].sum()
    (gradient,) = torch.autograd.grad(score, outputs[0])
    expected = tiny.fc.weight[1][:, None, None] * (outputs[0] > 0) / outputs[0][0, 0].numel()
    torch.testing.assert_close(gradient, expected.detach())


def test_a_layer_that_returns_a_tuple(small_images):
    layer = PixelFunction(lambda x: (x + 1, x * 2))
    with utils.recorded_output(layer) as outputs:
        first, second = layer(small_images)
    assert torch.equal(first, small_images + 1)
    assert torch.equal(second, small_images * 2)
    assert torch.equal(outputs[0][0], first)


# Classes and targets


def test_the_thousand_labels():
    names = utils.class_names()
    assert len(names) == 1000
    assert [names[i] for i in (0, 8, 88, 105, 235, 388, 999)] == [
        "tench", "hen", "macaw", "koala", "German shepherd", "giant panda", "toilet tissue",
    ]


def test_the_labels_are_a_fresh_list():
    utils.class_names().clear()
    assert len(utils.class_names()) == 1000


def test_every_label_finds_its_own_class():
    assert [utils.find_class(name) for name in utils.class_names()] == list(range(1000))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("German shepherd", 235),
        ("german SHEPHERD", 235),
        ("  German shepherd ", 235),
        ("tabby", 281),
        ("shepherd", 235),
        ("hen", 8),
        (235, 235),
        ("235", 235),
        (np.int64(7), 7),
        (0, 0),
        (999, 999),
    ],
)
def test_find_class(name, index):
    assert utils.find_class(name) == index


@pytest.mark.parametrize("part", ["panda", "terrier", "bear"])
def test_an_ambiguous_part_lists_its_candidates(part):
    with pytest.raises(ValueError, match="could be") as caught:
        utils.find_class(part)
    candidates = [name for name in utils.class_names() if part in name.lower()]
    assert len(candidates) > 1
    assert sum(name in str(caught.value) for name in candidates) >= min(len(candidates), 8)


def test_an_upper_case_label_of_two_classes_is_ambiguous():
    with pytest.raises(ValueError, match=r"Cardigan.*cardigan"):
        utils.find_class("CARDIGAN")


def test_a_misspelt_label_names_the_nearest():
    with pytest.raises(ValueError, match="koala"):
        utils.find_class("koalla")


@pytest.mark.parametrize("name", ["zzzzzz", "", "  ", "-", "--5", "²", None, 1.5, "1.0"])
def test_nonsense_is_no_class(name):
    with pytest.raises(ValueError, match=r"not one ImageNet label|outside"):
        utils.find_class(name)


@pytest.mark.parametrize("index", [1000, "1000", -1, "-1", 10**30])
def test_class_indices_have_a_range(index):
    with pytest.raises(ValueError, match=r"0\.\.999"):
        utils.find_class(index)


@pytest.fixture
def log_probabilities():
    """A network of three classes whose softmax is (0.2, 0.5, 0.3) for a first image, (0.7, 0.1, 0.2) for a second."""
    table = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]).log()
    return PixelFunction(lambda x: table[x[:, 0, 0, 0].long()] + 4)


@pytest.fixture
def numbered():
    """Images 0 and 1 for log_probabilities."""
    return torch.arange(2.0)[:, None, None, None].expand(2, 3, 2, 2)


def test_predict_by_hand(log_probabilities, numbered):
    first, second = utils.predict(log_probabilities, numbered, k=2)
    assert first == [(1, "class 1", pytest.approx(0.5)), (2, "class 2", pytest.approx(0.3))]
    assert second == [(0, "class 0", pytest.approx(0.7)), (2, "class 2", pytest.approx(0.2))]
    assert [type(value) for value in first[0]] == [int, str, float]


def test_predict_gives_no_more_than_there_is(log_probabilities, numbered):
    both = utils.predict(log_probabilities, numbered, k=10)
    assert [[index for index, _, _ in row] for row in both] == [[1, 2, 0], [0, 2, 1]]
    assert sum(probability for _, _, probability in both[0]) == pytest.approx(1)


def test_predict_gives_five_labels(squeezenet, photos):
    (dog, bird), with_grad = utils.predict(squeezenet, photos), photos.clone().requires_grad_()
    assert [len(dog), len(bird)] == [5, 5]
    assert (dog[0][1], bird[0][1]) == ("German shepherd", "macaw")
    assert all(label == utils.class_names()[index] for index, label, _ in dog)
    assert utils.predict(squeezenet, with_grad) == [dog, bird]


def test_predict_refuses_what_is_no_batch(log_probabilities, numbered):
    for wrong in (numbered[0], numbered.long(), numbered * float("nan"), "dog.jpg"):
        with pytest.raises(ValueError, match="images"):
            utils.predict(log_probabilities, wrong)
    with pytest.raises(ValueError, match=r"eval\(\)"):
        utils.predict(log_probabilities.train(), numbered)
    with pytest.raises(ValueError, match="logits"):
        utils.predict(PixelFunction(lambda x: x), numbered)


@pytest.mark.parametrize("k", [0, -1])
def test_predict_refuses_less_than_one(k, log_probabilities, numbered):
    with pytest.raises(ValueError, match="k must"):
        utils.predict(log_probabilities, numbered, k)


LOGITS = torch.tensor([[1.0, 5.0, 2.0], [9.0, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [1, 0]),
        (2, [2, 2]),
        (0, [0, 0]),
        (np.int64(2), [2, 2]),
        ([2, 1], [2, 1]),
        ((2, 1), [2, 1]),
        (range(1, 3), [1, 2]),
        ([np.int64(2), 1], [2, 1]),
        (np.array([2, 1]), [2, 1]),
        (torch.tensor([2, 1]), [2, 1]),
        (torch.tensor([2, 1], dtype=torch.int32), [2, 1]),
        (torch.tensor(2), [2, 2]),
        ([torch.tensor(2), torch.tensor(1)], [2, 1]),
    ],
)
def test_targets_of_every_form(target, expected):
    indices = utils.target_indices(target, LOGITS)
    assert indices.dtype == torch.long
    assert indices.tolist() == expected
    assert utils.target_logits(LOGITS, target).tolist() == [LOGITS[i, c].item() for i, c in enumerate(expected)]


@pytest.mark.parametrize(
    "target",
    [
        *([0], [0, 1, 2], [], torch.tensor([0]), torch.zeros(2, 2, dtype=torch.long), [[0], [1]]),
        *(3, -1, [0, 3], [-1, 0], 10**30),
        *(1.0, [0.0, 1.0], torch.tensor([0.0, 1.0]), float("nan")),
        *("1", "dog", ["0", "1"], {0, 1}, [None, 0]),
    ],
    ids=repr,
)
def test_wrong_targets_are_refused(target):
    with pytest.raises(ValueError, match="target") as caught:
        utils.target_indices(target, LOGITS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [True, [True, False], torch.tensor([True, False]), np.array([True, False])])
def test_booleans_are_no_classes(target):
    """A mask given as a target is a mistake; as indices 1 and 0 it would pass unseen."""
    with pytest.raises(ValueError, match="target"):
        utils.target_indices(target, LOGITS)


@pytest.mark.parametrize("logits", [torch.zeros(3), torch.zeros(1, 3, 2), torch.zeros(()), None, (LOGITS,), [[1.0]]])
def test_other_outputs_are_no_logits(logits):
    with pytest.raises(ValueError, match="logits"):
        utils.check_logits(logits)
    with pytest.raises(ValueError, match="logits"):
        utils.target_indices(0, logits)


def test_target_logits_pass_gradients():
    logits = LOGITS.clone().requires_grad_()
    utils.target_logits(logits, [2, 0]).sum().backward()
    assert logits.grad.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_counts_start_at_one():
    utils.check_counts(n_samples=1, batch_size=10**9)
    utils.check_counts()


@pytest.mark.parametrize("value", [0, -3, 2.0, "3", None, float("nan"), float("inf"), [1], True])
def test_what_is_no_count_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"n_steps must .* got"):
        utils.check_counts(batch_size=1, n_steps=value)


def test_numpys_whole_numbers_are_counts():
    utils.check_counts(n_steps=np.int64(3))


def test_describe_targets(squeezenet, photos):
    assert utils.describe_targets(squeezenet, photos) == ["German shepherd 0.95", "macaw 0.97"]
    assert utils.describe_targets(squeezenet, photos, [88, 235]) == ["macaw 0.00", "German shepherd 0.00"]


def test_describe_targets_of_other_classes(log_probabilities, numbered):
    assert utils.describe_targets(log_probabilities, numbered, 1) == ["class 1 0.50", "class 1 0.10"]


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 2, 4), (2, 3, 2, 4)])
def test_a_baseline_is_broadcast(shape):
    baseline = torch.arange(48.0)[: int(np.prod(shape))].reshape(shape).requires_grad_()
    images = torch.ones(2, 3, 2, 4, dtype=torch.float64)
    expanded = utils.expand_baseline(baseline, images)
    assert torch.equal(expanded, baseline.detach().double() + 0 * images)
    assert not expanded.requires_grad


@pytest.mark.parametrize("shape", [(5,), (3, 3, 2, 4), (1, 2, 3, 2, 4)])
def test_a_baseline_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match="baseline"):
        utils.expand_baseline(torch.zeros(shape), torch.zeros(2, 3, 2, 4))


def test_a_baseline_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="baseline"):
        utils.expand_baseline(torch.tensor([float("nan"), 0, 0, 0]), torch.zeros(2, 3, 2, 4))


# Maps


@pytest.mark.parametrize(("how", "expected"), [("max_abs", [3.0, 4.0]), ("sum_abs", [6.0, 6.5]), ("sum", [0.0, -5.5])])
def test_channel_reduce_by_hand(how, expected):
    attribution = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.5]], [[2.0, -4.0]]]])
    assert utils.channel_reduce(attribution, how).tolist() == [[expected]]


def test_channel_reduce_takes_the_largest_absolute_value(small_images):
    assert torch.equal(utils.channel_reduce(small_images), small_images.abs().max(dim=1).values)


def test_channel_reduce_refuses_other_shapes_and_words(small_images):
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        utils.channel_reduce(small_images[0])
    with pytest.raises(ValueError, match="'mean'"):
        utils.channel_reduce(small_images, "mean")


def test_normalize_map_by_hand():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[-10.0, 0.0], [10.0, 30.0]], [[-3.0, -2.0], [-1.5, -1.0]]])
    expected = [[[0, 0.25], [0.5, 1]], [[0, 0.25], [0.5, 1]], [[0, 0.5], [0.75, 1]]]
    assert utils.normalize_map(maps).tolist() == expected
    assert utils.normalize_map(maps[0]).tolist() == expected[0]
    assert utils.normalize_map(maps[None])[0].tolist() == expected


@pytest.mark.parametrize("value", [0.0, 7.0, -7.0, 1e-30])
def test_a_constant_map_becomes_zeros(value):
    assert torch.equal(utils.normalize_map(torch.full((2, 3, 4), value)), torch.zeros(2, 3, 4))


def test_a_constant_map_leaves_its_neighbours_alone():
    maps = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [2.0, 4.0]])])
    assert utils.normalize_map(maps).tolist() == [[[0, 0], [0, 0]], [[0, 0.25], [0.5, 1]]]


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e30, 1e37])
def test_normalize_map_at_every_scale(scale):
    normalized = utils.normalize_map(torch.tensor([[0.0, 1.0], [2.0, 4.0]]) * scale)
    torch.testing.assert_close(normalized, torch.tensor([[0.0, 0.25], [0.5, 1.0]]))


def test_normalize_map_of_large_half_precision_values():
    assert utils.normalize_map(torch.tensor([[-40_000.0, 40_000.0]], dtype=torch.float16)).tolist() == [[0, 1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_normalize_map_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="NaN or infinity"):
        utils.normalize_map(torch.tensor([[0.0, value]]))


def test_normalize_map_leaves_its_input_alone():
    maps = torch.tensor([[1.0, 2.0]])
    utils.normalize_map(maps)
    assert maps.tolist() == [[1, 2]]


def test_upsample_by_hand():
    rows = [[0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 4.0, 5.0], [3.0, 4.0, 6.0, 7.0], [4.0, 5.0, 7.0, 8.0]]
    upsampled = utils.upsample(torch.tensor([[[0.0, 4.0], [4.0, 8.0]]]), 4)
    torch.testing.assert_close(upsampled, torch.tensor([rows]))


@pytest.mark.parametrize("size", [(7, 9), (2, 30), (14, 14), 11])
def test_upsample_is_bilinear_without_aligned_corners(size, small_images):
    maps = small_images[:, 0]
    expected = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(utils.upsample(maps, size), expected)


def test_correlation_by_hand():
    first = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert utils.correlation(first, 5 - 2 * first) == pytest.approx(-1)
    assert utils.correlation(first, torch.tensor([[1.0, -1.0], [-1.0, 1.0]])) == pytest.approx(0)
    assert np.isnan(utils.correlation(first, torch.ones(2, 2)))


# Figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def dog():
    return utils.load_image("dog.jpg")


@pytest.fixture
def bump():
    """A non-negative (224, 224) map."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    return torch.exp(-4 * (x - 0.3) ** 2 - 6 * y**2)


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


@pytest.mark.parametrize("shape", [(100, 224), (1024, 768), (767, 1024)])
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
    figure = utils.visualize_saliency(dog, torch.ones(768, 1024))
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
    assert utils.color_scale(values)["vmax"] == pytest.approx(1)
    assert utils.color_scale(values, percentile=100)["vmax"] == pytest.approx(1e6)
    scale = utils.color_scale(torch.ones(4), torch.full((4,), -3.0))
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
    Path(file).write_bytes(b"half a picture")
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


# Lessons

FIRST = "01_vanilla_gradient_saliency"


def options(*arguments):
    return utils.lesson_parser("05_gradcam", "Grad-CAM", ["dog.jpg", "bird.jpg"]).parse_args(arguments)


@pytest.fixture
def own_lessons(tmp_path, monkeypatch):
    """A project folder for lessons written by the test: write(name, code)."""
    monkeypatch.setattr(utils, "PROJECT_ROOT", tmp_path)
    before = set(sys.modules)
    yield lambda name, code: (tmp_path / f"{name}.py").write_text(code)
    for name in set(sys.modules) - before:
        if name.startswith("lesson_"):
            del sys.modules[name]


def test_a_lesson_is_imported_once():
    module = utils.import_lesson(FIRST)
    assert utils.import_lesson(FIRST) is module
    assert callable(module.vanilla_gradient)


def test_lessons_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, f"lesson_{FIRST}", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Path(utils.import_lesson(FIRST).__file__) == PROJECT_ROOT / f"{FIRST}.py"


@pytest.mark.parametrize("name", ["42_nothing", "", f"{FIRST}.py"])
def test_an_unknown_lesson_lists_the_known_ones(name):
    with pytest.raises(ValueError, match=FIRST):
        utils.import_lesson(name)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_lesson_that_fails_is_not_kept(error, own_lessons):
    own_lessons("01_broken", f"raise {error.__name__}")
    for _ in range(2):
        with pytest.raises(error):
            utils.import_lesson("01_broken")
    assert not [name for name in sys.modules if "01_broken" in name]
    own_lessons("01_broken", "answer = 42  # mended, and longer than before")
    assert utils.import_lesson("01_broken").answer == 42


def test_a_lesson_may_hold_dataclasses(own_lessons):
    future, imports = "from __future__ import annotations", "from dataclasses import dataclass"
    own_lessons("02_data", f"{future}\n{imports}\n@dataclass\nclass Point:\n    x: int = 3")
    assert utils.import_lesson("02_data").Point().x == 3


def test_default_options():
    args = options()
    assert args.output_dir == PROJECT_ROOT / "outputs" / "05_gradcam"
    assert (args.seed, args.device, args.target, args.model) == (0, "cpu", None, None)
    assert not args.quick
    assert not args.show


def test_without_image_the_defaults_are_loaded(photos):
    names, images = utils.lesson_images(options())
    assert names == ["dog.jpg", "bird.jpg"]
    assert torch.equal(images, photos)


def test_several_images_keep_their_order(photos, tmp_path, picture):
    picture.save(tmp_path / "own.png")
    names, images = utils.lesson_images(options("--image", str(tmp_path / "own.png"), "--image", "dog.jpg"))
    assert names == ["own.png", "dog.jpg"]
    assert torch.equal(images, torch.cat([utils.preprocess_image(picture), photos[:1]]))


def test_a_folder_stands_for_its_pictures(tmp_path, picture, photos):
    for name in ("b.png", "a.JPG", "c.webp"):
        picture.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    names, images = utils.lesson_images(options("--image", str(tmp_path), "--image", "dog.jpg"))
    assert names == ["a.JPG", "b.png", "c.webp", "dog.jpg"]
    assert torch.equal(images[1], utils.preprocess_image(picture)[0])
    assert torch.equal(images[3], photos[0])


def test_a_folder_may_hold_more_than_pictures(tmp_path, picture):
    """Pillow writes PDF but does not read it."""
    picture.save(tmp_path / "a.png")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "old.png").mkdir()
    assert utils.lesson_images(options("--image", str(tmp_path)))[0] == ["a.png"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path.name}.*no pictures"):
        utils.lesson_images(options("--image", str(tmp_path)))


def test_one_missing_image_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        utils.lesson_images(options("--image", "dog.jpg", "--image", str(tmp_path / "gone.png")))


def test_the_targets_of_the_command_line():
    assert utils.lesson_target(options()) is None
    assert utils.lesson_target(options("--target", "koala")) == 105
    assert utils.lesson_target(options("--target", "0")) == 0
    with pytest.raises(ValueError, match="outside"):
        utils.lesson_target(options("--target", "1000"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ("resnet50", "cpu")),
        (["--quick"], ("squeezenet1_1", "cpu")),
        (["--quick", "--model", "vgg16", "--device", "mps"], ("vgg16", "mps")),
    ],
)
def test_the_network_of_the_command_line(arguments, expected, monkeypatch):
    monkeypatch.setattr(utils, "load_model", lambda name, device: (name, device))
    assert utils.lesson_model(options(*arguments)) == expected


def test_tables_are_aligned(capsys):
    utils.print_table(["method", "score"], [["gradient", 0.123456], ["x", 12], ["", float("nan")]])
    assert capsys.readouterr().out == "method    score\ngradient  0.1235\nx         12\n          nan\n"


def test_figures_are_written_and_named(tmp_path, capsys, dog, bump):
    args = options("--output-dir", str(tmp_path / "new"))
    utils.save_figures(args, {"a.png": utils.visualize_saliency(dog, bump), "b.png": plt.figure()})
    assert capsys.readouterr().out == f"wrote {tmp_path / 'new' / 'a.png'}\nwrote {tmp_path / 'new' / 'b.png'}\n"
    assert sorted(os.listdir(tmp_path / "new")) == ["a.png", "b.png"]
    assert not plt.get_fignums()


@pytest.mark.parametrize("status", [0, 3])
def test_a_lesson_that_runs_gives_its_status(status, capsys):
    assert utils.run_lesson(lambda: status) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a wrong target"),
        FileNotFoundError(2, "No such file", "a wrong target"),
        ConnectionError("a wrong target"),
        TypeError("a wrong target"),
        RuntimeError("a wrong target\nwith a second line\n\tand a third"),
    ],
)
def test_a_failing_lesson_says_so_in_one_line(error, capsys):
    def main():
        raise error

    assert utils.run_lesson(main) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "a wrong target" in err
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_bugs_of_a_lesson_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        utils.run_lesson(lambda: 1 // 0)


# Data

ANNOTATIONS = json.loads((DATA_DIR / "annotations.json").read_text())


def test_every_photo_is_annotated_and_every_annotation_has_its_photo():
    assert sorted(ANNOTATIONS) == sorted(path.name for path in DATA_DIR.glob("*.jpg"))
    assert len(ANNOTATIONS) >= 10


@pytest.mark.parametrize("name", sorted(ANNOTATIONS))
def test_annotations_fit_their_photo(name):
    entry = ANNOTATIONS[name]
    with Image.open(DATA_DIR / name) as image:
        assert entry["size"] == list(image.size)
        assert max(image.size) <= 1024
        assert image.mode == "RGB"
        assert image.getexif().get(0x0112, 1) == 1
    width, height = entry["size"]
    assert entry["boxes"]
    for x0, y0, x1, y1 in entry["boxes"]:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    assert entry["label"] == (None if entry["class"] is None else utils.class_names()[entry["class"]])


def test_the_data_stays_small():
    assert sum(path.stat().st_size for path in DATA_DIR.glob("*.jpg")) < 4_000_000
    weights = list((DATA_DIR / "weights").glob("*.pt"))
    assert {path.stem for path in weights} == set(utils.EMBEDDED)
    assert all(path.stat().st_size < 50 * 2**20 for path in weights)
