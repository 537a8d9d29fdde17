"""The job that this process runs, and what it found that people should hear of."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pricing.data.findings import Finding


@dataclass
class Invocation:
    """The job that this process runs, as far as it is known; filled in as it comes to be known."""

    job: str = ""
    config: str | None = None  # the configuration file that it was given
    unattended: bool = False  # a schedule or another job may have started it, so that nobody reads what it prints
    findings: list["Finding"] = field(default_factory=list)  # that people should hear of, also where it ends well


RUNNING: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def notice(*findings: "Finding") -> None:
    """Notes what a job found; when it ends, well or not, alerts carry it (`pricing.runtime.alerts`)."""
    invocation = RUNNING.get()
    if invocation is not None:
        invocation.findings.extend(findings)
