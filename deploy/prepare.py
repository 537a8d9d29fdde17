"""What runs first in a task: writes its settings' file, and makes the task's own volumes writable for its programs.

Fargate gives a task volumes that belong to root, and the root file system is read-only here. So this runs as root,
without capabilities, ends, and leaves nothing behind but volumes that no other task sees. It runs inside the images as
`python -c TEXT`, so that it may import nothing of ours.
"""

import os
import shutil
from pathlib import Path

SETTINGS = "settings.yaml"


def prepare(volumes: Path, *, settings: str, copied: dict[str, str]) -> None:
    """Prepares the volumes, each a folder below `volumes`.

    Args:
        volumes: Where they are mounted now.
        settings: Content of the settings' file, in the volume `settings`; empty for none.
        copied: Volume → folder of the image whose content it begins with, such as a champion that was baked in.

    Raises:
        SystemExit: Content of the image cannot be read; root without capabilities reads what all may read.
    """
    for volume, folder in copied.items():
        if Path(folder).is_dir():
            try:
                shutil.copytree(folder, volumes / volume, dirs_exist_ok=True, copy_function=shutil.copyfile)
            except OSError as error:
                raise SystemExit(
                    f"{folder}: cannot be copied to the task's volume; its files must be readable by all in the image, "
                    f"which they are when it is built with umask 022: {error}"
                ) from error
    if settings:
        (volumes / "settings" / SETTINGS).write_text(settings, encoding="utf-8")
    for path in (*volumes.iterdir(), *volumes.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


if __name__ == "__main__":
    pairs = [pair.partition("=") for pair in os.environ.get("COPIED", "").split()]
    prepare(
        Path(os.environ["VOLUMES"]),
        settings=os.environ.get("SETTINGS", ""),
        copied={volume: folder for volume, _, folder in pairs},
    )
