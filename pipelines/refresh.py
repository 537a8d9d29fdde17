"""Refresh a version: advance its states over new days with the same weights, and register it as challenger."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import mlflow
import numpy as np

from pipelines.steps.carry import Carried, carry
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
from pricing.registry.given_prices import given_prices
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
            sample_of(sales),
            old.config.data,
            quarantine=quarantine,
            given=partial(given_prices, file.config),
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

        made = f"the weights of version {base.number} with states up to {last}"
        name_run(f"refresh v{number}")
        set_run_description(f"Version {number}: {made}.")
        print(f"{access.registry.model_name} version {number}: {made} (run {run.info.run_id})")
        waiting = _waiting(access, base)
        if waiting:
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
    challenger = access.registry.at(CHALLENGER)
    champion = access.registry.at(CHAMPION)
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
    partitions: Partitions | None,
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
    known = version.whole_facts()
    planned = with_plan(known, version.config.data)
    anchors = asked.anchors.extended(panel)
    tags = {
        "data_fingerprint": log_data(panel, sales=asked.sales),
        **({} if partitions is None else {"partitions": partitions.made}),
        "rebuilt": str(asked.rebuild).lower(),
        "anchors": anchors.digest(),
        "calendar": calendar_digest(panel, planned),
    }
    earlier = _earlier(access, version, asked.number, tags | {"state_date": str(panel.dates[-1])})
    if earlier is not None:
        mlflow.set_tag("version", earlier)
        print("nothing new to register")
        return earlier

    if partitions is None:
        serving = asked.config.serving
        carried = carry(version, panel, facts=planned, anchors=anchors, serving=serving, rebuild=asked.rebuild)
        unchanged = _same(carried.demand, version.learner) and _same(planned, known)
        if unchanged and not version.anchors.differing(anchors):
            return None
    else:
        settings = asked.config.serving.model_dump(mode="json")
        prefix = prefix_of(asked.config, partitions, version.meta["checksum"], tags, settings)
        asked = replace(asked, prefix=prefix, given=given_prices(asked.config))
        carried = refresh_parts(version, panel, partitions, work=asked, facts=planned, scratch=access.scratch)
    mlflow.log_metrics({"parity": carried.parity.difference, "refresh_seconds": time.perf_counter() - started})
    number = _register(access, version, panel, carried, asked=asked, tags=tags)
    if partitions is not None:
        forget(asked)
    return number


def _earlier(access: ProductionAccess, version: LoadedVersion, parent: str, tags: Mapping[str, str]) -> str | None:
    """Returns the number of a version that an earlier refresh with the same tags has made; None without any."""
    about = {"kind": "refresh", "parent": parent, "weights": version.weights_hash, **tags}
    made = [other.number for other in access.registry.versions() if about.items() <= other.tags.items()]
    return made[-1] if made else None


def _register(
    access: ProductionAccess,
    version: LoadedVersion,
    panel: Panel,
    carried: Carried,
    *,
    asked: Work,
    tags: Mapping[str, str],
) -> str:
    """Registers what was carried; returns its number."""
    checked = carried.parity
    last = panel.dates[-1]
    against = "from scratch" if checked.from_scratch else "from the checkpoint"
    print(f"{len(carried.facts.product_ids)} products up to {last}; parity {checked.difference:.1e}, {against}")
    number = access.register(
        version,
        demand=carried.demand,
        facts=carried.facts,
        anchors=carried.anchors,
        origin=Origin(
            kind="refresh",
            data=describe_data(panel, sales=asked.sales, fingerprint=tags["data_fingerprint"]),
            parent=asked.number,
            checks=checked.checks,
            parts=carried.parts,
        ),
        tags=tags,
        words=f"The weights of version {asked.number} with states up to {last}.",
    )
    mlflow.set_tag("version", number)
    return number


def _same(before: Any, after: Any) -> bool:
    """Returns True when two objects hold the same values, in arrays and beside them."""
    arrays, rest = flatten(before)
    others, other_rest = flatten(after)
    if arrays.keys() != others.keys() or rest != other_rest:
        return False
    return all(
        np.array_equal(array, others[name], equal_nan=array.dtype.kind in "fM") for name, array in arrays.items()
    )
