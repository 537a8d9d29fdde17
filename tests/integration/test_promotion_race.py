import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from pricing.paths import ROOT
from pricing.registry.audit import Audit
from pricing.registry.promotion import record_manual_change, record_refusal
from tests.integration.promotion_racer import FolderRegistry
from tests.kit.promotions import FakeRegistry, asked
from tests.kit.servers import postgres as postgres_server

RACERS, ROUNDS = 4, 12


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'pricing.db'}"
    return str(request.getfixturevalue("postgres")).replace("+psycopg2", "")


def test_of_promotions_at_once_one_wins_and_none_is_lost(url: str, tmp_path: Path) -> None:
    aliases, go = tmp_path / "aliases", tmp_path / "go"
    aliases.mkdir()
    command = [sys.executable, "-m", "tests.integration.promotion_racer", url, str(aliases), str(go)]
    racers = [
        subprocess.Popen([*command, f"racer {number}", str(ROUNDS)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for number in range(RACERS)
    ]

    go.touch()
    outcomes = [json.loads(racer.communicate(timeout=120)[0]) for racer in racers]

    entries = Audit(url).entries("pricing@1")
    done = [entry for entry in entries if entry.outcome == "done"]
    assert [entry.sequence for entry in entries] == list(range(1, RACERS * ROUNDS + 1)), "each attempt is recorded"
    assert all(entry.action == "promote" for entry in entries), "no move looks as if it were made by hand"
    told = Counter(outcome for each in outcomes for outcome in each)
    assert told == Counter(entry.outcome for entry in entries), "each was told what the record says"
    assert [entry.from_version for entry in done] == [None, *(entry.to_version for entry in done[:-1])]
    assert (aliases / "champion").read_text() == done[-1].to_version


def test_postgres_too_only_appends(postgres: str) -> None:
    audit = Audit(postgres)
    engine = sqlalchemy.create_engine(postgres)
    record_refusal(FakeRegistry(), audit, asked("1"))

    for statement in (
        "UPDATE pricing_promotions SET who = 'eve'",
        "DELETE FROM pricing_promotions",
        "TRUNCATE pricing_promotions",
    ):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_process_that_dies_between_alias_and_record_is_found_by_the_next_look(url: str, tmp_path: Path) -> None:
    aliases = tmp_path / "aliases"
    aliases.mkdir()
    program = (
        "import os\n"
        "from tests.integration.promotion_racer import *\n"
        "class Dies(FolderRegistry):\n"
        "    def identity(self): return 'killed@1'\n"
        "    def set_alias(self, alias, number): super().set_alias(alias, number); os._exit(9)\n"
        f"move(Dies(Path({str(aliases)!r})), Audit({url!r}), asked('1'))\n"
    )

    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    audit, registry = Audit(url), FolderRegistry(aliases)
    registry.identity = lambda: "killed@1"  # type: ignore[method-assign]
    assert died.returncode == 9
    assert registry.aliases() == {"champion": "1"}
    assert audit.entries("killed@1") == []
    found = record_manual_change(registry, audit, who="bob", at="2024-05-02")
    assert found is not None
    assert (found.action, found.to_version) == ("by_hand", "1")
