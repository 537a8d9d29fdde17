"""What runs first in a task: writes its settings' file, and makes the task's own volumes writable for its programs.

Fargate gives a task volumes that belong to root, and the root file system is read-only here. So this runs as root,
without capabilities, ends, and leaves nothing behind but volumes that no other task sees. It runs inside the images as
`python -c TEXT`, so that it may import nothing of ours.
"""

import os
from pathlib import Path

SETTINGS = "settings.yaml"


def prepare(volumes: Path, *, settings: str) -> None:
    """Prepares the volumes, each a folder below `volumes`.

    Args:
        volumes: Where they are mounted now.
        settings: Content of the settings' file, in the volume `settings`; empty for none.
    """
    if settings:
        (volumes / "settings" / SETTINGS).write_text(settings, encoding="utf-8")
    for path in (*volumes.iterdir(), *volumes.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


if __name__ == "__main__":
    prepare(Path(os.environ["VOLUMES"]), settings=os.environ.get("SETTINGS", ""))
