"""How much there is to own: what a reader holds in his head, part by part, stays below ceilings, which only ever fall.

Python is counted in tokens, without comments, docstrings and white space, so that nothing is gained by packing a line;
SQL and templates are counted in lines, the documents in words.
"""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation", "deploy")
# Of each part all tracked Python below its path, without what a longer path of this table counts. A change that moves
# code from one part to another moves both ceilings; one that deletes lowers them.
TOKENS = {
    "pricing": 7_658,
    "pricing/data": 38_233,
    "pricing/decision": 37_102,
    "pricing/decision_log": 3_218,
    "pricing/demand": 51_236,
    "pricing/registry": 18_745,
    "pricing/runtime": 8_832,
    "etl": 11_169,
    "pipelines": 40_462,
    "serving": 14_983,
    "monitoring": 20_713,
    "console": 17_652,
    "simulation": 21_878,
    "deploy": 15_887,
    "benchmarks": 30_245,
    "tests": 288_835,
}
TOTALS = {
    "product tokens": 307_768,
    "product files": 255,
    "lines of SQL and templates": 1_100,
    "words in docs": 43_734,
    "settings": 110,
    "Makefile targets": 27,
}
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
STATEMENT_BEGINS = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def tracked(pattern: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if re.search(pattern, name) and (ROOT / name).is_file()]


def tokens(code: str) -> int:
    """Counts what a reader reads; an f-string is one token, as before Python 3.12."""
    count, formatted, before = 0, 0, tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in (tokenize.NL, tokenize.COMMENT):
            continue
        kind = tokenize.tok_name[token.type]
        is_docstring = token.type == tokenize.STRING and before in STATEMENT_BEGINS
        if token.type not in LAYOUT and not is_docstring and not formatted:
            count += 1
        formatted += (kind == "FSTRING_START") - (kind == "FSTRING_END")
        before = token.type
    return count


def below(part: str, names: list[str]) -> list[str]:
    inner = [f"{other}/" for other in TOKENS if other.startswith(f"{part}/")]
    return [name for name in names if name.startswith(f"{part}/") and not name.startswith(tuple(inner))]


def leaves(settings: object) -> int:
    return sum(map(leaves, settings.values())) if isinstance(settings, dict) and settings else 1


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    return {name: tokens(read(name)) for name in tracked(r"\.py$")}


@pytest.mark.parametrize("part", TOKENS)
def test_no_part_grows(part: str, counted: dict[str, int]) -> None:
    assert sum(counted[name] for name in below(part, list(counted))) <= TOKENS[part]


def test_the_whole_does_not_grow(counted: dict[str, int]) -> None:
    product = [name for name in counted if name.startswith(tuple(f"{part}/" for part in PRODUCT))]
    found = {
        "product tokens": sum(counted[name] for name in product),
        "product files": len(product),
        "lines of SQL and templates": sum(read(name).count("\n") for name in tracked(r"\.(sql|html|jinja)$")),
        "words in docs": sum(len(read(name).split()) for name in tracked(r"^docs/.*\.md$")),
        "settings": sum(leaves(yaml.safe_load(read(f"config/{name}.yaml"))) for name in ("default", "expert")),
        "Makefile targets": len(re.findall(r"^[a-z-]+:.*##", read("Makefile"), re.MULTILINE)),
    }

    assert {name: number for name, number in found.items() if number > TOTALS[name]} == {}


def test_every_file_of_the_product_belongs_to_a_part(counted: dict[str, int]) -> None:
    parts = {name.split("/")[0] for name in counted} & set(PRODUCT)

    assert parts <= set(TOKENS)
