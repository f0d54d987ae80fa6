"""The book: what its pages are made from; and, where it was built, the pages themselves, in a browser."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import shutil
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import pytest
import torch
from nbformat.v4 import new_code_cell, new_output

from course.figures import describe, map_grid
from utils import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / "book"))

import build
import notebooks
import quiz
import tasks
from questions import is_question, questions

BOOK = PROJECT_ROOT / "outputs/book"
PAGES = sorted(file for file in BOOK.rglob("*.html") if "explorer" not in file.name and "_static" not in file.parts)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
built = pytest.mark.skipif(not (BOOK / "index.html").exists(), reason="the book is not built; run `make book`")
LESSONS = notebooks.names()


def text_of(name: str) -> str:
    return notebooks.modules()[name].read_text(encoding="utf-8")


@cache
def cells_of(name: str, kind: str) -> list[str]:
    return [cell.source for cell in notebooks.read(name).cells if cell.cell_type == kind]


@cache
def tasks_of(name: str) -> list[tasks.Task]:
    return tasks.tasks_of(name, "\n\n".join(cells_of(name, "markdown")), text_of(name))


# What the pages are made from


@pytest.mark.parametrize("name", LESSONS)
def test_an_exercise_with_a_gap_has_its_text_its_hints_and_its_gap(name):
    found = tasks_of(name)
    announced = [e for e in tasks.announced(text_of(name)) if not is_question(text_of(name), e.number)]
    assert [task.exercise for task in found] == announced
    for task in found:
        assert len(task.text) > 10
        assert "Hints:" not in task.text
        assert bool(task.gaps) == bool(task.exercise.points)
        assert bool(task.hints) == bool(task.exercise.points)
        assert all(len(hint) > 3 and "·" not in hint for hint in task.hints)
        assert all(f'raise NotImplementedError("{task.exercise.number}")' in gap for gap in task.gaps)


def test_hints_end_where_the_text_goes_on():
    text = "Fill in `f`. *Hints:* what is f? · `g` helps\n· one line. *Then break it:* leave g away."
    assert tasks.split_hints(text) == (
        "Fill in `f`. *Then break it:* leave g away.",
        ["What is f?", "`g` helps", "One line."],
    )
    assert tasks.split_hints("No hints here.") == ("No hints here.", [])


def test_no_page_of_an_exercise_shows_a_solution():
    """Nothing of a solution that the lesson does not also have elsewhere."""
    for name in LESSONS:
        lines = text_of(name).splitlines()
        outside = set(map(str.strip, tasks.emptied(text_of(name), name).splitlines()))
        for region in tasks.solution_regions(text_of(name), name):
            secret = {line.strip() for line in lines[region.first + 1 : region.last]} - outside
            shown = {line.strip() for task in tasks_of(name) for gap in task.gaps for line in gap.splitlines()}
            assert not secret & shown


@pytest.mark.parametrize("name", LESSONS)
def test_folding_spares_what_a_student_writes_and_every_method(name):
    cells = cells_of(name, "code")
    folded = [code for code in cells if build.is_folded(code)]
    assert any("\nfrom course" in code for code in folded), "the imports are folded"
    for code in folded:
        assert "SOLUTION" not in code
        assert not [d for d in re.findall(r"^def (\w+)", code, re.MULTILINE) if not d.startswith("figure_")]
    assert len(folded) < len(cells)


def test_a_notebook_is_kept_while_only_words_change():
    code = 'def f(x):\n    """One."""\n    return x + 1  # why\n'
    assert notebooks.statements(code) == notebooks.statements('def f(x):\n    """Two."""\n\n    return x + 1\n')
    assert notebooks.statements(code) != notebooks.statements(code.replace("+ 1", "+ 2"))
    assert {"course.figures", "utils", "01_vanilla_gradient_saliency"} <= notebooks.all_used_by("05_gradcam")
    assert "06_guided_backpropagation" not in notebooks.all_used_by("05_gradcam")


def test_a_changed_cell_or_module_changes_the_key(monkeypatch):
    name = LESSONS[0]
    notebook = notebooks.read(name)
    before = notebook.metadata["made_from"]
    assert notebooks.key_of(name, notebook) == before
    monkeypatch.setattr(notebooks, "digest_of", lambda module: f"other {module}")
    assert notebooks.key_of(name, notebook) != before
    monkeypatch.undo()
    next(cell for cell in notebook.cells if cell.cell_type == "code").source += "\nx = 1"
    assert notebooks.key_of(name, notebook) != before


def shown_figures(name: str) -> list[str]:
    """The names of the figures that a lesson shows, in order."""
    calls = [node for node in ast.walk(ast.parse(text_of(name))) if isinstance(node, ast.Call)]
    shows = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "show"]
    return [call.args[1].value for call in sorted(shows, key=lambda call: call.lineno) if len(call.args) == 2]


@pytest.mark.parametrize("name", LESSONS)
def test_every_figure_has_a_sentence_for_those_who_cannot_see_it(name):
    sentences = build.alternative_texts()[name]
    assert list(sentences) == shown_figures(name)                      # each has one, in order, and there is no other
    assert len(sentences) == text_of(name).count("lesson.show(")
    assert len(set(sentences.values())) == len(sentences)
    for sentence in sentences.values():
        assert 60 < len(sentence) < 330, sentence
        assert sentence.endswith("."), sentence
        assert sentence.count(".") == 1, sentence


def test_there_are_sentences_for_no_other_lesson():
    assert list(build.alternative_texts()) == LESSONS


def test_the_sentence_is_what_stands_behind_the_picture_in_the_book(tmp_path):
    figure, _ = plt.subplots()
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    plt.close(figure)
    data = {"image/png": base64.b64encode(stream.getvalue()).decode()}
    metadata = {"image/png": {"alt": "what is written in it"}, "name": "relu"}
    cell = new_code_cell(outputs=[new_output("display_data", data, metadata=metadata)])
    (file,) = build.with_pictures(build.Stage(tmp_path), cell, "05_gradcam")
    shown = cell.outputs[0].data["text/markdown"]
    assert shown == f"![{build.alternative_texts()['05_gradcam']['relu']}]({file})"


def test_a_figure_is_described_by_what_is_written_in_it():
    maps = torch.rand(1, 4, 4)
    said = describe(map_grid(torch.rand(1, 3, 8, 8), {"slope": maps, "share": maps}, heading="Two maps"))
    assert said == "Two maps (each map on its own scale). slope. share"
    figure, axis = plt.subplots()
    axis.plot([0, 1], label="score")
    axis.set_xlabel("alpha")
    axis.legend()
    assert describe(figure) == "alpha (across), score"
    plt.close("all")


def test_the_glossary_is_in_order_and_has_the_field_s_words():
    import_terms = pytest.importorskip("terms", reason="Sphinx is not installed; `make book` installs it")
    terms = import_terms.glossary_terms()
    assert terms == sorted(terms, key=str.lower)
    assert {"attribution", "saliency map", "target", "logit", "baseline", "completeness", "control"} <= set(terms)


def test_every_question_of_a_lesson_is_in_its_quiz_with_a_word_to_each_answer():
    asked = [(name, question) for name in LESSONS for question in questions(name)]
    assert asked
    for name, question in asked:
        text = quiz.block(question)
        assert text in quiz.page(name)
        assert f"Right is **{question.right}**." in text
        assert all(f"- **{letter}** {said}" in text for letter, said in question.choices.items())
        assert all(said in text for said in question.why.values())


def test_npm_packages_are_pinned_and_name_no_host():
    text = (PROJECT_ROOT / "book/package.json").read_text(encoding="utf-8")
    assert "://" not in text
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in json.loads(text)["dependencies"].values())


# The pages as files


class Page(HTMLParser):
    """What a page links to, what can be linked to in it, and its pictures."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links, self.anchors, self.pictures = [], set(), []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]
        if tag == "img":
            self.pictures.append(found)


