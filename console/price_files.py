"""Price files: the changes of a day for another system or for a spreadsheet, read back with decisions, or sent."""

import csv
import datetime as dt
import io
import json
import re
import secrets
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
from pricing.registry.published_store import PRICE_FILES
from pricing.runtime.alerts import post

COLUMNS = ("file", "id", "product_id", "name", "old", "new", "from", "reason", "gain", "status", "decision", "note")
_READ = ("file", "id", "product_id", "new", "decision", "note")
MOST_COLUMNS = 100  # of a file that is read back; a spreadsheet may have added some
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

    def send(self, url: str) -> None:
        """Sends the approved prices; the other side may see a file twice, by its name.

        Raises:
            DeliveryError: It was not taken.
        """
        prices = [{"product_id": row["product_id"], "price": row["new"], "from": row["from"]} for row in self.approved]
        post(url, {"file": self.name, "prices": prices}, what="the price file")


def changes(table: Worklist, rows: Ints, *, decision: DecisionConfig) -> list[dict[str, Any]]:
    """The rows of a price file: another price than now that may be charged, or one that waits for approval."""
    changed = (table.charges | table.waits)[rows]
    return [_change(table, row, decision) for row in rows[changed].tolist()]


def _change(table: Worklist, row: int, decision: DecisionConfig) -> dict[str, Any]:
    """A row of a price file, by the names of COLUMNS that the file fills in."""
    charges = bool(table.charges[row])
    proposed = float(table.number["proposed_price"][row])
    new = float(table.number["charged"][row]) if charges else proposed
    product = str(table.text["product_id"][row])
    switch = table.switches.of(product, category=str(table.text["category"][row]))
    reason = _KEPT
    gain: float | str = ""
    if table.state[row] == BY_HAND and switch:
        reason = switch.reason
    elif new == proposed:
        reason = table.why(row, decision)
        gain = round(float(table.gain[row]), 2)
    return {
        "id": str(table.text["decision_id"][row]),
        "product_id": product,
        "name": str(table.text["name"][row]),
        "from": str(table.text["date"][row])[:10],
        "reason": reason,
        "gain": gain,
        "old": float(table.before[row]),
        "new": new,
        "status": "approved" if charges else "proposed",
    }


class PriceFiles:
    """The files of a shop, in the store beside its price table: a console's task may come and go."""

    def __init__(self, store: ObjectStore, *, model: str) -> None:
        self._store = store
        self._prefix = f"{model}/{PRICE_FILES}"

    def write(self, rows: list[dict[str, Any]], *, by: str, at: dt.datetime, seen: int) -> PriceFile:
        """Makes a file and keeps it."""
        name = f"{at.astimezone(dt.UTC):%Y%m%d%H%M%S}-{secrets.token_hex(4)}"
        file = PriceFile(name, at.isoformat(timespec="seconds"), by, rows, seen)
        self.keep(file)
        return file

    def keep(self, file: PriceFile) -> None:
        """Writes down what became of a file."""
        self._store.put(f"{self._prefix}{file.name}.json", json.dumps(asdict(file)).encode())

    def find(self, name: str) -> PriceFile:
        """A file by its name; raises SourceError where it was never written here."""
        content = self._store.get(f"{self._prefix}{name}.json") if _NAME.fullmatch(name) else None
        if content is None:
            raise SourceError("this is no price file that was written here: only such a file is read back")
        return PriceFile(**json.loads(content))

    def newest(self) -> list[PriceFile]:
        """The newest files, the last one first."""
        names = [key.removeprefix(self._prefix).removesuffix(".json") for key in self._store.keys(self._prefix)]
        return [self.find(name) for name in reversed(names[-SHOWN:])]

    def read_back(self, content: bytes) -> tuple[PriceFile, dict[str, tuple[str, str]]]:
        """Reads decisions from a file that a person filled in: product → its word and note.

        Raises:
            SourceError: It was not written here, or its rows were changed.
        """
        try:
            columns = next(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")), [])
            if len(columns) > MOST_COLUMNS:
                raise ValueError(f"it has {len(columns):,} columns, expected at most {MOST_COLUMNS}")
            frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, usecols=list(_READ))
        except (csv.Error, ValueError, OSError) as error:
            raise SourceError(f"this is no price file that was written here ({first_line(error)})") from error
        names = frame["file"].unique().tolist()
        file = self.find(names[0] if len(names) == 1 else "")
        if len(frame) > len(file.rows):
            raise SourceError(f"this file has {len(frame):,} rows, and {len(file.rows):,} were written")
        filled = unquote_formulas(frame).to_dict(orient="records")
        written = {row["id"]: row for row in file.rows}
        decided: dict[str, tuple[str, str]] = {}
        for number, row in enumerate(filled, start=2):
            ours = written.get(row["id"])
            if ours is None or ours["product_id"] != row["product_id"] or _differs(row["new"], ours["new"]):
                raise SourceError(f"line {number}: is no row of this file as it was written; fill in `decision` alone")
            if word := row["decision"].strip().lower():
                if word not in ("approve", "reject"):
                    raise SourceError(f"line {number}: expected approve or reject as the decision, found {word[:40]!r}")
                decided[row["product_id"]] = word, row["note"].strip()
        return file, decided


def _differs(text: str, price: float) -> bool:
    try:
        return not abs(float(text.replace(",", ".")) - price) <= 1e-9 * price  # nan differs
    except ValueError:
        return True
