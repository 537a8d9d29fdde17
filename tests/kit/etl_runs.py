"""Run the program etl in this process on tables that a test gives; PRICING_HOME is the test's."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from etl.report import Report
from etl.run import run
from etl.settings import read_settings
from pricing.config import Config, load_config

NOW = dt.datetime(2026, 11, 27, 7, tzinfo=dt.UTC)


def etl_config(tables: Mapping[str, Any], *, zone: str = "Europe/Berlin", **more: Any) -> Config:
    """The shipped configuration with a section `etl`."""
    return load_config().model_copy(update={"time_zone": zone, "etl": {"tables": dict(tables), **more}})


def etl_run(
    tables: Mapping[str, Any],
    *,
    zone: str = "Europe/Berlin",
    now: dt.datetime = NOW,
    environ: Mapping[str, str] | None = None,
    full: bool = False,
    dry_run: bool = False,
    **more: Any,
) -> Report:
    """Reads the tables, and returns what there is to tell."""
    config, report = etl_config(tables, zone=zone, **more), Report()
    run(config, read_settings(config.etl), report=report, now=now, environ=environ or {}, full=full, dry_run=dry_run)
    return report
