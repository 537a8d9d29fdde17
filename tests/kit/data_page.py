"""The YAML blocks of docs/data.md, each with the heading above it, and what lays one over another."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
_PARTS = re.compile(r"^(#{2,3} [^\n]*)$|^( *)```yaml\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
# What a shop's example of another table is laid over: the smallest configuration that reads sales.
BASE = {"sources": {"zone": "Europe/Berlin", "sales": {"kind": "order_lines", "location": "orders.csv"}}}


@dataclass(frozen=True)
class Block:
    """A block of YAML: the last heading above it, and what it holds."""

    heading: str
    values: dict[str, Any]


def blocks() -> list[Block]:
    """All of the page, in order."""
    heading, found = "", []
    for part in _PARTS.finditer(PAGE.read_text(encoding="utf-8")):
        if part[1]:
            heading = part[1].lstrip("# ")
        else:
            found.append(Block(heading, yaml.safe_load(textwrap.dedent(part[3]))))
    return found


def block_of(heading: str) -> dict[str, Any]:
    """What the only block below a heading holds."""
    (block,) = [block for block in blocks() if block.heading == heading]
    return block.values


def whole(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration of which a block shows a part; what the block says replaces what it is laid over."""
    return {**values, "sources": {**BASE["sources"], **values["sources"]}}


def in_folder(values: Any, *, folder: Path) -> Any:
    """The same with files in a folder in the place of servers: SQLite for databases, folders for buckets."""
    if isinstance(values, dict):
        return {name: in_folder(value, folder=folder) for name, value in values.items()}
    if isinstance(values, str) and values.startswith(("postgresql://", "mysql://")):
        return f"sqlite:///{folder}/shop.db#{values.partition('#')[2]}"
    return values.replace("s3://", f"{folder}/", 1) if isinstance(values, str) and values[:5] == "s3://" else values
