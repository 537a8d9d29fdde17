import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricing.decision.experiments import Arm, Assignment
from pricing.decision_log.read import archive, holds_decisions, open_log, read_drawn, read_moves
from pricing.errors import ConfigError
from pricing.fileio import replace_text
from pricing.objects import FolderStore
from pricing.paths import log_url
from tests.kit.monitoring_world import redecided, write_log
from tests.unit.decision_log.test_write import NOON, entry

FRIDAY, SATURDAY, SUNDAY = (dt.date(2026, 3, day) for day in (6, 7, 8))
DRAWN = Assignment("spring", Arm("draw", share=0.5, size=0.05), 0.05)
DEEP = "[" * 100_000 + "]" * 100_000


def found(log: Path, **options: Any) -> tuple[list[int], int]:
    """The numbers of the decisions, and how many lines are damaged."""
    with open_log(str(log), **options) as (con, damaged):
        return [number for (number,) in con.execute("SELECT sequence FROM decisions ORDER BY ALL").fetchall()], damaged


def archived(log: Path, before: dt.date = SATURDAY) -> int:
    return archive(str(log), before=before)


def files(log: Path) -> list[str]:
    return sorted(path.relative_to(log).as_posix() for path in log.rglob("*") if path.is_file())


def line(number: int = 1, **changes: Any) -> str:
    record = json.loads(entry(number).encode("w", number))
    for path, value in changes.items():
        place, *names = record, *path.split("__")
        for name in names[:-1]:
            place = place[name]
        place[names[-1]] = value
    return json.dumps(record)


def write_lines(log: Path, *written: str, day: dt.date = FRIDAY, name: str = "w-000000") -> None:
    replace_text(log / "lines" / str(day) / f"{name}.jsonl", "\n".join(written))


def test_a_log_lies_in_the_home_unless_the_environment_names_another(tmp_path: Path) -> None:
    assert log_url({"PRICING_HOME": str(tmp_path)}) == str(tmp_path / "decisions")
    assert log_url({"PRICING_DECISIONS_URL": "s3://logs/shop"}) == "s3://logs/shop"
    with pytest.raises(ConfigError):
        read_drawn("gs://logs")


def test_a_log_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert found(tmp_path / "none") == ([], 0)
    assert not holds_decisions(str(tmp_path / "none"))
    write_lines(tmp_path, line())
    assert holds_decisions(str(tmp_path))


HOSTILE = [
    "{",
    "[1]",
    "null",
    "\x00\ufffd",
    DEEP,
    line()[:-30],
    *(line(**{name: None}) for name in ("sequence", "at", "date", "product_id", "tax_rate", "request", "candidates")),
    *(line(**{name: "dear"}) for name in ("current_price", "tax_rate", "sequence", "request__current_stock")),
    *(line(**{name: "dear"}) for name in ("decision__recommended_price", "candidates__price", "experiment")),
    *(line(**{name: math.inf}) for name in ("list_price", "decision__expected_units", "candidates__unit")),
    *(line(**{name: 7}) for name in ("worker", "at", "category", "decision__model_version", "decision__reasons")),
    *(line(at=at) for at in ("2026-03-06", "9999-12-31T00:00:00.000+00:00", "2026-03-06T12:00:00.000", "epoch", 9**9)),
    *(line(date=day) for day in ("2026-02-30", "1000-01-01", "infinity")),
    *(line(candidates__units=units) for units in ([1.0], [1.0, "x"], [1.0, [2.0]], [1.0, math.nan])),
    line(schema=2),
    line(sequence=2**63),
    line(sequence=1.5),
    line(candidates__size=[1.0]),
    line(decision={}),
    line(experiment={"name": "spring"}),
    line(experiment={"name": "spring", "arm": "draw", "deviation": "up"}),
    line()[:-1] + f', "more": {DEEP}}}',
    line().replace('"tax_rate"', '"tax_rat"'),
    line(product_id="\ud800"),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_line_of_odd_types_costs_itself_and_is_named_once_a_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hostile: str
) -> None:
    write_lines(tmp_path, line(2), hostile)

    before = found(tmp_path)
    archived(tmp_path)
    after = found(tmp_path)

    assert before == after == ([2], 1)
    named = (str(tmp_path), 1, 2, f"lines/{FRIDAY}/w-000000.jsonl")
    assert [record.args for record in caplog.records] == [named] * 3


ODD = [*(line(3, **{name: 10**400}) for name in ("more", "request__more")), line(3)[:-1] + f', "more": {"9" * 5000}}}']
ODD += [line(3, request__current_stock=None), line(3, at="2026-03-06T13:00:00+01:00"), line(3, more={"a": [[]] * 9})]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_no_line_that_counts_stops_the_reader_of_draws(tmp_path: Path, odd: str) -> None:
    drawn = {"name": "spring", "arm": "draw", "odds": 0.5, "deviation": 0.05}
    write_lines(tmp_path, odd, line(2, experiment=drawn))

    assert len(read_drawn(str(tmp_path))) + found(tmp_path)[1] == 2


def test_a_decision_in_lines_and_archive_counts_once(tmp_path: Path) -> None:
    write_lines(tmp_path, line(1), line(2))
    archived(tmp_path)
    write_lines(tmp_path, line(2), line(3), line(3), day=SATURDAY, name="again")

    assert found(tmp_path) == ([1, 2, 3], 0)


