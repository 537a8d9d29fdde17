"""Import what the programs of the serving image import, so that Python leaves it compiled beside the sources.

Run in the build of Dockerfile.serve: its packages are installed without compiling any, since most are never imported.
"""

import importlib
import urllib.request  # noqa: F401  (of the health check)

from pricing.objects import open_store

PROGRAMS = ("serving.__main__", "serving.app", "granian.server.mp")

if __name__ == "__main__":
    for program in PROGRAMS:
        importlib.import_module(program)
    open_store("s3://any")
