"""Publish the champion for serving to follow: at the end of a job that moved the alias, or beside the service."""

import sys

import mlflow

from pipelines.steps.control import control_in_force
from pipelines.steps.production import ProductionAccess
from pricing.config import Config
from pricing.data.findings import Finding
from pricing.errors import EXIT_NOT_PUBLISHED, PricingError
from pricing.objects import ObjectStore, open_store
from pricing.registry.publish import publish
from pricing.registry.published_store import Pointer, published_url
from pricing.runtime.cli import typed
from pricing.runtime.invocation import notice


def publish_champion(access: ProductionAccess, config: Config) -> int:
    """Publishes at the end of a job that moved the alias, and returns its exit code, EXIT_NOT_PUBLISHED where it fails.

    The alias has moved then: it is no error that the job could take back, and `pricing publish` mends it.
    """
    try:
        published(access, config, open_store(published_url()))
    except PricingError as error:
        trouble = f"the champion is not published, so serving goes on as before: {error}"
        notice(Finding("not_published", "breach", sentence=trouble))
        if mlflow.active_run() is not None:
            mlflow.set_tag("not_published", str(error)[:500])
        print(f"error: {trouble}\n`{typed('publish')}` mends it, as its loop beside the service does", file=sys.stderr)
        return EXIT_NOT_PUBLISHED
    return 0


def published(
    access: ProductionAccess, config: Config, store: ObjectStore, *, alone: bool = False, again: bool = False
) -> Pointer | None:
    """Publishes the champion into a store, `alone` or with what else serving follows; returns the pointer there.

    `again` writes the pointer also where it is there: see `publish`.

    Raises:
        PricingError: The registry, the control table or the store does not answer.
    """
    return publish(
        access.registry,
        access.audit,
        store,
        control=lambda: control_in_force(config),
        now=config.now(),
        who=access.who,
        alone=alone,
        again=again,
    )
