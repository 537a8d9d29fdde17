"""The commands of a document, as a stranger copies them."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.journeys.person import ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(make|curl|\.venv/bin/\w+) ")  # the other blocks are drawings and output


def commands(block: str) -> Iterator[str]:
    """Each command of a block; one goes on over lines while a quote is open."""
    command = ""
    for line in block.splitlines():
        command += line + "\n"
        if command.partition("#")[0].count("'") % 2 == 0:
            yield command.partition("#")[0].strip() if "\n" not in command.strip() else command.strip()
            command = ""


def blocks(document: str) -> Iterator[tuple[list[str], dict[str, Any] | None]]:
    """The commands of each block, and the answer that is shown of the last one, if any."""
    found = BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    for place, (language, text) in enumerate(found):
        following = found[place + 1] if place + 1 < len(found) else ("", "")
        if language == "python":
            yield [f".venv/bin/python - <<'END'\n{text}END"], None
        elif not language and COMMAND.match(text):
            yield list(commands(text)), json.loads(following[1]) if following[0] == "json" else None
