import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pytest

from pricing.decision.experiments import Arm, Assignment
from pricing.decision_log.read import archive, holds_decisions, log_url, open_log, read_decisions
from pricing.errors import ConfigError, SourceError
from pricing.fileio import replace_text
from tests.kit.monitoring_world import redecided, write_log
from tests.unit.test_decision_log_write import entry

FRIDAY, SATURDAY, SUNDAY = (dt.date(2026, 3, day) for day in (6, 7, 8))
DRAWN = Assignment("spring", Arm("draw", share=0.5, size=0.05), 0.05)
DEEP = "[" * 100_000 + "]" * 100_000


def ids(log: Path, **options: Any) -> list[str]:
    return [record["decision"]["decision_id"] for record in read_decisions(str(log), **options).records]


def files(log: Path) -> list[str]:
    return sorted(path.relative_to(log).as_posix() for path in log.rglob("*") if path.is_file())


def line(number: int = 1, **changes: Any) -> str:
    record = {"schema": 3, "worker": "w", "sequence": number, **json.loads(entry(number).encode())}
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
        read_decisions("gs://logs")


def test_lines_are_read_whole_in_the_order_of_time(tmp_path: Path) -> None:
    write_lines(tmp_path, line(2, at="2026-03-06T12:00:01.000+00:00"), line(1))

    (first, second), damaged = vars(read_decisions(str(tmp_path))).values()

    assert (first, second["sequence"], damaged) == (json.loads(line(1)), 2, 0)
    assert first["decision"] == json.loads(entry(1).answer.decision.model_dump_json())
    assert first["request"] == {
        "product_id": "Tee ☕", "current_stock": 3.0, "day_of_week": "Friday", "comp_price": 21.5, "is_promo": False,
    }  # fmt: skip


def test_a_log_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert ids(tmp_path / "none") == []
    assert not holds_decisions(str(tmp_path / "none"))
    write_lines(tmp_path, line())
    assert holds_decisions(str(tmp_path))


