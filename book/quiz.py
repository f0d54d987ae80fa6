"""The questions of a lesson as a quiz: readable without scripts, and with them (static/quiz.js) it answers at once."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from questions import Question, questions


def block(question: Question) -> str:
    """One question in MyST Markdown: its text, its choices, and the answers folded."""
    said = question.choices or question.why
    names = {"else": "Any other number"}
    why = "\n".join(f"- **{names.get(answer, answer)}**: {question.why[answer]}" for answer in said)
    choices = "\n".join(f"- **{letter}** {sentence}" for letter, sentence in question.choices.items())
    return (
        f"::::{{div}} quiz\n**{question.number} {question.title}** {question.text}\n\n{choices}\n\n"
        f":::{{dropdown}} The answer\n:class-container: answers\n\nRight is **{question.right}**.\n\n{why}\n:::\n::::"
    )


def page(lesson: str) -> str:
    """All questions of a lesson or part in MyST Markdown; empty if it has none."""
    blocks = [block(question) for question in questions(lesson)]
    return "\n\n".join(blocks)
