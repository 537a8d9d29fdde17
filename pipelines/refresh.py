"""Refresh a version: advance its states over new days with the same weights, and register it as challenger."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np

from pipelines.steps.carry import carry
from pipelines.steps.parts import Work, forget, partitioned_as, prefix_of, refresh_parts
from pipelines.steps.production import ProductionAccess, production
from pipelines.steps.sales import calendar_digest, read_checked, with_calendars, with_plan
from pipelines.steps.verdict import nothing_to_do
from pricing.arrays import flatten
from pricing.config import read_config_file
from pricing.data.etl_output import Partitions, sample_of
from pricing.data.panel import Panel
from pricing.errors import HistoryError, RegistryError
from pricing.registry import CHALLENGER, CHAMPION
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.promotion import rejected
from pricing.registry.version import LoadedVersion, Origin
from pricing.runtime.cli import flag, job, typed
from pricing.runtime.mlflow_runs import describe_data, log_data, name_run, set_run_description, tracked_run


@job("refresh", sales="needed", unattended=True)
@click.option("--version", metavar="N", help="the version to refresh; absent: the champion")
@flag("--rebuild", help="encode the sales, which must be the whole history, from scratch")
def main(*, sales: str, quarantine: Path | None, config: str | None, version: str | None, rebuild: bool) -> int:
    """Carries a version's states forward over new days, with the same weights."""
    file = read_config_file(config)
    with tracked_run("refresh", config=file.config) as run, production(file.config) as access:
        base = access.registry.find(version or CHAMPION)
        rejection = rejected(access.registry, access.audit, base)
        if rejection is not None:
            raise RegistryError(
                f"version {base.number} is rejected ({rejection.words()}), and so would its refresh be; promote it by "
                "force first, or name another"
            )
        old = with_calendars(access.fetch(base.number), file.config.data)
        anchors = access.anchors_for(old)
        partitions = partitioned_as(old, sales)
        loaded = read_checked(
            sales if partitions is None else sample_of(sales),
            old.config.data,
            quarantine=quarantine,
            past=old.learner.encoded.tail,  # newer rows alone do not show which prices were discounts
            anchors=anchors,
        )
        _same_shop(loaded.panel, old, number=base.number)
        asked = Work(
            sales=sales,
            config=file.config.model_copy(update=dict(old.config)),
            prefix="",
            quarantine=quarantine,
            anchors=anchors,
            events=loaded.panel.events,
            number=base.number,
            checksums=old.meta["files"],
            rebuild=rebuild,
        )
        number = refreshed(access, old, loaded.panel, asked=asked, partitions=partitions)
        last = loaded.panel.dates[-1]
        if number is None:
            return nothing_to_do(f"version {base.number} has read these sales already, up to {last}")
        said = f"version {number}: the weights of version {base.number} with states up to {last}"
        name_run(f"refresh v{number}")
        set_run_description(f"{said[0].upper()}{said[1:]}.")
        print(f"{access.registry.model_name} {said} (run {run.info.run_id})")
        if waiting := _waiting(access, base):
            print(f"version {waiting} waits as {CHALLENGER} and stays it")
        else:
            access.registry.set_alias(CHALLENGER, number)
        print(f"`{typed('promote')} --version {number}`, and prices rest on the new states")
    return 0


def _same_shop(panel: Panel, version: LoadedVersion, *, number: str) -> None:
    """Refuses sales of which the version knows no product: their ids have changed, or they are of another shop.

    Raises:
        HistoryError: It knows none.
    """
    known = version.demand.product_ids
    if not np.isin(panel.product_ids, known).any():
        raise HistoryError(
            f"version {number} knows none of the {len(panel.product_ids):,} products in these sales: expected ids such "
            f"as {str(known[0])!r}, found such as {str(panel.product_ids[0])!r} (ids_changed). Deliver the former ids, "
            "or train a version on a history with the new ones"
        )


