"""utils.py: loading, folding and recording networks."""

import contextlib
import copy
import http.server
import inspect
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import torch
import torchvision
from conftest import Broken, PixelFunction, hook_count, relative_error, unchanged
from torch import nn

import utils
from course import weights
from utils import DATA_DIR, PROJECT_ROOT

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


@pytest.mark.slow
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
        (235, "German shepherd", 0.996),
        (88, "macaw", 1.0),
        (388, "giant panda", 1.0),
        (105, "koala", 1.0),
        (8, "hen", 0.97),
    ]
    for (best,), (index, label, probability) in zip(utils.predict(resnet, well_known, k=1), expected, strict=True):
        assert best == (index, label, pytest.approx(probability, abs=0.01 if probability == 1 else 0.02))


def test_squeezenet_knows_its_animals(squeezenet, well_known):
    expected = [(235, 0.998), (88, 0.97), (388, 1.0), (105, 1.0), (8, 0.99)]
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
    weights.put_stride_in_first_convolution(raw)
    raw.load_state_dict(weights.read_embedded("resnet50"))
    raw.eval()
    with torch.no_grad():
        assert relative_error(resnet(photos), raw(photos)) < 1e-4
    patch, folded = photos[:1, :, 64:160, 64:160].double(), weights.fold_batch_norm(copy.deepcopy(raw.double()))
    assert batch_norms(folded) == 0
    assert_same_function(folded, raw, patch, 1e-9)


@pytest.mark.parametrize("name", list(weights.EMBEDDED))
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
    monkeypatch.setattr(weights, "DATA_DIR", tmp_path)
    with pytest.raises(RuntimeError, match=r"git checkout -- data/weights/squeezenet1_1\.pt"):
        utils.load_model("squeezenet1_1")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5", "resnet50"), ("ResNet50", "resnet50"), ("squeezenet", "squeezenet1_1"), ("vgg-16", "vgg16")],
)
def test_an_unknown_network_names_the_nearest(name, near):
    with pytest.raises(ValueError, match=rf"{name}.*\b{near}\b"):
        utils.load_model(name)


def test_each_near_network_is_named_once():
    with pytest.raises(ValueError, match="did you mean") as raised:
        utils.load_model("resnet5")
    names = str(raised.value).rstrip("?").partition("did you mean ")[2].split(", ")
    assert len(names) == len(set(names)) == 3


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
    assert all(name in str(error) for name in weights.EMBEDDED)
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
            weights.torchvision_network("resnet18", patience=0.3)
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
            weights.torchvision_network("resnet18", patience=0.3)
    assert time.monotonic() - start < 5
    assert_says_what_works_offline(caught.value)


def test_the_usual_patience_is_below_15_seconds():
    assert inspect.signature(weights.torchvision_network).parameters["patience"].default < 15


def test_a_file_the_server_does_not_have(server, cache):
    server("resnet18", b"")
    with pytest.raises(ConnectionError) as caught:
        weights.torchvision_network("resnet18", patience=5)
    assert_says_what_works_offline(caught.value)


def test_a_download_that_breaks_off_is_no_damaged_file(server, cache, tmp_path):
    """Nothing is in the cache, so nothing can be deleted from it."""
    server("resnet18", b"0" * 10_000, cut=3_000, file="resnet18-0123456789abcdef.pth")
    with pytest.raises(ConnectionError) as caught:
        weights.torchvision_network("resnet18", patience=5)
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
    assert weights.fold_batch_norm(model) is model
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
    assert relative_error(weights.fold_batch_norm(copy.deepcopy(model))(images), model(images)) < 1e-4


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
    weights.fold_batch_norm(model.eval())
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
    assert batch_norms(weights.fold_batch_norm(model)) == 1
    assert_same_function(model, before, images, 1e-6)


@pytest.mark.parametrize("part", [0, 1])
def test_folding_refuses_train_mode(part):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).eval()
    model[part].train()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        weights.fold_batch_norm(model)
    assert batch_norms(model) == 1


def test_folding_refuses_what_it_cannot_trace():
    model = Wired(lambda net, x: net.bn(net.conv(x)) if x.sum() > 0 else x).eval()
    with pytest.raises(ValueError, match="cannot trace"):
        weights.fold_batch_norm(model)
    assert batch_norms(model) == 2


def test_without_batch_norm_nothing_is_traced():
    model = PixelFunction(lambda x: x if x.sum() > 0 else -x)
    assert weights.fold_batch_norm(model) is model


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
