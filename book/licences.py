"""Third-party files that the book ships, each with its licence beside it."""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path

# Packages whose scripts, styles or fonts are copied into _static/
SHIPPED = ("sphinx", "pydata-sphinx-theme", "sphinx-book-theme", "sphinx-design", "sphinx-copybutton", "myst-nb")


def copy_licences(target: Path, mathjax: Path) -> None:
    """Copy MathJax's single file, its licence, and those of the packages in SHIPPED, to target/_static/.

    Raises:
        RuntimeError: a package has no file with its licence.
    """
    (target / "_static/mathjax").mkdir(parents=True, exist_ok=True)
    shutil.copy(mathjax, target / "_static/mathjax/tex-svg.js")
    shutil.copy(mathjax.parent.parent / "LICENSE", target / "_static/mathjax/LICENSE")
    for package in SHIPPED:
        files = [file for file in distribution(package).files if "dist-info" in str(file)]
        texts = [file for file in files if "LICEN" in file.name.upper()]
        if not texts:
            raise RuntimeError(f"{package} has no file with its licence; find it, and name it in book/licences.py")
        folder = target / "_static/licences" / package
        folder.mkdir(parents=True, exist_ok=True)
        for file in texts:
            shutil.copy(file.locate(), folder / file.name)