page_of = cache(Page)


@pytest.mark.slow
@pytest.mark.pages
@built
def test_every_link_leads_somewhere():
    broken = []
    for file in PAGES:
        for link in page_of(file).links:
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", link) or link.startswith("//"):
                continue
            target = (file.parent / path.partition("?")[0]).resolve() if path else file
            if not target.exists() or (anchor and target in PAGES and anchor not in page_of(target).anchors):
                broken.append((file.name, link))
    assert not broken


@pytest.mark.slow
@pytest.mark.pages
@built
def test_links_of_the_explorer_lead_into_the_book():
    folder, anchors = PROJECT_ROOT / "book/explorer", page_of(BOOK / "glossary.html").anchors
    texts = (folder / "src/texts.js").read_text(encoding="utf-8")
    pages = re.findall('data-book="([^"]+)"', (folder / "explorer.html").read_text(encoding="utf-8"))
    pages += [f"{lesson}.html" for lesson in re.findall("lesson: '([^']+)'", texts)]
    assert len(pages) > 8
    assert [page for page in pages if not (BOOK / page).exists()] == []
    terms = re.findall("glossary: '([^']+)'", texts)
    assert len(terms) > 10
    assert [term for term in terms if f"term-{term.replace(' ', '-')}" not in anchors] == []


@pytest.mark.slow
@pytest.mark.pages
@built
def test_every_picture_has_an_alternative_text():
    for file in PAGES:
        for picture in page_of(file).pictures:
            assert "alt" in picture, (file.name, picture)
            decoration = "logo" in (picture.get("class") or "")
            assert decoration or len(picture["alt"] or "") > 3, (file.name, picture)


@pytest.mark.slow
@pytest.mark.pages
@built
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_its_page_with_its_figures(name):
    shown = len(re.findall(r"lesson\.show\(", text_of(name)))
    figures = [picture for picture in page_of(BOOK / f"{notebooks.lesson_path(name)}.html").pictures
               if "_images/" in picture["src"]]  # fmt: skip
    if notebooks.kept(name) is None:
        pytest.skip("the lesson has changed since it ran; `make book`")
    assert len(figures) >= min(shown, 2)


