"""Publish the champion that the alias names, and what persons have switched and tried, for serving to follow."""

import datetime as dt
import logging
import sys
import time
from collections.abc import Callable

import click
import mlflow

from pipelines.freeze import control_in_force, control_record
from pipelines.steps.production import ProductionAccess, production
from pricing.config import Config, ConfigFile, read_config_file
from pricing.errors import EXIT_NOT_PUBLISHED, ConfigError, PricingError
from pricing.objects import ObjectStore, open_store
from pricing.registry.publish import publish
from pricing.registry.published_store import Pointer, published_url
from pricing.runtime.cli import POSITIVE, job, typed
from pricing.runtime.invocation import AlertFinding, notice

_log = logging.getLogger(__name__)


@job("publish", unattended=True)
@click.option("--every", type=POSITIVE, metavar="SECONDS", help="look again and again; absent: once")
@click.option(
    "--to",
    metavar="WHERE",
    help="publish the champion alone into this folder, which an image is built with; absent: PRICING_PUBLISHED",
)
def main(*, config: str | None, every: float | None, to: str | None) -> int:
    """Publishes what aliases, experiments and switches name."""
    file = read_config_file(config)
    if to is not None:
        _bake(file, to)
    elif every is not None:
        follow(lambda: look(file.config), every=every)
    else:
        print(look(file.config))
    return 0


def _bake(file: ConfigFile, to: str) -> None:
    """Publishes the champion alone into a folder, with the configuration that the image serves by."""
    store, model = open_store(to), file.config.registry.model_name
    with production(file.config) as access:
        pointer = _published(access, file.config, store, alone=True)
    if pointer is None:
        raise ConfigError(f"{model} has no champion to publish; train and promote one first")
    if file.path is not None:
        store.put("config.yaml", file.path.read_bytes())
    print(f"version {pointer.champion.number} of {model} is in {to}")


def publish_champion(access: ProductionAccess, config: Config) -> int:
    """Publishes at the end of a job that moved the alias, and returns its exit code, EXIT_NOT_PUBLISHED where it fails.

    The alias has moved then: it is no error that the job could take back, and `pricing publish` mends it.
    """
    try:
        _published(access, config, open_store(published_url()))
    except PricingError as error:
        said = f"the champion is not published, so serving goes on as before: {error}"
        notice(AlertFinding("not_published", "critical", said))
        if mlflow.active_run() is not None:
            mlflow.set_tag("not_published", str(error)[:500])
        print(f"error: {said}\n`{typed('publish')}` mends it, as its loop beside the service does", file=sys.stderr)
        return EXIT_NOT_PUBLISHED
    return 0


def look(config: Config) -> str:
    """Publishes what has changed, the control table first, and says what is published.

    Raises:
        PricingError: Either of the two cannot be published; the other one is.
    """
    store, model = open_store(published_url()), config.registry.model_name
    troubles: list[str] = []
    said = f"{model} has no champion yet, so nothing is published"
    try:
        control_record(config).mirror(now=dt.datetime.now(dt.UTC))
    except PricingError as error:
        troubles.append(str(error))
    try:
        with production(config) as access:
            pointer = _published(access, config, store) if access.registry.versions() else None
        if pointer is not None:
            beside = f", challenger {pointer.challenger.number}" if pointer.challenger else ""
            said = f"version {pointer.champion.number} of {model}, sequence {pointer.sequence}{beside}, is published"
    except PricingError as error:
        troubles.append(str(error))
    if troubles:
        raise PricingError("\n".join(troubles))
    return said


def follow(publish_once: Callable[[], str], *, every: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Publishes again and again, whatever is away meanwhile; each change of what becomes of it is logged once.

    `publish_once` publishes and says what is published; there are `every` seconds between two looks.
    """
    before = ""
    while True:
        try:
            state, level = publish_once(), logging.INFO
        except PricingError as error:
            state, level = f"not published: {error}", logging.ERROR
        if state != before:
            _log.log(level, "%s", state)
            before = state
        sleep(every)


def _published(access: ProductionAccess, config: Config, store: ObjectStore, *, alone: bool = False) -> Pointer | None:
    return publish(
        *(access.registry, access.audit, store),
        control=lambda: control_in_force(config),
        now=config.now(),
        who=access.who,
        alone=alone,
    )
