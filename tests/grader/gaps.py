"""Accidents around an answer, undone: a marker line that is lost, a stub that is left beside the answer."""

from __future__ import annotations

from difflib import SequenceMatcher

from markers import MARKER, NUMBER, emptied, solution_regions


def mended(text: str, reference: str) -> tuple[str, list[str]]:
    """A student's lesson with all marker lines and without stubs beside answers, and a sentence for each change.

    Args:
        text: the lesson as it was handed in.
        reference: the course's own.
    """
    lines, notes = with_markers(text.splitlines(), emptied(reference, "reference").splitlines())
    try:
        regions = solution_regions("\n".join(lines), "submission")
    except ValueError:
        regions = []
    if [region.exercise for region in regions] != [r.exercise for r in solution_regions(reference, "reference")]:
        return text, ["its marker lines are not as they were handed out, so its exercises are judged together"]
    for region in regions:
        inside = range(region.first + 1, region.last)
        stubs = [i for i in inside if lines[i].strip().replace("'", '"') == stub(region.exercise)]
        if stubs and any(not blank(lines[i]) for i in inside if i not in stubs):
            notes.append(f"`{stub(region.exercise)}` was left beside the answer; it was taken out")
            for i in stubs:
                lines[i] = lines[i].replace(lines[i].strip(), "pass")
    return ("\n".join(lines) + "\n", notes) if notes else (text, [])


def stub(exercise: str) -> str:
    """What stands in a gap that is handed out."""
    return f'raise NotImplementedError("{exercise}")'


def blank(line: str) -> bool:
    """Whether a line is empty or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def marks(lines: list[str]) -> list[tuple[int, str]]:
    """The marker lines: place, and the exercise of a first line; a last line has none."""
    found = [(i, MARKER.fullmatch(line)) for i, line in enumerate(lines)]
    return [(i, "" if mark["edge"].startswith("END") else (NUMBER.search(mark["rest"]) or " ")[0])
            for i, mark in found if mark]  # fmt: skip


def with_markers(lines: list[str], given: list[str]) -> tuple[list[str], list[str]]:
    """A lesson's lines with the marker lines that it lacks, found by the line beside them in the one handed out."""
    mine, theirs = marks(lines), marks(given)
    changes = SequenceMatcher(None, [m[1] for m in mine], [t[1] for t in theirs], autojunk=False).get_opcodes()
    lacking = [(at, theirs[k]) for kind, at, _, begin, end in changes if kind == "insert" for k in range(begin, end)]
    if not lacking or any(kind in ("delete", "replace") for kind, *_ in changes):
        return lines, []
    lines, notes = list(lines), []
    for after, (where, exercise) in reversed(lacking):
        low = mine[after - 1][0] + 1 if after else 0
        high = mine[after][0] if after < len(mine) else len(lines)
        place = place_for(lines[low:high], given, where, -1 if exercise else 1)
        if place is None:
            return lines, []
        lines.insert(low + place, given[where])
        notes.insert(0, f"the line `{given[where].strip()}` was missing; it was put before line {low + place + 1}")
    return lines, notes


def place_for(lines: list[str], given: list[str], where: int, step: int) -> int | None:
    """Where among a student's lines the marker given[where] belongs; None if the line beside it is gone.

    Args:
        lines: those between the marker lines around it.
        step: 1 to look for the line that comes after it, -1 for the one before it.
    """
    there = where + step
    while not given[there].strip():
        there += step
    blanks = abs(there - where) - 1                                    # between the marker and that line
    if MARKER.fullmatch(given[there]):
        return len(lines) - blanks if step == 1 else blanks
    places = [i for i, line in enumerate(lines) if line.strip() == given[there].strip()]
    if not places:
        return None
    return max(places[0] - blanks, 0) if step == 1 else min(places[-1] + 1 + blanks, len(lines))