def test_past_days_become_files_and_late_lines_one_more(tmp_path: Path) -> None:
    for number, day in enumerate((FRIDAY, SATURDAY, SUNDAY), start=1):
        write_lines(tmp_path, line(number), day=day)
    archived(tmp_path, SUNDAY)
    write_lines(tmp_path, line(9), "{", name="late")

    moved = [archived(tmp_path, SUNDAY) for _ in range(2)]

    assert moved == [2, 0]
    folders = [name.rpartition("/")[0] for name in files(tmp_path)]
    days = ("lines/2026-03-08", *(f"parquet/date=2026-03-0{day}" for day in (6, 6, 7)))
    assert folders == [*days]
    assert found(tmp_path) == ([1, 2, 3, 9], 1)


def test_an_archive_that_was_cut_off_before_it_deleted_the_lines_is_repeated(tmp_path: Path) -> None:
    write_lines(tmp_path, line(1), "{")
    archived(tmp_path)
    write_lines(tmp_path, line(1), "{")
    twice = found(tmp_path)

    archived(tmp_path)

    assert twice == found(tmp_path) == ([1], 1)
    assert len(files(tmp_path)) == 1


def test_lines_that_a_store_did_not_delete_cost_no_other_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        write_lines(tmp_path, line(number), name=f"w-00000{number}")
    with monkeypatch.context() as stubborn:
        delete = FolderStore.delete
        stubborn.setattr(FolderStore, "delete", lambda store, keys: delete(store, list(keys)[1:]))
        archived(tmp_path)

    archived(tmp_path)

    assert found(tmp_path) == ([1, 2], 0)


def test_since_leaves_out_earlier_decisions_but_a_few_in_the_archive(tmp_path: Path) -> None:
    for number, day in enumerate((FRIDAY, SATURDAY, SUNDAY), start=1):
        write_lines(tmp_path, line(number, at=f"{day}T12:00:00.000+00:00"), day=day)
    archived(tmp_path, SUNDAY)

    assert [len(found(tmp_path, since=SUNDAY, few=few)[0]) for few in (0, 1, 2, 3, 9)] == [1, 1, 2, 3, 3]


def test_draws_are_read_whole_with_all_decisions_on_their_products_in_the_order_of_time(tmp_path: Path) -> None:
    made = [entry(1, product_id="a"), entry(2, product_id="b"), entry(3, product_id="b", at=NOON - dt.timedelta(1))]
    made[2] = redecided(made[2], experiment=DRAWN)
    write_log(tmp_path, made)
    expected = [json.loads(one.encode("w", number)) for number, one in ((3, made[2]), (2, made[1]))]

    lines = read_drawn(str(tmp_path))
    archive(str(tmp_path), before=dt.date(2026, 1, 2))

    assert lines == read_drawn(str(tmp_path)) == expected


MOVED = {"current_price": 4.0, "decision__recommended_price": 5.0}


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, True),
        ({"current_price": None}, True),
        ({"current_price": 5.0}, False),
        *(({"decision__reasons": ["held", reason]}, False) for reason in ("overridden", "frozen", "awaiting_approval")),
        ({"decision__reasons": ["held", "stock_short"]}, True),
        ({"date": "2026-03-09"}, True),  # decided some days ahead
        ({"date": "2026-02-20"}, False),  # a replay
        ({"date": "2026-03-10"}, False),  # after what is asked for
    ],
)
def test_a_move_is_the_platforms_own_and_was_in_time(tmp_path: Path, changes: dict[str, Any], moved: bool) -> None:
    write_lines(tmp_path, line(1, product_id="tea", **{**MOVED, **changes}))

    moves = read_moves(str(tmp_path), until=np.datetime64("2026-03-09"))

    day = dt.date.fromisoformat(changes.get("date", str(FRIDAY)))
    found = list(zip(moves.product_ids.tolist(), moves.dates.tolist(), moves.price.tolist(), strict=True))
    assert found == ([("tea", day, 5.0)] if moved else [])


def test_moves_are_read_once_from_lines_and_archive_with_the_days_that_the_log_covers(tmp_path: Path) -> None:
    moved = [line(number, product_id=name, **MOVED) for number, name in ((1, "tea"), (2, "tea"), (3, "rum"))]
    write_lines(tmp_path, line(4, current_price=23.75, date="2026-03-04"), *moved)
    archive(str(tmp_path), before=SATURDAY)
    write_lines(tmp_path, moved[2], line(5, current_price=23.75, date="2026-03-08"), day=SATURDAY)

    moves = read_moves(str(tmp_path), until=np.datetime64("2026-03-20"))

    assert moves.product_ids.tolist() == ["rum", "tea"]
    assert moves.days.tolist() == [dt.date(2026, 3, 4), FRIDAY, SUNDAY]


def test_a_log_without_decisions_covers_no_day(tmp_path: Path) -> None:
    moves = read_moves(str(tmp_path), until=np.datetime64("2026-03-20"))

    assert (len(moves.days), moves.days.dtype) == (0, "datetime64[D]")
    assert (len(moves.product_ids), moves.dates.dtype, moves.price.dtype) == (0, "datetime64[D]", np.float64)
