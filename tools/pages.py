"""Lay the documents where Zensical reads them (`stage`), and beside each page its Markdown, with llms.txt (`finish`).

The pages of other folders (console, benchmarks, CHANGELOG.md) come in below docs/; formulas become MathML, so that no
page asks another site for a script.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parent.parent
STAGED, SITE = ROOT / "build" / "docs", ROOT / "build" / "site"
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
MATH = re.compile(r"^```math\n(.+?)^```$|\$(.+?)\$|(^```.+?^```$|`[^`]+`)", re.MULTILINE | re.DOTALL)


def pages() -> Iterator[tuple[str, Path]]:
    """Each page of the site's navigation, with the file that it is made of."""
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), yaml.BaseLoader)["nav"]
    for name in re.findall(r"[\w/]+\.md", str(nav)):
        inside = ROOT / "docs" / name
        yield name, inside if inside.exists() else ROOT / name


def linked(text: str, source: Path, name: str) -> str:
    """Text with its links as the page of that name has them."""
    places = {path: page for page, path in pages()}

    def moved(found: re.Match[str]) -> str:
        target = (source.parent / found[2]).resolve()
        place = places.get(target, target.relative_to(ROOT / "docs") if target.is_relative_to(ROOT / "docs") else None)
        return found[0] if place is None else found[1] + os.path.relpath(place, Path(name).parent)

    return LINK.sub(moved, text)


def formula(found: re.Match[str]) -> str:
    """MathML of a formula; code as it is."""
    if found[3]:
        return found[3]
    made = convert(" ".join((found[1] or found[2]).split()), display="block" if found[1] else "inline")
    return f'\n<div class="formula" tabindex="0">{made}</div>\n' if found[1] else made


def stage() -> None:
    """Makes build/docs."""
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGED)
    for name, source in pages():
        (STAGED / name).parent.mkdir(exist_ok=True)
        text = linked(source.read_text(encoding="utf-8"), source, name)
        (STAGED / name).write_text(MATH.sub(formula, text), encoding="utf-8")


def finish() -> None:
    """Puts each page's Markdown beside it, and their list into llms.txt."""
    lines = ["# Pricing", ""]
    for name, source in pages():
        text = linked(source.read_text(encoding="utf-8"), source, name)
        (SITE / name).write_text(text, encoding="utf-8")
        title, about = re.search(r"^# (.+?)\n\s*(.+?)\n\n", text, re.DOTALL).groups()
        lines.append(f"- [{title}]({name}): {' '.join(about.split())}")
    (SITE / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    {"stage": stage, "finish": finish}[sys.argv[1]]()
