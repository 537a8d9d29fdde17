"""A panel on disk: one folder of plain arrays and a JSON file, written whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pricing.data.panel import CONTRACT_VERSION, SERIES, STATICS, Event, Panel
from pricing.errors import SourceError

FORMAT = 1
"""Raised when a folder that was saved before can no longer be read."""
HEADER = "panel.json"
_ARRAYS = (*STATICS, "dates", *SERIES)


def save_panel(panel: Panel, folder: str | Path, *, write: Callable[..., None] = np.save) -> None:
    """Writes the panel beside its place and renames it there; a panel that was there before is replaced.

    Args:
        panel: What is kept.
        folder: Its place.
        write: Writes one array; called as `numpy.save` is.

    Raises:
        SourceError: The place is taken by something that is no panel, or cannot be written.
    """
    place = Path(folder)
    if place.exists() and not is_panel(place) and not (place.is_dir() and not any(place.iterdir())):
        raise SourceError(f"{place}: holds something that is no panel; give another folder")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise SourceError(f"{place}: cannot be written ({error.strerror})") from error
    try:
        for name in _ARRAYS:
            write(draft / f"{name}.npy", getattr(panel, name), allow_pickle=False)
        header = {
            "format": FORMAT,
            "contract": CONTRACT_VERSION,
            "period": panel.period,
            "holidays_given": panel.holidays_given,
            "notes": list(panel.notes),
            "events": [[str(value) for value in vars(event).values()] for event in panel.events],
        }
        (draft / HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
        draft.chmod(0o755)
        if place.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
            place.replace(old)
            draft.replace(place)
            shutil.rmtree(old)
        else:
            draft.replace(place)
    except OSError as error:
        raise SourceError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def is_panel(folder: str | Path) -> bool:
    """Whether the folder looks like a saved panel."""
    return (Path(folder) / HEADER).is_file()


def _event(name: str, first: str, last: str, category: str, *numbers: str) -> Event:
    before, after, overlay = numbers
    days = np.datetime64(first, "D"), np.datetime64(last, "D")
    return Event(name, *days, category, int(before), int(after), overlay == "True")


def load_panel(folder: str | Path) -> Panel:
    """Reads a saved panel; its arrays are mapped from the files and cannot be written to.

    Raises:
        SourceError: The folder holds no panel, a damaged one, or one of another format.
    """
    place = Path(folder)
    try:
        header = json.loads((place / HEADER).read_text(encoding="utf-8"))
        for what, known in (("format", FORMAT), ("contract", CONTRACT_VERSION)):
            if header[what] != known:
                raise SourceError(f"{place}: is a panel of {what} {header[what]}, expected {known}; run etl again")
        arrays = {name: np.asarray(np.load(place / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS}
        shape = (len(arrays["product_ids"]), len(arrays["dates"]))
        wrong = [name for name in SERIES if arrays[name].shape != shape]
        if wrong:
            raise SourceError(f"{place}: is damaged: {wrong[0]} has shape {arrays[wrong[0]].shape}, expected {shape}")
        return Panel(
            period=header["period"],
            notes=tuple(header["notes"]),
            holidays_given=header["holidays_given"],
            events=tuple(_event(*values) for values in header.get("events", ())),  # panels saved before had none
            **arrays,
        )
    except FileNotFoundError as error:
        raise SourceError(f"{place}: is no saved panel ({error.filename} is missing); run etl to make one") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{place}: is a damaged panel ({error}); run etl again") from error
