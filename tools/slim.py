"""Remove from an image's packages what its programs never open: tests, and botocore's tables of services not called.

`python slim.py VENV` in the build of Dockerfile.serve. Modules stay, every one of them, so that no import fails for it.
"""

import shutil
import sys
from pathlib import Path

# The services that the image's programs call, and those by which boto3 finds credentials.
SERVICES = {"s3", "signin", "sns", "sso", "sso-oidc", "sts"}


def slim(packages: Path) -> int:
    """Removes them.

    Args:
        packages: The folder `site-packages`.

    Returns:
        Bytes removed.

    Raises:
        FileNotFoundError: botocore's tables are not where they were: this program must learn where they are now.
    """
    tables = packages / "botocore" / "data"
    missing = sorted(name for name in SERVICES if not (tables / name).is_dir())
    if missing:
        raise FileNotFoundError(f"{tables}: expected a folder for each of {sorted(SERVICES)}, found none for {missing}")
    unwanted = [path for path in tables.iterdir() if path.is_dir() and path.name not in SERVICES]
    unwanted += [path for path in (packages / "numpy").rglob("tests") if path.is_dir()]
    removed = 0
    for folder in unwanted:
        removed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return removed


if __name__ == "__main__":
    (folder,) = Path(sys.argv[1]).glob("lib/python3*/site-packages")
    print(f"removed {slim(folder) / 1e6:.0f} MB")
