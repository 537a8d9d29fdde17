"""Print what a benchmark found as Markdown, with the commit and the day: its page holds the last such figures."""

import datetime as dt
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measured() -> str:
    """The line that says which commit was measured, and when; empty outside of a checkout."""
    words = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"*Measured at `{done.stdout.strip()}`, {dt.date.today()}.*\n"
