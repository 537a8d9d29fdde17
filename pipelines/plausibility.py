"""Says what a run's sales have wrong beyond the data contract, and stops the job where a training would be spoilt."""

import logging
from collections.abc import Sequence

import mlflow

from pricing.config_models import DataConfig
from pricing.data.panel import Panel
from pricing.data.plausibility import Finding, findings
from pricing.errors import PlausibilityError
from pricing.fileio import redact_url

_TAG_CHARACTERS = 5000
_log = logging.getLogger(__name__)


def report_findings(panel: Panel, config: DataConfig, *, sales: str, may_refuse: bool = True) -> list[str]:
    """Logs each finding as a warning and in the active run: tag `data_findings`, and all in data_findings.txt.

    Args:
        panel: What the job computes on.
        config: Its `plausibility` says what is odd, and whether it may stop a job.
        sales: Where the sales came from, for the message; passwords are left out.
        may_refuse: Whether this job is one that stops.

    Returns:
        The findings, one a line.

    Raises:
        PlausibilityError: A finding spoils what is learnt, and the configuration lets it stop a job.
    """
    found = findings(panel, config.plausibility)
    lines = [str(finding) for finding in found]
    names = ", ".join(f"{finding.name} {finding.count}" for finding in found)
    mlflow.set_tag("data_findings", names[:_TAG_CHARACTERS] or "none")
    for line in lines:
        _log.warning("%s", line)
    if lines:
        mlflow.log_text("\n".join(lines) + "\n", "data_findings.txt")
    spoilt = [finding for finding in found if finding.spoils]
    if spoilt and may_refuse and config.plausibility.refuse:
        raise PlausibilityError(_refusal(spoilt, redact_url(sales)))
    return lines


def _refusal(spoilt: Sequence[Finding], where: str) -> str:
    reasons = " Also, ".join(f"{finding}." for finding in spoilt)
    return (
        f"{where} would spoil what is learnt from it: {reasons} "
        "If all is as it should be, set data.plausibility.refuse to false"
    )
