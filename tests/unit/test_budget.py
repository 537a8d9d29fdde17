"""How much there is to own: lines and files of each part stay below ceilings, which only ever fall."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"\.(py|sql|html|jinja)$")
PRODUCT = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation", "deploy")
# All lines of tracked code below a path, without what a longer path of this table counts. A change that moves lines
# from one part to another moves both ceilings; one that deletes lowers them.
LINES = {
    "pricing": 1_307,
    "pricing/data": 3_801,
    "pricing/demand": 5_167,
    "pricing/decision": 3_408,
    "pricing/decision_log": 437,
    "pricing/registry": 2_480,
    "pricing/runtime": 1_336,
    "etl": 1_800,
    "pipelines": 4_983,
    "serving": 1_976,
    "monitoring": 2_712,
    "console": 1_914,
    "simulation": 2_299,
    "deploy": 2_273,
    "benchmarks": 2_351,
    "tests": 26_858,
}
TOTALS = {
    "product": 35_893,
    "product files": 196,
    "Markdown in docs": 2_986,
    "settings": 107,
    "Makefile targets": 25,
}


def tracked(pattern: re.Pattern[str]) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if pattern.search(name) and (ROOT / name).is_file()]


def lines(names: list[str]) -> int:
    return sum((ROOT / name).read_bytes().count(b"\n") for name in names)


def below(part: str, names: list[str]) -> list[str]:
    inner = [f"{other}/" for other in LINES if other.startswith(f"{part}/")]
    return [name for name in names if name.startswith(f"{part}/") and not name.startswith(tuple(inner))]


def leaves(settings: object) -> int:
    return sum(map(leaves, settings.values())) if isinstance(settings, dict) and settings else 1


@pytest.mark.parametrize("part", LINES)
def test_no_part_grows(part: str) -> None:
    assert lines(below(part, tracked(CODE))) <= LINES[part]


def test_the_whole_does_not_grow() -> None:
    code = [name for name in tracked(CODE) if name.startswith(tuple(f"{part}/" for part in PRODUCT))]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = {
        "product": lines(code),
        "product files": sum(name.endswith(".py") for name in code),
        "Markdown in docs": lines(tracked(re.compile(r"^docs/.*\.md$"))),
        "settings": sum(
            leaves(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8")))
            for name in ("default", "expert")
        ),
        "Makefile targets": len(re.findall(r"^[a-z-]+:.*##", makefile, re.MULTILINE)),
    }

    assert {name: number for name, number in found.items() if number > TOTALS[name]} == {}


def test_every_line_of_the_product_belongs_to_a_part() -> None:
    assert {name.split("/")[0] for name in tracked(CODE) if name.startswith(tuple(f"{p}/" for p in PRODUCT))} <= set(
        LINES
    )
