"""Import what the programs of the serving image import, so that Python leaves it compiled beside the sources.

Run in the build of Dockerfile.serve: its packages are installed without compiling any, since most are never imported.
"""

import contextlib
import importlib
import urllib.request  # noqa: F401  (of the health check)

from sqlalchemy import create_engine

from pricing.errors import RegistryError
from pricing.registry.mlflow_registry import Registry
from pricing.runtime.aws import client

PROGRAMS = ("__main__", "app", "compact", "follower", "switch", "web_server")

if __name__ == "__main__":
    for program in PROGRAMS:
        importlib.import_module(f"serving.{program}")
    create_engine("postgresql+psycopg2://nobody@127.0.0.1/none").dialect.dbapi  # noqa: B018  (imports the driver)
    for service in ("s3", "sns"):
        client(service)
    with contextlib.suppress(RegistryError):  # nothing listens there; what asking imports is what counts
        Registry("none", uri="http://127.0.0.1:9").at("champion")
