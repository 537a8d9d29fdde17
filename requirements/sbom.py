"""Print a software bill of materials (CycloneDX 1.6, JSON) of the Python environment that runs this.

`make sbom IMAGE=…` runs it inside an image, and so it needs no package. What the base image brings besides is not in
the bill: the label `org.opencontainers.image.base.name` names it.
"""

import datetime as dt
import json
import re
import sys
import uuid
from importlib.metadata import Distribution, distributions
from typing import Any


def materials(name: str, version: str, *, found: list[Distribution]) -> dict[str, Any]:
    """The bill of an image: a component for each package, and who needs whom.

    Args:
        name: Of the image.
        version: Of the image, such as its digest.
        found: The packages.
    """
    packages = {normal(each.metadata["Name"]): each for each in found}
    references = {key: f"pkg:pypi/{key}@{each.version}" for key, each in packages.items()}
    image = {"type": "container", "bom-ref": "image", "name": name, "version": version}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"timestamp": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "component": image},
        "components": [_component(packages[key], references[key]) for key in sorted(packages)],
        "dependencies": [
            {"ref": "image", "dependsOn": sorted(references.values())},
            *(
                {"ref": references[key], "dependsOn": sorted({references[n] for n in _needs(each) if n in packages})}
                for key, each in sorted(packages.items())
            ),
        ],
    }


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needs(package: Distribution) -> list[str]:
    """The packages that it names, those of extras among them; who is not installed is left out by the caller."""
    return [normal(re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0]) for line in package.requires or []]


def _component(package: Distribution, reference: str) -> dict[str, Any]:
    component = {
        "type": "library",
        "bom-ref": reference,
        "name": package.metadata["Name"],
        "version": package.version,
        "purl": reference,
    }
    licences = _licences(package)
    return {**component, "licenses": licences} if licences else component


def _licences(package: Distribution) -> list[dict[str, Any]]:
    expression = package.metadata.get("License-Expression")
    if expression:
        return [{"expression": expression}]
    given = package.metadata.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in given if line.startswith("License :: ")]
    text = (package.metadata.get("License") or "").strip()
    if not names and text and "\n" not in text:  # some put the licence's whole text there
        names = [text]
    return [{"license": {"name": name}} for name in dict.fromkeys(names)]


if __name__ == "__main__":
    json.dump(materials(*sys.argv[1:3], found=list(distributions())), sys.stdout, indent=1)
