"""A person's switches with real tasks on one database: frozen without a registry, kept while the database is away."""

import contextlib
import datetime as dt
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from pricing.decision.experiments import Arm, Experiment, experiments_file, read_experiments
from pricing.decision.switches import read_switches
from pricing.registry.audit import Audit
from pricing.registry.documents import SharedDocuments
from pricing.registry.switch_record import SwitchEntry, SwitchRecord
from pricing.runtime.shared_file import SharedFile
from serving.switch_watch import SwitchWatch
from tests.integration.test_serving import ROOT, Service, wait_for
from tests.kit.servers import postgres

SERVED_WITHIN = 10.0
REQUEST = {"product_id": "tea", "current_stock": 5, "day_of_week": "Friday", "current_price": 3.33, "list_price": 3.0}


def command(url: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PRICING_DATABASE_URL": url, "PRICING_ACTOR": "ada@ops"}
    ended = subprocess.run(
        [sys.executable, "-m", "pricing.runtime.command", *words],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextlib.contextmanager
def task(folder: Path, url: str) -> Iterator[Service]:
    """A task with a disk of its own and no registry."""
    folder.mkdir(exist_ok=True)
    service = Service(folder / "home", f"sqlite:///{folder}/nowhere.db", folder, {"PRICING_DATABASE_URL": url})
    try:
        yield service.start()
    finally:
        if service.process is not None and service.process.poll() is None:
            service.stop()
        sys.stderr.write((folder / "serving.log").read_text()[-3000:])


def reasons(service: Service) -> list[str]:
    return list(service.call("/get_price", REQUEST)[1]["reasons"])


def frozen(service: Service) -> bool:
    return all("frozen" in reasons(service) for _ in range(10))  # every worker, as far as can be seen


def held(service: Service) -> bool:
    return all("holdout" in reasons(service) for _ in range(10))


def hold_out(home: Path, url: str) -> None:
    """Holds a product out, as a job on another machine does."""
    file = SharedFile(experiments_file(home), SharedDocuments(url, model="pricing"), who="ada@ops")
    one = Experiment("holdout", dt.date(2024, 1, 1), None, (Arm("keep", share=0.1),), {"tea": "keep"})
    file.edit(lambda known: known.plus(one))


@pytest.mark.slow
def test_tasks_on_a_database_share_a_holdout_and_a_freeze_that_outlives_it(tmp_path: Path) -> None:
    with contextlib.ExitStack() as tasks:
        with postgres() as url:
            both = [tasks.enter_context(task(tmp_path / name, url)).ready() for name in ("one", "two")]
            before = [reasons(one) for one in both]
            hold_out(tmp_path / "job", url)
            start = time.monotonic()
            for one in both:
                wait_for(lambda one=one: held(one), patience=SERVED_WITHIN + 20)  # type: ignore[misc]
            sys.stderr.write(f"held out in both tasks after {time.monotonic() - start:.1f} s\n")
            command(url, "freeze", "--all", "--reason", "wrong costs")
            start = time.monotonic()
            for one in both:
                wait_for(lambda one=one: frozen(one), patience=SERVED_WITHIN + 20)  # type: ignore[misc]
            sys.stderr.write(f"frozen in both tasks after {time.monotonic() - start:.1f} s\n")
            command(url, "override", "--product", "tea", "--price", "4", "--until", "2999-01-01", "--reason", "deal")
            wait_for(lambda: {one.call("/get_price", REQUEST)[1]["source"] for one in both} == {"override"})
            command(url, "unfreeze", "--product", "tea", "--reason", "over")
            for one in both:
                wait_for(lambda one=one: frozen(one))  # type: ignore[misc]
            listed = command(url, "freeze", "--list")

        # The database is gone.
        both[0].stop()
        both[0].start().ready()
        time.sleep(3)
        kept = [frozen(one) for one in both]
        held_in = [read_experiments(experiments_file(tmp_path / name / "home")) for name in ("one", "two")]
        logs = [(tmp_path / name / "serving.log").read_text() for name in ("one", "two")]

    assert ["frozen" in words for words in before] == [False, False]
    assert listed.count("ada@ops") == 4  # three entries, and the one in force
    assert kept == [True, True]
    assert [one.every[0].in_arm("keep") for one in held_in] == [{"tea"}, {"tea"}]
    assert all("the switches last known stay in force" in log for log in logs)


@pytest.mark.slow
def test_one_task_needs_no_database_server(tmp_path: Path) -> None:
    home = tmp_path / "one" / "home"
    url = f"sqlite:///{home}/pricing.db"
    with task(tmp_path / "one", "") as service:
        service.ready()
        command(url, "freeze", "--product", "tea", "--reason", "wrong costs")

        wait_for(lambda: frozen(service))


@pytest.mark.slow
def test_a_freeze_waits_for_a_promotion_that_holds_the_lock(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/pricing.db"
    audit = Audit(url)
    holding, release = threading.Event(), threading.Event()

    def promote() -> None:
        with audit.locked("pricing@1"):
            holding.set()
            release.wait(60)

    promotion = threading.Thread(target=promote)
    promotion.start()
    holding.wait(60)
    threading.Timer(7, release.set).start()  # longer than those wait who only read

    said = command(url, "freeze", "--all", "--reason", "wrong costs")

    promotion.join()
    audit.close()
    assert "freeze of everything: wrong costs" in said


@pytest.mark.slow
def test_a_freeze_that_is_committed_after_a_later_one_is_not_missed(tmp_path: Path) -> None:
    moment = dt.datetime(2026, 3, 4, tzinfo=dt.UTC)
    first, second = (SwitchEntry(moment, "ada", "freeze", "product", name, "x") for name in ("tea", "jam"))
    with postgres() as url:
        record, engine = SwitchRecord(url, model="pricing"), create_engine(url)
        watch = SwitchWatch(record, path=tmp_path / "switches.json")
        record.append(SwitchEntry(moment, "ada", "freeze", "product", "rye", "x"))
        with engine.begin() as late:
            values = {**vars(first), "at": moment.isoformat(), "model": "pricing"}
            names = ("model", "at", "who", "action", "scope", "name", "why", "below_cost")
            slots = ", ".join(f":{name}" for name in names)
            late.execute(text(f"INSERT INTO pricing_switches ({', '.join(names)}) VALUES ({slots})"), values)
            record.append(second)
            watch.look()
            before = {one.name for one in read_switches(tmp_path / "switches.json")}
        watch.look()
        engine.dispose()
        record.close()

    assert before == {"rye", "jam"}
    assert {one.name for one in read_switches(tmp_path / "switches.json")} == {"rye", "jam", "tea"}
