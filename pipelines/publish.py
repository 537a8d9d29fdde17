"""Publish the champion that the alias names, and what people have switched and tried, for serving to follow."""

import datetime as dt
import logging
import time
from collections.abc import Callable

import click

from pipelines.steps.control import control_record
from pipelines.steps.production import production
from pipelines.steps.publishing import published
from pricing.config import Config, ConfigFile, read_config_file
from pricing.errors import ConfigError, PricingError
from pricing.objects import open_store
from pricing.registry.published_store import published_url
from pricing.runtime.cli import POSITIVE, flag, job

_log = logging.getLogger(__name__)


@job("publish", unattended=True)
@click.option("--every", type=POSITIVE, metavar="SECONDS", help="look again and again; absent: once")
@click.option(
    "--to",
    metavar="WHERE",
    help="publish the champion alone into this folder, which an image is built with; absent: PRICING_PUBLISHED",
)
@flag("--again", help="write it anew, also where it is there: for serving that refuses a lower sequence")
def main(*, config: str | None, every: float | None, to: str | None, again: bool) -> int:
    """Publishes what aliases, experiments and switches name."""
    file = read_config_file(config)
    if to is not None:
        _bake(file, to)
    elif every is not None:
        follow(lambda: look(file.config), every=every)
    else:
        print(look(file.config, again=again))
    return 0


def _bake(file: ConfigFile, to: str) -> None:
    """Publishes the champion alone into a folder, with the configuration that the image serves by."""
    store = open_store(to)
    model = file.config.registry.model_name
    with production(file.config) as access:
        pointer = published(access, file.config, store, alone=True)
    if pointer is None:
        raise ConfigError(f"{model} has no champion to publish; train and promote one first")
    if file.path is not None:
        store.put("config.yaml", file.path.read_bytes())
    print(f"version {pointer.champion.number} of {model} is in {to}")


def look(config: Config, *, again: bool = False) -> str:
    """Publishes what has changed, or all of it `again`, and returns in a sentence what is published.

    The control table comes first.

    Raises:
        PricingError: Either of the two cannot be published; the other one is.
    """
    troubles: list[str] = []
    try:
        control_record(config).mirror(now=dt.datetime.now(dt.UTC), again=again)
    except PricingError as error:
        troubles.append(str(error))
    state = ""
    try:
        state = _publish(config, again=again)
    except PricingError as error:
        troubles.append(str(error))
    if troubles:
        raise PricingError("\n".join(troubles))
    return state


def _publish(config: Config, *, again: bool) -> str:
    """Publishes the champion, if there is one, and returns in a sentence what is published."""
    model = config.registry.model_name
    pointer = None
    with production(config) as access:
        if access.registry.versions():
            pointer = published(access, config, open_store(published_url()), again=again)
    if pointer is None:
        return f"{model} has no champion yet, so nothing is published"
    beside = f", challenger {pointer.challenger.number}" if pointer.challenger else ""
    return f"version {pointer.champion.number} of {model}, sequence {pointer.sequence}{beside}, is published"


def follow(publish_once: Callable[[], str], *, every: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Publishes again and again, whatever is away meanwhile; each change of what becomes of it is logged once.

    `publish_once` publishes and returns what is published; there are `every` seconds between two looks.
    """
    before = ""
    while True:
        try:
            state = publish_once()
            level = logging.INFO
        except PricingError as error:
            state = f"not published: {error}"
            level = logging.ERROR
        if state != before:
            _log.log(level, "%s", state)
            before = state
        sleep(every)
