"""Report implausible sales beyond the data contract, and stop a job where they would spoil training."""

import logging
from collections.abc import Sequence

import mlflow

from pricing.config_models import DataConfig
from pricing.data.panel import Panel
from pricing.data.plausibility import DataIssue, findings
from pricing.errors import PlausibilityError
from pricing.fileio import redact_url

_TAG_CHARACTERS = 5000
_log = logging.getLogger(__name__)


def report_findings(panel: Panel, config: DataConfig, *, sales: str, may_refuse: bool = True) -> list[str]:
    """Logs each finding as a warning and in the active run: tag `data_findings`, and all in data_findings.txt.

    Args:
        panel: The job's sales.
        config: Its `plausibility` holds the limits, and whether findings may stop a job.
        sales: Source of the sales, for the message; passwords are removed.
        may_refuse: True for jobs that findings may stop.

    Returns:
        One line per finding.

    Raises:
        PlausibilityError: A finding would spoil training, and the configuration lets it stop a job.
    """
    found = findings(panel, config.plausibility)
    lines = [str(finding) for finding in found]
    names = ", ".join(f"{finding.name} {finding.count}" for finding in found)
    mlflow.set_tag("data_findings", names[:_TAG_CHARACTERS] or "none")
    for line in lines:
        _log.warning("%s", line)
    if lines:
        mlflow.log_text("\n".join(lines) + "\n", "data_findings.txt")
    spoilt = [finding for finding in found if finding.blocks_training]
    if spoilt and may_refuse and config.plausibility.refuse:
        raise PlausibilityError(_refusal(spoilt, redact_url(sales)))
    return lines


def _refusal(spoilt: Sequence[DataIssue], where: str) -> str:
    reasons = " Also, ".join(f"{finding}." for finding in spoilt)
    return (
        f"{where} would spoil what is learnt from it: {reasons} "
        "If all is as it should be, set data.plausibility.refuse to false"
    )
