"""Findings of checks, on sales, decisions or a job, and the JSON file that jobs leave of those on sales."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pricing.arrays import Bools
from pricing.config_models import Severity
from pricing.errors import PricingError, SourceError
from pricing.fileio import replace_text

# Checks set rows aside, stop the job, ask for a look, or find a limit broken.
Level = Literal["note", "warning", "set_aside", "breach", "stop"]
SEVERITIES: dict[Level, Severity] = {  # of alerts, from the mildest level on
    "note": "info",
    "warning": "warning",
    "set_aside": "warning",
    "breach": "critical",
    "stop": "critical",
}
ROWS = "rows"  # in the place of a column: the whole rows are set aside, and periods without a row are unknown


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    # Name of the check. Of sales it is in `pricing.data.quality.CHECKS`, `contract` for rows that break the contract,
    # or `data.quality.leave_out`:
    check: str
    level: Level
    products: int = 0  # products affected
    rows: int = 0  # rows, lines or products affected; 0 where it is about none
    first: str = ""  # first day affected, YYYY-MM-DD; empty where it is about no day
    last: str = ""  # last day affected
    example: str = ""  # the first offender
    sentence: str = ""  # what was found, one sentence without full stop
    advice: str = ""  # what to do
    about: str = ""  # the affected column; empty where it is not exactly one

    @property
    def kind(self) -> str:
        """Check and column, without figures that change from day to day."""
        return f"{self.check}-{self.about}" if self.about else self.check

    @property
    def severity(self) -> Severity:
        """Severity of an alert that carries the finding."""
        return SEVERITIES[self.level]

    def __str__(self) -> str:
        """Returns what was found, an example, and what to do."""
        return f"{self.sentence}{f', such as {self.example}' if self.example else ''}. {self.advice}".rstrip()


@dataclass(frozen=True)
class Found:
    """A finding, and the (product, period) cells of a column, or of ROWS, to set aside; none where `aside` is empty."""

    finding: Finding
    aside: str = ""
    cells: Bools | None = None


class QualityError(PricingError):
    """Sales that lie too far from their own past to be learnt from or judged by; `findings` has all, gravest first."""

    def __init__(self, where: str, findings: Iterable[Finding]) -> None:
        self.findings = ordered(findings)
        stops = [finding for finding in self.findings if finding.level == "stop"]
        found = " Also, ".join(f"{finding.check}: {finding}." for finding in stops)
        accepted = ", ".join(f"{finding.check}: {finding.last}" for finding in stops if finding.last)
        accept = (
            f"If all is as it should be, accept it (data.quality.accept: {{{accepted}}}); others, which it hid, may "
        )
        super().__init__(
            f"{where} is not as it was before, so nothing is learnt from it and the champion stays as it is. {found} "
            f"{accept + 'show then. ' if accepted else ''}Days that cannot be mended are left out by "
            "data.quality.leave_out"
        )


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first."""
    return tuple(sorted(findings, key=lambda finding: -list(SEVERITIES).index(finding.level)))


def tags(findings: Iterable[Finding]) -> dict[str, str]:
    """Tags of an MLflow run: the gravest level, and each check's name with its level."""
    found = ordered(findings)
    named = ", ".join(dict.fromkeys(f"{one.check} {one.level}" for one in found))
    return {"quality": found[0].level if found else "fine", "quality_findings": named[:5000] or "none"}


def quality_file(panel: str | Path) -> Path:
    """The file beside a saved panel's folder that says what the checks found when it was made, or was not."""
    return Path(panel).with_name(f"{Path(panel).name}.quality.json")


def to_json(findings: Iterable[Finding]) -> str:
    """The JSON text of findings."""
    return json.dumps([asdict(one) for one in findings], indent=1, ensure_ascii=False) + "\n"


def save_findings(findings: Iterable[Finding], path: str | Path) -> None:
    """Write findings as JSON, atomically; raises SourceError where the file cannot be written."""
    try:
        replace_text(Path(path), to_json(findings))
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror})") from error


def load_findings(path: str | Path) -> list[Finding]:
    """Read what `save_findings` wrote; raises SourceError where there is no such file, or it is none of these."""
    try:
        return [Finding(**one) for one in json.loads(Path(path).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path}: holds no findings of data quality ({error}); run the job again") from error
