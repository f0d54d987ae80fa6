"""One self-contained HTML page for an instructor: how the class did, what was hardest, who needs a look."""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from statistics import mean, median

from classlook import NOT_HANDED_IN, in_words, lesson_of

STYLE = """
:root { color-scheme: light dark; --bar: #3b6ea5; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; font-size: 15px; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.track { background: var(--line); width: 6rem; height: .7rem; display: inline-block; border-radius: 2px; }
.bar { background: var(--bar); height: .7rem; display: block; border-radius: 2px; }
summary { cursor: pointer; margin: .5rem 0; }
.columns { display: flex; align-items: flex-end; gap: .3rem; height: 9rem; border-bottom: 1px solid var(--line); }
.columns div { flex: 1; text-align: center; font-size: 13px; }
.columns span { display: block; background: var(--bar); border-radius: 2px 2px 0 0; }
.labels { display: flex; gap: .3rem; font-size: 12px; }
.labels div { flex: 1; text-align: center; }
.look { background: #c8752233; }
"""

UNTRIED = ("not attempted", NOT_HANDED_IN)
Class = dict[str, dict[str, dict]]  # submission -> exercise -> title, score, max_score, result, tests


def page(graded: Class, looks: dict[str, dict[str, str]], errors: dict[str, str], warning: str = "",
         unasked: str = "") -> str:  # fmt: skip
    """The page's text.

    Args:
        graded: submission -> exercise's number -> {"title", "score", "max_score", "result", "tests"}.
        looks: submission -> exercise or lesson that somebody should look at -> why.
        errors: submission -> why it was not graded.
        warning: what holds for all.
        unasked: lessons that hardly anybody handed in.
    """
    good = {name: each for name, each in graded.items() if each}
    parts = [f"<h1>{len(graded)} submissions</h1>", f"<p class=look>{escape(warning)}</p>" if warning else ""]
    if good:
        numbers = {number for each in good.values() for number in each}
        lessons = in_words({lesson_of(number) for number in numbers})
        parts += [f"<p>Lessons: {lessons}. Exercises: {len(numbers)}.</p>",
                  distribution(good), needs_a_look(looks, unasked), hardest(good), everyone(good, looks)]
    if errors:
        rows = [[escape(name), escape(reason)] for name, reason in errors.items()]
        parts += ["<h2>Not graded</h2>", html_table(["submission", "why"], rows)]
    head = "<!doctype html><html lang=en><head><meta charset=utf-8><title>Grades</title>"
    view = "<meta name=viewport content='width=device-width'>"
    return f"{head}{view}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"


def total(each: dict[str, dict], key: str = "score") -> float:
    """Points of a submission."""
    return sum(entry[key] for entry in each.values())


def html_table(header: list[str], rows: list[list[str]], numbers: tuple[int, ...] = (), marked: tuple = ()) -> str:
    """A table; columns `numbers` are right-aligned, rows `marked` coloured."""

    def cells(row: list[str], tag: str) -> str:
        return "".join(f"<{tag}{' class=number' if i in numbers else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr{' class=look' if i in marked else ''}>{cells(row, 'td')}</tr>" for i, row in enumerate(rows))
    return f"<table><thead><tr>{cells(header, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def distribution(good: Class) -> str:
    """Ten columns, a tenth of the points each, with the mean and the median."""
    possible = max(total(each, "max_score") for each in good.values())
    totals = [total(each) for each in good.values()]
    counts = Counter(min(9, int(10 * points / possible)) if possible else 0 for points in totals)
    most = max(counts.values())
    columns = "".join(f"<div>{counts[i] or ''}<span style='height:{7 * counts[i] / most:.2f}rem'></span></div>"
                      for i in range(10))  # fmt: skip
    labels = "".join(f"<div>{possible * i / 10:.0f} to {possible * (i + 1) / 10:.0f}</div>" for i in range(10))
    said = f"Mean {mean(totals):.1f}, median {median(totals):.1f} of {possible:g} points."
    return f"<h2>Distribution</h2><p>{said}</p><div class=columns>{columns}</div><div class=labels>{labels}</div>"


def hardest(good: Class) -> str:
    """Every exercise by the share of its points that those earned who tried it, with the test that failed most often.

    The ten hardest are shown, the others unfold; what nobody tried comes last.
    """
    numbers = list(dict.fromkeys(number for each in good.values() for number in each))
    rows, untried = [], []
    for number in numbers:
        entries = [each[number] for each in good.values() if number in each]
        tried = [entry for entry in entries if entry["result"] not in UNTRIED]
        if not tried:
            untried.append(number)
            continue
        share = mean(entry["score"] / entry["max_score"] for entry in tried)
        failed = Counter(what_failed(test) for entry in tried for test in entry["tests"] if test["status"] == "failed")
        common = f"{escape(failed.most_common(1)[0][0])} ({failed.most_common(1)[0][1]})" if failed else ""
        bar = f"<span class=track><span class=bar style='width:{share:.0%}'></span></span> {share:.0%}"
        name = escape(f"{number} {entries[0]['title']}")
        rows.append(((share, -len(tried)), [name, f"{len(tried)} of {len(entries)}", bar, common]))
    rows = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    header, text = ["exercise", "tried by", "points of those who tried", "what failed most often"], ""
    if rows:
        text += html_table(header, rows[:10], (1,))
    if rows[10:]:
        text += f"<details><summary>{len(rows) - 10} more</summary>{html_table(header, rows[10:], (1,))}</details>"
    if untried:
        text += f"<p>Tried by nobody: {escape(', '.join(untried))}.</p>"
    return f"<h2>Hardest first</h2>{text}"


def what_failed(test: dict) -> str:
    """A failed test's name; of a question the answer that was given."""
    given = re.match(r"you answered (.*?)\. ", test["output"])
    return f"answer {given[1]}" if given else test["name"].partition(": ")[2] or test["name"]


def needs_a_look(looks: dict[str, dict[str, str]], unasked: str = "") -> str:
    """Who needs a look, where, and why: a row a submission and reason."""
    common = f"<p>Hardly anybody handed in {escape(unasked)}. Nobody stands here for that.</p>" if unasked else ""
    rows = []
    for name, found in looks.items():
        reasons: dict[str, list[str]] = {}
        for where, why in found.items():
            reasons.setdefault(why, []).append(where)
        rows += [[escape(name), escape(", ".join(where)), escape(why)] for why, where in reasons.items()]
    if not rows:
        return f"<h2>Needs a look</h2><p>Nobody.</p>{common}"
    return f"<h2>Needs a look</h2>{common}" + html_table(["submission", "where", "why"], rows)


def everyone(good: Class, looks: dict[str, dict[str, str]]) -> str:
    """A row a submission."""
    rows, marked = [], []
    for i, (name, each) in enumerate(good.items()):
        full = sum(entry["score"] == entry["max_score"] for entry in each.values())
        if looks.get(name):
            marked.append(i)
        rows.append([escape(name), f"{total(each):g}", f"{full} of {len(each)}"])
    return "<h2>Everyone</h2>" + html_table(["submission", "points", "exercises in full"], rows, (1, 2), tuple(marked))
