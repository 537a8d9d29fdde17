"""Price files: the changes of a day for another system or for a spreadsheet, read back with decisions, or sent."""

import datetime as dt
import io
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from console.words import moment
from console.worklist import BY_HAND, Worklist
from pricing.arrays import Ints
from pricing.config_models import DecisionConfig
from pricing.errors import SourceError, first_line
from pricing.objects import ObjectStore
from pricing.quoting import quote_formulas, unquote_formulas
from pricing.runtime.alerts import post

COLUMNS = ("file", "id", "product_id", "name", "old", "new", "from", "reason", "gain", "status", "decision", "note")
SHOWN = 20  # files, the newest
_NAME = re.compile(r"\d{14}-[0-9a-f]{8}")  # when it was written, by UTC, so that the last is the newest
_KEPT = "What was approved last, or the cost; a newer proposal waits."


@dataclass
class PriceFile:
    """A file that was written: its rows, and what became of it."""

    name: str
    at: str
    by: str
    rows: list[dict[str, Any]]
    seen: int  # sequence of the last entry of the control record that it rests on
    state: str = "written"  # then exported or failed
    detail: str = ""

    @property
    def written(self) -> str:
        """When it was written."""
        return moment(dt.datetime.fromisoformat(self.at))

    @property
    def approved(self) -> list[dict[str, Any]]:
        """The rows that may be charged."""
        return [row for row in self.rows if row["status"] == "approved"]

    def as_csv(self) -> bytes:
        """The file as a table; two columns are for a person to fill in."""
        frame = pd.DataFrame([{"file": self.name, **row, "decision": "", "note": ""} for row in self.rows])
        return quote_formulas(frame.reindex(columns=list(COLUMNS))).to_csv(index=False).encode()


def changes(table: Worklist, rows: Ints, *, decision: DecisionConfig) -> list[dict[str, Any]]:
    """The rows of a price file: another price than now that may be charged, or one that waits for approval."""
    found = []
    for row in rows[(table.charges | table.waits)[rows]].tolist():
        text = {name: str(values[row]) for name, values in table.text.items()}
        number = {name: float(values[row]) for name, values in table.number.items()}
        new, by_hand = number["charged" if table.charges[row] else "proposed_price"], table.state[row] == BY_HAND
        told: dict[str, Any] = {"reason": _KEPT, "gain": ""}
        if by_hand and (given := table.switches.of(text["product_id"], category=text["category"])):
            told["reason"] = given.reason
        elif new == number["proposed_price"]:
            told = {"reason": table.why(row, decision), "gain": round(float(table.gain[row]), 2)}
        known = {"id": text["decision_id"], "product_id": text["product_id"], "name": text["name"]}
        known["from"] = text["date"][:10]
        status = "approved" if table.charges[row] else "proposed"
        found.append({**known, **told, "old": float(table.before[row]), "new": new, "status": status})
    return found


class PriceFiles:
    """The files of a shop, in the store beside its price table: a console's task may come and go."""

    def __init__(self, store: ObjectStore, *, model: str) -> None:
        self._store, self._prefix = store, f"{model}/price_files/"

    def write(self, rows: list[dict[str, Any]], *, by: str, at: dt.datetime, seen: int) -> PriceFile:
        """Makes a file, and keeps what it says."""
        name = f"{at.astimezone(dt.UTC):%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
        made = PriceFile(name, at.isoformat(timespec="seconds"), by, rows, seen)
        self.keep(made)
        return made

    def keep(self, file: PriceFile) -> None:
        """Writes down what became of a file."""
        self._store.put(f"{self._prefix}{file.name}.json", json.dumps(asdict(file)).encode())

    def find(self, name: str) -> PriceFile:
        """A file by its name; raises SourceError where we never wrote it."""
        content = self._store.get(f"{self._prefix}{name}.json") if _NAME.fullmatch(name) else None
        if content is None:
            raise SourceError("this is no price file that was written here: only such a file is read back")
        return PriceFile(**json.loads(content))

    def newest(self) -> list[PriceFile]:
        """The newest files."""
        names = [key.removeprefix(self._prefix).removesuffix(".json") for key in self._store.keys(self._prefix)]
        return [self.find(name) for name in names[: -SHOWN - 1 : -1]]

    def read_back(self, content: bytes) -> tuple[PriceFile, dict[str, tuple[str, str]]]:
        """Reads decisions from a file that a person filled in: product → its word and note.

        Raises:
            SourceError: It is no file that we wrote, or its rows were changed.
        """
        try:
            frame = unquote_formulas(pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False))
            names = set(frame["file"]) if len(frame) else {""}
            sent = frame[["id", "product_id", "new", "decision", "note"]].to_dict(orient="records")
        except (KeyError, ValueError, OSError) as error:
            raise SourceError(f"this is no price file that was written here ({first_line(error)})") from error
        file = self.find(str(names.pop()) if len(names) == 1 else "")
        known = {row["id"]: row for row in file.rows}
        decided: dict[str, tuple[str, str]] = {}
        for number, row in enumerate(sent, start=2):
            ours = known.get(row["id"])
            if ours is None or ours["product_id"] != row["product_id"] or _differs(row["new"], ours["new"]):
                raise SourceError(f"line {number}: is no row of this file as it was written; fill in `decision` alone")
            if word := row["decision"].strip().lower():
                if word not in ("approve", "reject"):
                    raise SourceError(f"line {number}: expected approve or reject as the decision, found {word[:40]!r}")
                decided[row["product_id"]] = word, row["note"].strip()
        return file, decided


def send(file: PriceFile, url: str) -> None:
    """Sends the approved prices; the other side may see a file twice, by its name.

    Raises:
        DeliveryError: It was not taken.
    """
    prices: Sequence[Mapping[str, Any]] = [
        {"product_id": row["product_id"], "price": row["new"], "from": row["from"]} for row in file.approved
    ]
    post(url, {"file": file.name, "prices": prices}, what="the price file")


def _differs(text: str, price: float) -> bool:
    try:
        return abs(float(text.replace(",", ".")) - price) > 1e-9 * price
    except ValueError:
        return True
