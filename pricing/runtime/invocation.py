"""What is known of the job that this process runs, and what it noticed."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pricing.runtime.alerts import AlertFinding


@dataclass
class Invocation:
    """The job that this process runs, as far as it is known; filled in as it comes to be known."""

    job: str = ""
    config: str | None = None  # the configuration file that it was given
    unattended: bool = False  # a schedule may run it, so that nobody reads what it prints
    findings: list["AlertFinding"] = field(default_factory=list)  # that people should hear of, also where it ends well


RUNNING: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def notice(*findings: "AlertFinding") -> None:
    """Notes what a job found; when it ends, well or not, alerts carry it (`monitoring.alerts`)."""
    invocation = RUNNING.get()
    if invocation is not None:
        invocation.findings.extend(findings)