HOSTILE = [
    *("{", "[1]", "null", "\x00\ufffd", DEEP, line()[:-30]),
    *(line(**{name: None}) for name in ("sequence", "at", "date", "product_id", "tax_rate", "request", "candidates")),
    *(line(**{name: "dear"}) for name in ("current_price", "tax_rate", "sequence", "request__current_stock")),
    *(line(**{name: "dear"}) for name in ("decision__recommended_price", "candidates__price", "experiment")),
    *(line(**{name: math.inf}) for name in ("list_price", "decision__expected_units", "candidates__unit")),
    *(line(**{name: 7}) for name in ("worker", "at", "category", "decision__model_version", "decision__reasons")),
    *(line(at=at) for at in ("2026-03-06", "9999-12-31T00:00:00.000+00:00", "2026-03-06T12:00:00.000", "epoch")),
    *(line(date=day) for day in ("2026-02-30", "1000-01-01", "infinity")),
    *(line(candidates__units=units) for units in ([1.0], [1.0, "x"], [1.0, [2.0]], [1.0, math.nan])),
    *(line(schema=2), line(sequence=2**63), line(sequence=1.5), line(candidates__size=[1.0]), line(decision={})),
    *(line(experiment={"name": "spring"}), line(experiment={"name": "spring", "arm": "draw", "deviation": "up"})),
    *(line()[:-1] + f', "more": {DEEP}}}', line().replace('"tax_rate"', '"tax_rat"')),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_line_of_odd_types_costs_itself_also_in_the_archive(tmp_path: Path, hostile: str) -> None:
    write_lines(tmp_path, hostile, line(2))

    before = read_decisions(str(tmp_path))
    archive(str(tmp_path), before=SATURDAY)
    after = read_decisions(str(tmp_path))

    assert ([record["sequence"] for record in before.records], before.damaged) == ([2], 1)
    assert after == before


def test_a_decision_in_lines_and_archive_counts_once(tmp_path: Path) -> None:
    write_lines(tmp_path, line(1), line(2))
    archive(str(tmp_path), before=SATURDAY)
    write_lines(tmp_path, line(2), line(3), line(3), day=SATURDAY, name="again")

    reading = read_decisions(str(tmp_path))

    assert [record["sequence"] for record in reading.records] == [1, 2, 3]


def test_past_days_become_a_file_each_and_late_lines_join_theirs(tmp_path: Path) -> None:
    for number, day in enumerate((FRIDAY, SATURDAY, SUNDAY), start=1):
        write_lines(tmp_path, line(number), day=day)
    archive(str(tmp_path), before=SUNDAY)
    write_lines(tmp_path, line(9), "{", name="late")

    moved = [archive(str(tmp_path), before=SUNDAY) for _ in range(2)]

    assert moved == [2, 0]
    assert files(tmp_path) == [
        "lines/2026-03-08/w-000000.jsonl",
        "parquet/date=2026-03-06/decisions.parquet",
        "parquet/date=2026-03-07/decisions.parquet",
    ]
    assert sorted(ids(tmp_path)) == ["d-1", "d-2", "d-3", "d-9"]
    assert read_decisions(str(tmp_path)).damaged == 1


def test_an_archive_that_was_cut_off_before_it_deleted_the_lines_is_repeated(tmp_path: Path) -> None:
    write_lines(tmp_path, line(1), "{")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    archive(str(tmp_path), before=SATURDAY)
    for path, content in kept.items():
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    twice = read_decisions(str(tmp_path))

    archive(str(tmp_path), before=SATURDAY)

    assert (len(twice.records), twice.damaged) == (1, 1)
    assert read_decisions(str(tmp_path)) == twice
    assert files(tmp_path) == ["parquet/date=2026-03-06/decisions.parquet"]


def test_days_that_are_no_longer_kept_are_deleted(tmp_path: Path) -> None:
    for number, day in enumerate((FRIDAY, SATURDAY, SUNDAY), start=1):
        write_lines(tmp_path, line(number), day=day)
    archive(str(tmp_path), before=SATURDAY)

    archive(str(tmp_path), before=SATURDAY, kept_since=SUNDAY)

    assert files(tmp_path) == ["lines/2026-03-08/w-000000.jsonl"]


def test_since_leaves_out_earlier_decisions_but_a_few_in_the_archive(tmp_path: Path) -> None:
    for number, day in enumerate((FRIDAY, SATURDAY, SUNDAY), start=1):
        write_lines(tmp_path, line(number, at=f"{day}T12:00:00.000+00:00"), day=day)
    archive(str(tmp_path), before=SUNDAY)

    def found(few: int) -> int:
        with open_log(str(tmp_path), since=SUNDAY, few=few) as (con, _):
            return len(con.execute("FROM decisions").fetchall())

    assert [found(few) for few in (0, 1, 2, 3, 9)] == [1, 1, 2, 3, 3]


def test_drawn_leaves_out_products_of_which_no_price_was_drawn(tmp_path: Path) -> None:
    made = [entry(1, product_id="a"), entry(2, product_id="b"), entry(3, product_id="b")]
    write_log(tmp_path, [made[0], made[1], redecided(made[2], experiment=DRAWN)])

    assert ids(tmp_path, drawn=True) == ["d-2", "d-3"]
    archive(str(tmp_path), before=dt.date(2026, 1, 2))
    assert ids(tmp_path, drawn=True) == ["d-2", "d-3"]


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    replace_text(tmp_path / "parquet" / "date=2026-03-06" / "decisions.parquet", "none")

    with pytest.raises(SourceError, match=r"date=2026-03-06/decisions\.parquet"):
        read_decisions(str(tmp_path))


def test_the_archive_keeps_the_day_that_was_priced_beside_the_day_of_its_segment(tmp_path: Path) -> None:
    ahead = dt.date(2026, 4, 1)
    write_lines(tmp_path, line(date=str(ahead)))

    archive(str(tmp_path), before=SATURDAY)
    with open_log(str(tmp_path)) as (con, _):
        found = con.execute("SELECT date FROM decisions").fetchall()

    assert found == [(ahead,)]
