"""A finding: the one form in which monitoring says that something is so, counted and in words."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["note", "warning", "breach"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: What kind of thing, for machines, such as "log_damaged".
        level: "note" is counted only, "warning" deserves a look, "breach" counts as a failed check.
        text: The same in one sentence for people.
        count: How many rows, lines or products it concerns; 0 where that says nothing.
        about: The one column it speaks of; empty where it speaks of more.
    """

    code: str
    level: Level
    text: str
    count: int = 0
    about: str = ""

    @property
    def kind(self) -> str:
        """What is so and of what, without figures that change from day to day."""
        return f"{self.code}-{self.about}" if self.about else self.code


def counted(code: str, level: Level, text: str, count: int) -> list[Finding]:
    """Makes a finding where anything was counted; `{count}` in the text is filled in."""
    return [Finding(code, level, text.format(count=f"{count:,}"), int(count))] if count else []