def _waiting(access: ProductionAccess, base: RegisteredVersion) -> str | None:
    """Returns the challenger that awaits a decision; None when there is none.

    A refresh must not replace it. A challenger with the weights being refreshed, or the champion's, only has older
    states; one that the gates refused, or that has been champion, is decided.
    """
    challenger, champion = access.registry.at(CHALLENGER), access.registry.at(CHAMPION)
    if challenger is None or challenger.weights in {base.weights, champion.weights if champion else ""}:
        return None
    record = access.audit.entries(access.registry.identity())
    decided = {entry.to_version for entry in record if entry.outcome in ("done", "refused")}
    return None if challenger.number in decided else challenger.number


def refreshed(
    access: ProductionAccess,
    version: LoadedVersion,
    panel: Panel,
    *,
    asked: Work,
    partitions: Partitions | None = None,
) -> str | None:
    """Registers a version with the given one's weights and states as of the panel's last date.

    Configuration is copied from the given version (calendars may differ from those of its training). Anchors are those
    in force, extended by products launched since. If an earlier refresh of the same version read the same panel, its
    version is returned. Must be called inside a run.

    Returns:
        The number of the version with the new states, or None when the given version has read exactly this panel.

    Raises:
        HistoryError: The panel leaves a gap after the state or changes rows before the checkpoint.
        RegistryError: The registry refuses.
    """
    started = time.perf_counter()
    sales, parent, anchors = asked.sales, asked.number, asked.anchors.extended(panel)
    known = version.whole_facts()
    planned = with_plan(known, version.config.data)
    tags = {
        "data_fingerprint": log_data(panel, sales=sales),
        **({} if partitions is None else {"partitions": partitions.made}),
        "rebuilt": str(asked.rebuild).lower(),
        "anchors": anchors.digest(),
        "calendar": calendar_digest(panel, planned),
    }
    about = {"kind": "refresh", "parent": parent, "weights": version.weights_hash, "state_date": str(panel.dates[-1])}
    earlier = [one.number for one in access.registry.versions() if (about | tags).items() <= one.tags.items()]
    if earlier:
        mlflow.set_tag("version", earlier[-1])
        print("nothing new to register")
        return earlier[-1]
    if partitions is None:
        serving, rebuild = asked.config.serving, asked.rebuild
        carried = carry(version, panel, facts=planned, anchors=anchors, serving=serving, rebuild=rebuild)
        unchanged = _same(carried.demand, version.learner) and _same(planned, known)
        if unchanged and not version.anchors.differing(anchors):
            return None
    else:
        settings = asked.config.serving.model_dump(mode="json")
        prefix = prefix_of(asked.config, partitions, version.meta["checksum"], tags, settings)
        work = replace(asked, prefix=prefix)
        carried = refresh_parts(version, panel, partitions, work=work, facts=planned, scratch=access.scratch)
    checked = carried.parity
    mlflow.log_metrics({"parity": checked.difference, "refresh_seconds": time.perf_counter() - started})
    against = "from scratch" if checked.from_scratch else "from the checkpoint"
    count = len(carried.facts.product_ids)
    print(f"{count} products up to {panel.dates[-1]}; parity {checked.difference:.1e}, {against}")
    number = access.register(
        version,
        demand=carried.demand,
        facts=carried.facts,
        anchors=carried.anchors,
        origin=Origin(
            kind="refresh",
            data=describe_data(panel, sales=sales, fingerprint=tags["data_fingerprint"]),
            parent=parent,
            checks={"parity": checked.difference, "parity_from_scratch": checked.from_scratch},
            parts=carried.parts,
        ),
        tags=tags,
        words=f"The weights of version {parent} with states up to {panel.dates[-1]}.",
    )
    mlflow.set_tag("version", number)
    if partitions is not None:
        forget(work)
    return number


def _same(one: Any, other: Any) -> bool:
    (some, rest), (others, of_other) = flatten(one), flatten(other)
    return (some.keys(), rest) == (others.keys(), of_other) and all(
        np.array_equal(array, others[name], equal_nan=array.dtype.kind in "fM") for name, array in some.items()
    )
