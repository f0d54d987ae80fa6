"""A Sphinx extension: the first time a page uses a word of the glossary, the word leads there."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

GLOSSARY = Path(__file__).resolve().parent / "glossary.md"
SKIPPED = (nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.raw, nodes.term,
           nodes.strong, pending_xref)  # fmt: skip
PAGES = re.compile(r"\d\d_|(evaluation|advanced)/|exercises/\d|README$")


def glossary_terms() -> list[str]:
    """The glossary's words, as they stand at the left margin of its list."""
    body = re.search(r"```{glossary}\n(.*?)\n```", GLOSSARY.read_text(encoding="utf-8"), re.DOTALL)[1]
    return [line for line in body.splitlines() if line and not line[0].isspace()]


class LinkTerms(SphinxTransform):
    """Put a reference to the glossary around the first use of each term in running text."""

    default_priority = 210  # after Markdown became text, before references are looked up

    def apply(self, **kwargs: object) -> None:
        if not PAGES.match(self.env.docname):
            return
        missing = {term.lower(): term for term in glossary_terms()}
        for text in list(self.document.findall(nodes.Text)):
            ancestors, node = [], text
            while node.parent is not None:
                node = node.parent
                ancestors.append(node)
            if missing and not any(isinstance(node, SKIPPED) for node in ancestors):
                self.link(text, missing)

    def link(self, text: nodes.Text, missing: dict[str, str]) -> None:
        """Replace a text by texts and references; a term that was found is missing no longer."""
        words = sorted(missing, key=len, reverse=True)
        either = "|".join(re.escape(word).replace("\\ ", r"\s+") for word in words)  # a term may run over a line's end
        pattern = re.compile(rf"(?<![\w-])({either})s?(?![\w-])", re.IGNORECASE)
        new, end, plain = [], 0, text.astext()
        for found in pattern.finditer(plain):
            term = missing.pop(" ".join(found[1].lower().split()), None)
            if term is None:
                continue
            new += [nodes.Text(plain[end : found.start()])] if found.start() > end else []
            reference = pending_xref("", nodes.inline("", found[0], classes=["std-term"]), refdomain="std",
                                     reftype="term", reftarget=term, refdoc=self.env.docname, refwarn=True,
                                     refexplicit=True)  # fmt: skip
            new.append(reference)
            end = found.end()
        if new:
            text.parent.replace(text, [*new, *([nodes.Text(plain[end:])] if end < len(plain) else [])])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register; pages are read anew if the glossary's words change."""
    app.add_config_value("glossary_words", glossary_terms(), "env")
    app.add_transform(LinkTerms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