@pytest.mark.slow
@pytest.mark.pages
@built
def test_third_party_files_have_their_licences_beside_them():
    assert "Apache License" in (BOOK / "_static/mathjax/LICENSE").read_text(encoding="utf-8")
    page = (BOOK / "licences.html").read_text(encoding="utf-8")
    for folder in (BOOK / "_static/licences").iterdir():
        assert any(file.stat().st_size > 500 for file in folder.iterdir())
        assert f"licences/{folder.name}/" in page


# The pages in a browser


@pytest.fixture(scope="module")
def browser():
    if not (BOOK / "index.html").exists():
        pytest.skip("the book is not built; run `make book`")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing; see requirements-book.txt")
    if CHROMIUM is None:
        pytest.skip("no chromium here; on Debian `apt install chromium`")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """A page that notes complaints and requests to elsewhere in `tab.complaints`."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and page.complaints.append(said.text))
        page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or page.complaints.append(r.url))
        yield page


def visit(tab, name: str, query: str = "") -> None:
    tab.goto((BOOK / name).as_uri() + query)


@pytest.mark.slow
@pytest.mark.pages
@pytest.mark.timeout(600)
def test_every_page_loads_without_complaint_or_network_and_fits_a_phone(tab):
    tab.set_viewport_size({"width": 390, "height": 844})
    wide = {}
    for file in PAGES:
        visit(tab, file.relative_to(BOOK))
        if tab.evaluate("document.documentElement.scrollWidth") > 390:
            wide[file.name] = tab.evaluate("document.documentElement.scrollWidth")
    assert tab.complaints == []
    assert wide == {}


@pytest.mark.slow
@pytest.mark.pages
@pytest.mark.parametrize("name", [lesson for lesson in LESSONS if "$$" in text_of(lesson)])
def test_formulas_are_drawn(tab, name):
    visit(tab, f"{notebooks.lesson_path(name)}.html")
    tab.wait_for_selector("mjx-container svg", timeout=30_000)
    tab.evaluate("MathJax.startup.promise")
    written, drawn = tab.locator(".math").count(), tab.locator(".math mjx-container > svg").count()
    assert drawn >= written > 0
    assert tab.locator("[data-mjx-error]").count() == 0
    assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.pages
def test_search_finds_completeness(tab):
    visit(tab, "search.html", "?q=completeness")
    tab.wait_for_selector("#search-results li")
    tab.wait_for_function("document.querySelector('#search-results > h2').textContent != 'Searching'")
    found = tab.locator("#search-results li").all_inner_texts()
    assert any("Integrated Gradients" in line for line in found)
    assert any("lossary" in line for line in found)
    assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.pages
def test_the_quiz_answers_and_explains(tab):
    asked = [(name, question) for name in LESSONS for question in questions(name)]
    for wanted in (True, False):  # a question with choices, and one for a number
        name, question = next(pair for pair in asked if bool(pair[1].choices) == wanted)
        visit(tab, f"{notebooks.lesson_path(name)}.html")
        box = tab.locator("div.quiz", has_text=f"{question.number} {question.title}")
        wrong = next(letter for letter in "abcd" if letter != question.right) if wanted else -12345.0
        for answer in (wrong, question.right):
            if wanted:
                box.locator(f"input[value={answer}]").check()
            else:
                box.locator("input").fill(str(answer))
                box.locator("button").click()
            said = box.locator(".verdict").inner_text()
            assert said.startswith("Right." if question.is_right(answer) else "Not yet.")
            plain = re.sub(r"\$.*?\$|[`*]", "", question.said(answer))[:25]
            assert plain in " ".join(said.split())
    assert tab.complaints == []


@pytest.mark.slow
@pytest.mark.pages
def test_hints_unfold_one_by_one(tab):
    visit(tab, "exercises/5.1.html")
    hints = tab.locator("details.sd-dropdown")
    assert hints.count() == len(next(task for task in tasks_of("05_gradcam") if task.exercise.number == "5.1").hints)
    hints.nth(0).locator("summary").click()
    assert hints.nth(0).locator("p").first.is_visible()
    assert not hints.nth(1).locator("p").last.is_visible()


@pytest.mark.slow
@pytest.mark.pages
def test_on_paper_folded_code_is_shown_and_navigation_is_not(tab):
    visit(tab, "05_gradcam.html")
    folded = tab.locator("details.hide")
    assert folded.count() > 3
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert folded.evaluate_all("all => all.every((one) => one.open)")
    tab.emulate_media(media="print")
    assert not tab.locator(".bd-sidebar-primary").is_visible()
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert not folded.evaluate_all("all => all.some((one) => one.open)")


@pytest.mark.slow
@pytest.mark.pages
def test_it_is_dark_for_those_who_want_it_dark(tab):
    brightness = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    tab.emulate_media(color_scheme="light")
    visit(tab, "index.html")
    assert tab.evaluate(brightness) > 200
    tab.emulate_media(color_scheme="dark")
    visit(tab, "index.html")
    assert tab.evaluate(brightness) < 60
