import datetime as dt
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pricing.decision.experiments import Arm, Experiment, Experiments, write_experiments
from pricing.errors import ConfigError, RegistryError, VersionError

pytest.importorskip("pricing.decision.pricer")
from pricing.registry.rest import ElsewhereError
from serving.current_version import (
    FollowerPaths,
    FollowerStatus,
    Pointer,
    read_follower_status,
    read_pointer,
    write_pointer,
)
from serving.database_watch import DatabaseWatch
from serving.follower import (
    REMIND_SECONDS,
    RETRY_SECONDS,
    Follower,
    FollowerOptions,
    _bake,
    _LazyRegistry,
    main,
    verify_beside,
    version_tried,
)
from serving.settings import read_settings
from serving.switch_watch import SwitchWatch
from tests.kit.serving import settings_in


@dataclass(frozen=True)
class ListedVersion:
    number: str
    created_ms: int = 1


@dataclass
class FakeRegistry:
    champion: ListedVersion | None = None
    down: bool = False
    full: bool = False
    unreachable: str | None = None
    downloads: list[str] = field(default_factory=list)
    others: dict[str, ListedVersion] = field(default_factory=dict)

    def at(self, alias: str) -> ListedVersion | None:
        if self.down:
            raise RegistryError("registry: connection refused")
        return {"champion": self.champion}[alias]

    def version(self, number: str) -> ListedVersion | None:
        if self.down:
            raise RegistryError("registry: connection refused")
        champion = {self.champion.number: self.champion} if self.champion else {}
        return (champion | self.others).get(number)

    def download(self, reference: str, to: Path) -> Path:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        if reference == self.unreachable:
            raise RegistryError("registry: no such artifact")
        self.downloads.append(reference)
        to.mkdir()
        (to / "version.json").write_text(reference)
        return to


def verify(folder: Path) -> int:
    if "66" in (folder / "version.json").read_text():
        raise VersionError("arrays/x.npy is damaged")
    return 9


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def follower(
    registry: FakeRegistry,
    home: Path,
    *,
    clock: Clock | None = None,
    keep: int = 3,
    tried: str | Callable[[], str | None] | None = None,
    pinned: str | None = None,
) -> Follower:
    return Follower(
        registry,
        places=places(home),
        options=FollowerOptions("run", keep, pinned),
        verify=verify,
        clock=clock or Clock(),
        tried=tried if callable(tried) else lambda: tried,
    )


def places(home: Path) -> FollowerPaths:
    return FollowerPaths(home, "registry", home / "follower.json")


def pointed(home: Path) -> Pointer | None:
    return read_pointer(FollowerPaths(home, "registry", home).pointer)


def test_the_champion_is_fetched_verified_and_pointed_at(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))

    following = follower(registry, tmp_path).poll()

    assert (following.state, following.champion, following.served) == ("following", "7", "7")
    assert following.attempted
    assert pointed(tmp_path) == Pointer("7", 1, "7-1")
    assert read_follower_status(tmp_path / "follower.json") == following


def test_a_pointer_of_another_format_is_refused_and_written_anew(tmp_path: Path) -> None:
    follower(FakeRegistry(ListedVersion("7")), tmp_path).poll()
    place = places(tmp_path).pointer
    place.write_text(json.dumps(json.loads(place.read_text()) | {"format": 2}))

    with pytest.raises(VersionError, match=r"names no version \(it is of format 2, expected 1\); delete it"):
        read_pointer(place)

    follower(FakeRegistry(ListedVersion("7")), tmp_path).poll()
    assert pointed(tmp_path) == Pointer("7", 1, "7-1")


def test_nothing_is_fetched_while_the_champion_stays(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    one = follower(registry, tmp_path)

    for _ in range(3):
        one.poll()

    assert registry.downloads == ["7"]


def test_before_the_first_poll_no_attempt_has_ended(tmp_path: Path) -> None:
    follower(FakeRegistry(ListedVersion("7")), tmp_path)

    following = read_follower_status(tmp_path / "follower.json")

    assert following is not None
    assert not following.attempted


@pytest.mark.parametrize(
    ("registry", "state"),
    [(FakeRegistry(down=True), "unreachable"), (FakeRegistry(None), "no_champion"),
     (FakeRegistry(ListedVersion("7"), full=True), "failed"), (FakeRegistry(ListedVersion("66")), "refused")],
)  # fmt: skip
def test_a_first_attempt_that_fails_has_ended_too(tmp_path: Path, registry: FakeRegistry, state: str) -> None:
    following = follower(registry, tmp_path).poll()

    assert (following.state, following.attempted, following.served) == (state, True, None)


def test_the_last_good_version_stays_when_registry_alias_or_version_fail(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    one = follower(registry, tmp_path)
    one.poll()

    for change in (
        {"down": True},
        {"down": False, "champion": None},
        {"champion": ListedVersion("66")},
        {"champion": ListedVersion("8"), "full": True},
    ):
        for name, value in change.items():
            setattr(registry, name, value)
        one.poll()

        assert pointed(tmp_path) == Pointer("7", 1, "7-1")
        assert one.following.served == "7"


def test_the_last_good_version_survives_a_restart_without_a_registry(tmp_path: Path) -> None:
    follower(FakeRegistry(ListedVersion("7")), tmp_path).poll()

    following = follower(FakeRegistry(down=True), tmp_path).poll()

    assert (following.state, following.served) == ("unreachable", "7")


def test_a_refused_version_is_remembered_reported_and_not_fetched_again_soon(tmp_path: Path) -> None:
    registry, clock = FakeRegistry(ListedVersion("66")), Clock()
    one = follower(registry, tmp_path, clock=clock)

    one.poll()
    clock.now = RETRY_SECONDS - 1
    soon = one.poll()
    clock.now = RETRY_SECONDS
    one.poll()

    assert registry.downloads == ["66", "66"]
    assert soon.refused == {"66": "arrays/x.npy is damaged"}
    assert soon.detail == "arrays/x.npy is damaged"


def test_a_good_version_after_a_refused_one_is_served(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("66"))
    one = follower(registry, tmp_path)
    one.poll()

    registry.champion = ListedVersion("8")
    following = one.poll()

    assert (following.state, following.served) == ("following", "8")
    assert list(following.refused) == ["66"]


def test_the_same_number_in_a_registry_made_anew_is_another_version(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("1", created_ms=1))
    one = follower(registry, tmp_path)
    one.poll()

    registry.champion = ListedVersion("1", created_ms=2)
    one.poll()

    assert pointed(tmp_path) == Pointer("1", 2, "1-2")


def test_going_back_to_a_version_still_on_disk_fetches_nothing(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    one = follower(registry, tmp_path)
    for number in ("7", "8", "7"):
        registry.champion = ListedVersion(number)
        one.poll()

    assert registry.downloads == ["7", "8"]
    assert pointed(tmp_path) == Pointer("7", 1, "7-1")


def test_only_the_newest_versions_are_kept_on_disk(tmp_path: Path) -> None:
    registry = FakeRegistry()
    one = follower(registry, tmp_path, keep=2)
    for number in ("1", "2", "3"):
        registry.champion = ListedVersion(number)
        one.poll()

    kept = {path.name for path in FollowerPaths(tmp_path, "registry", tmp_path).versions.iterdir() if path.is_dir()}

    assert kept == {"2-1", "3-1"}


def test_half_downloads_of_earlier_runs_are_deleted_at_the_start_and_nothing_else(tmp_path: Path) -> None:
    versions = places(tmp_path).versions
    kept = [
        ".7-1.partial",
        f".backup.{'a' * 32}.partial",
        f".7-1.{'b' * 32}.partial",
        f".9-1.{'d' * 32}.partial",
        "7-1",
    ]
    half = versions / f".7-1.{'c' * 32}.partial"
    for folder in (half, versions / kept[0], versions / kept[1], versions / "7-1", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
        (folder / "x.npy").write_bytes(b"1")
    (versions / kept[2]).symlink_to(tmp_path / "elsewhere")
    (versions / kept[3]).write_text("a file")

    follower(FakeRegistry(), tmp_path)

    assert not half.exists()
    assert all((versions / name).exists() for name in kept)
    assert (tmp_path / "elsewhere" / "x.npy").exists()


def test_a_damaged_pointer_is_written_anew(tmp_path: Path) -> None:
    path = FollowerPaths(tmp_path, "registry", tmp_path).pointer
    path.parent.mkdir(parents=True)
    path.write_text("{half")

    one = follower(FakeRegistry(ListedVersion("7")), tmp_path)
    one.poll()

    assert pointed(tmp_path) == Pointer("7", 1, "7-1")


def test_an_illegible_status_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "follower.json").write_text('{"unknown": 1}')

    assert read_follower_status(tmp_path / "follower.json") is None
    assert FollowerStatus(run_id="x").state == "starting"


def test_no_password_of_a_registry_is_told(tmp_path: Path) -> None:
    class Secretive(FakeRegistry):
        def at(self, alias: str) -> ListedVersion | None:
            raise RegistryError("registry postgresql://bob:pa55word@db:5432/x: refused")

    following = follower(Secretive(), tmp_path).poll()

    assert following.detail == "registry postgresql://***@db:5432/x: refused"


EIGHT = {"8": ListedVersion("8")}


def test_the_version_that_an_experiment_tries_is_fetched_beside_the_champion(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"), others=EIGHT)

    alone = follower(registry, tmp_path / "alone").poll()
    both = follower(registry, tmp_path / "both", tried="8").poll()

    assert (alone.served, alone.challenger) == ("7", None)
    assert (both.served, both.challenger) == ("7", "8")
    assert read_pointer(places(tmp_path / "both").challenger) == Pointer("8", 1, "8-1")
    assert registry.downloads == ["7", "7", "8"]


@pytest.mark.parametrize("fault", ["bad", "unreachable", "unknown"])
def test_a_challenger_that_cannot_be_tried_changes_nothing_for_the_champion(tmp_path: Path, fault: str) -> None:
    registry = FakeRegistry(
        ListedVersion("7"),
        others={} if fault == "unknown" else {"668": ListedVersion("668")},
        unreachable="668" if fault == "unreachable" else None,
    )
    one = follower(registry, tmp_path, tried="668")

    following = [one.poll() for _ in range(3)][-1]

    assert (following.state, following.served, following.challenger) == ("following", "7", None)
    assert ("668" in following.refused) == (fault == "bad")
    assert registry.downloads.count("668") == (1 if fault == "bad" else 0)
    assert pointed(tmp_path) == Pointer("7", 1, "7-1")
    assert not places(tmp_path).challenger.exists()


@pytest.mark.parametrize("after", [None, "7"])
def test_a_challenger_whose_experiment_is_over_or_that_was_promoted_is_tried_no_longer(
    tmp_path: Path, after: str | None
) -> None:
    tried: list[str | None] = ["8"]
    one = follower(FakeRegistry(ListedVersion("7"), others=EIGHT), tmp_path, tried=lambda: tried[0])
    one.poll()

    tried[0] = after

    assert one.poll().challenger is None
    assert not places(tmp_path).challenger.exists()


def test_the_challenger_outlives_sweeps_and_restarts(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("1"), others=EIGHT)
    one = follower(registry, tmp_path, tried="8", keep=1)
    one.poll()
    for number in ("2", "3"):
        registry.champion = ListedVersion(number)
        one.poll()

    following = follower(registry, tmp_path, tried="8", keep=1).poll()

    assert following.challenger == "8"
    assert registry.downloads == ["1", "8", "2", "3"]


def test_the_file_of_experiments_says_which_version_is_tried(tmp_path: Path) -> None:
    settings, today = settings_in(tmp_path), dt.date.today()
    start = today - dt.timedelta(days=today.weekday())
    running = Experiment("try", start, 2, (Arm("challenger", share=0.1, of="8"),), {"P1": "challenger/8"})
    found = [version_tried(settings)]

    for one in (Experiments((running,)), Experiments((running,)).ended("try", after=start)):
        write_experiments(settings.experiments_file, one)
        found.append(version_tried(settings))
    settings.experiments_file.write_text("{half")

    assert [*found, version_tried(settings)] == [None, "8", None, None]


def test_baking_tells_the_registry_without_its_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_in(tmp_path, MLFLOW_TRACKING_URI="http://ops:hush@mlflow:5000")

    assert _bake(settings, registry=FakeRegistry(ListedVersion("7")), verify=verify) == 0

    said = capsys.readouterr().out
    assert "hush" not in said
    assert "version 7 of http://***@mlflow:5000" in said


def test_baking_lays_the_configuration_beside_the_version_and_without_one_takes_a_former_one_away(
    tmp_path: Path,
) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("serving: {workers: 5}")
    home = tmp_path / "home"

    def bake(**environment: str) -> None:
        settings = read_settings({"PRICING_HOME": str(home), **environment}, baked=False)
        assert _bake(settings, registry=FakeRegistry(ListedVersion("7")), verify=verify) == 0

    bake(PRICING_CONFIG=str(config))
    with_config = settings_in(home).config.serving.workers
    bake()

    assert with_config == 5
    assert settings_in(home).file.path is None


def test_baking_without_a_champion_says_where_it_looked_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _bake(settings_in(tmp_path), registry=FakeRegistry(), verify=verify) == 2

    said = capsys.readouterr().err
    assert "no champion to bake in: no_champion: " in said
    assert "no version of the model 'pricing' is champion in http://127.0.0.1:9: `make train SALES=…`" in said


def test_without_a_champion_the_log_says_so_and_repeats_it_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    one = Follower(
        FakeRegistry(),
        places=places(tmp_path),
        options=FollowerOptions("run", 3),
        verify=verify,
        advice=lambda: "nothing is champion: train",
        clock=clock,
    )

    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    one.poll()
    one.poll()
    first = warnings()
    clock.now = REMIND_SECONDS
    following = one.poll()

    assert first == ["every price comes by rule, since nothing is champion: train"]
    assert warnings() == 2 * first
    assert following.detail == first[0]


def test_without_a_champion_the_version_that_goes_on_is_named(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"))
    write_pointer(places(tmp_path).baked, Pointer("3", 1, "3-1"))
    baked = follower(FakeRegistry(), tmp_path).poll().detail
    one = follower(registry, tmp_path)
    one.poll()
    registry.champion = None

    served = one.poll().detail

    assert str(baked).startswith("version 3, which was baked in, goes on, since no version is champion")
    assert str(served).startswith("version 7, served last, goes on, since no version is champion")


@pytest.mark.parametrize(
    "fault",
    [
        *(KeyError("golden"), ZeroDivisionError("no"), AttributeError("x"), ConfigError("old"), MemoryError()),
        *(RecursionError(), EOFError(), SyntaxError()),
    ],
)
@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_version_that_verification_stumbles_over_is_refused_and_reported(
    tmp_path: Path, fault: Exception, alias: str
) -> None:
    def stumble(folder: Path) -> int:
        if (folder / "version.json").read_text() == "8":
            raise fault
        return 9

    registry, tried = FakeRegistry(ListedVersion("7"), others=EIGHT), []
    one = Follower(
        registry, places=places(tmp_path), options=FollowerOptions("run", 3), verify=stumble, clock=Clock(),
        tried=lambda: tried[0] if tried else None,
    )  # fmt: skip
    one.poll()
    if alias == "champion":
        registry.champion = ListedVersion("8")
    else:
        tried.append("8")

    following = one.poll()

    assert type(fault).__name__ in following.refused["8"]
    assert following.served == "7"
    assert not (places(tmp_path).versions / "8-1").exists()


def write_champion(home: Path, **values: object) -> Path:
    path = places(home).pointer
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, "version": "7", "created_ms": 1, "folder": "7-1", **values}))
    return path


@pytest.mark.parametrize(
    "folder",
    [
        *("../decoy", "..", ".", "", "absolute", "7-1/..", "7-1/../../../decoy", "7-1/", " 7-1", "8-1", "7-2"),
        *("7-1-x", "7-1\n", "\u0667-1", "7-1\u0000", None, ["7-1"], {"a": 1}),
    ],
)
@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_nothing_is_deleted_that_a_file_names(tmp_path: Path, folder: object, alias: str) -> None:
    home, decoy = tmp_path / "home", tmp_path / "home" / "versions" / "decoy"
    beside = places(home).versions / "notes"
    for place in (decoy, beside):
        place.mkdir(parents=True)
        (place / "kept").write_text("kept")
    write_champion(home, folder=str(decoy) if folder == "absolute" else folder)
    if alias == "challenger":
        places(home).pointer.rename(places(home).challenger)

    following = follower(FakeRegistry(ListedVersion("7")), home, tried="7").poll()

    assert following.served == "7"
    assert pointed(home) == Pointer("7", 1, "7-1")
    assert (decoy / "kept").read_text() == (beside / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    "values", [{"version": "../decoy"}, {"created_ms": -1}, {"created_ms": 1e999}, {"version": ""}]
)
def test_a_pointer_to_no_version_is_refused_when_it_is_read(tmp_path: Path, values: dict[str, object]) -> None:
    path = write_champion(tmp_path, **values)

    with pytest.raises(VersionError, match=r"names no version .* delete it, and the follower writes it anew"):
        read_pointer(path)


def test_a_pointer_of_many_levels_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_champion(tmp_path)
    path.write_text("[" * 100_000)

    with pytest.raises(VersionError, match="names no version"):
        read_pointer(path)


def test_a_link_among_the_versions_is_neither_served_nor_followed_when_versions_are_deleted(tmp_path: Path) -> None:
    home, decoy = tmp_path / "home", tmp_path / "decoy"
    decoy.mkdir()
    (decoy / "version.json").write_text("7")
    write_champion(home)
    for name in ("7-1", "1-1", "2-1"):
        (places(home).versions / name).symlink_to(decoy)
    registry = FakeRegistry(ListedVersion("7"))
    one = follower(registry, home, keep=1)
    served_before = one.following.served

    following = one.poll()

    assert served_before is None
    assert (following.state, following.served, pointed(home)) == ("failed", None, None)
    assert (decoy / "version.json").read_text() == "7"


@pytest.mark.parametrize("number", ["../decoy", "..", "", "7/8", "latest"])
def test_a_number_of_the_registry_that_is_none_names_no_folder(tmp_path: Path, number: str) -> None:
    registry = FakeRegistry(ListedVersion(number))

    following = follower(registry, tmp_path / "home").poll()

    assert following.state == "refused"
    assert "cannot name a folder" in str(following.detail)
    assert registry.downloads == []


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_version_damaged_on_disk_is_fetched_anew_at_the_next_start(tmp_path: Path, alias: str) -> None:
    registry = FakeRegistry(ListedVersion("7"), others=EIGHT)
    follower(registry, tmp_path, tried="8").poll()
    folder = places(tmp_path).versions / {"champion": "7-1", "challenger": "8-1"}[alias]
    (folder / "version.json").write_text("66 and longer")

    following = follower(registry, tmp_path, tried="8").poll()

    assert (following.state, following.served, following.challenger) == ("following", "7", "8")
    assert registry.downloads == ["7", "8", folder.name[0]]
    assert (folder / "version.json").read_text() == folder.name[0]


def test_a_version_at_which_the_follower_ended_twice_is_refused(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(folder: Path) -> int:
        if (folder / "version.json").read_text() == "8":
            raise Killed  # as if the system had ended the process: nothing after it is run but by accident
        return 9

    registry = FakeRegistry(ListedVersion("7"))
    options = FollowerOptions("run", 3)
    Follower(registry, places=places(tmp_path), options=options, verify=kill, clock=Clock()).poll()
    registry.champion = ListedVersion("8")
    note = places(tmp_path).versions / "verifying.json"
    for begun in (1, 2):
        one = Follower(registry, places=places(tmp_path), options=options, verify=kill, clock=Clock())
        with pytest.raises(Killed):
            one.poll()
        note.write_text(json.dumps({"8-1": begun}))  # which its end left behind

    following = Follower(registry, places=places(tmp_path), options=options, verify=kill, clock=Clock()).poll()

    assert (following.state, following.served) == ("refused", "7")
    assert following.refused == {"8": "the follower ended 2 times while it verified it, perhaps for want of memory"}
    assert not note.exists()


def test_a_pinned_version_is_fetched_and_kept_whatever_the_alias_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    registry = FakeRegistry(ListedVersion("9"), others={"7": ListedVersion("7")})
    one = follower(registry, tmp_path, pinned="7")

    first = one.poll()
    registry.champion = ListedVersion("8")
    second = one.poll()
    registry.champion, registry.others = None, {}  # deleted: what is on disk goes on
    third = one.poll()

    assert [(now.state, now.pinned, now.served) for now in (first, second, third)] == [("following", "7", "7")] * 3
    assert [now.champion for now in (first, second, third)] == ["9", "8", None]
    assert registry.downloads == ["7"]
    assert pointed(tmp_path) == Pointer("7", 1, "7-1")
    for named in ("9", "8", "none"):
        assert f"version 7 is pinned (PRICING_VERSION); the champion is {named}" in caplog.text


def test_a_pinned_version_that_does_not_exist_is_told_and_nothing_else_served(tmp_path: Path) -> None:
    follower(FakeRegistry(ListedVersion("9")), tmp_path).poll()
    registry = FakeRegistry(ListedVersion("9"))

    now = follower(registry, tmp_path, pinned="66").poll()

    assert (now.state, now.champion, now.served, now.attempted) == ("unknown_version", "9", None, True)
    assert now.detail == "version 66, which PRICING_VERSION pins, does not exist; every price comes by rule"
    assert registry.downloads == []


def test_a_pinned_version_that_is_refused_says_why(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("9"), others={"66": ListedVersion("66")})

    now = follower(registry, tmp_path, pinned="66").poll()

    assert (now.state, now.served, now.detail) == ("refused", None, "arrays/x.npy is damaged")


def test_a_pinned_version_outlives_a_restart_without_a_registry_and_the_alias_counts_again_without_the_pin(
    tmp_path: Path,
) -> None:
    registry = FakeRegistry(ListedVersion("9"), others={"7": ListedVersion("7")})
    follower(registry, tmp_path, pinned="7").poll()

    away = follower(FakeRegistry(down=True), tmp_path, pinned="7").poll()
    free = follower(registry, tmp_path).poll()

    assert (away.state, away.served) == ("unreachable", "7")
    assert (free.state, free.pinned, free.served) == ("following", None, "9")


@pytest.mark.parametrize("value", ["champion", "0", "-1", "7.0", "07", "٧", "9" * 20])
def test_what_is_no_version_s_number_cannot_be_pinned(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="PRICING_VERSION: expected the number of a version, such as 7, found"):
        settings_in(tmp_path, PRICING_VERSION=value)


def test_files_that_the_server_does_not_hand_out_are_fetched_by_mlflow(tmp_path: Path) -> None:
    class Rest(FakeRegistry):
        def download(self, reference: str, to: Path) -> Path:
            raise ElsewhereError("registry: the files lie in s3://bucket")

    lazy, mlflow = _LazyRegistry(settings_in(tmp_path)), FakeRegistry(ListedVersion("7"))
    lazy._open, lazy._by_mlflow = Rest(ListedVersion("7")), mlflow

    folder = lazy.download("7", tmp_path / "7-1")

    assert (lazy.at("champion"), folder.is_dir()) == (ListedVersion("7"), True)
    assert mlflow.downloads == ["7"]


def test_a_server_is_followed_without_importing_what_takes_long(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import serving.web_server
assert "serving.app" not in sys.modules, "workers alone need the application"
from pricing.errors import RegistryError
from serving.follower import _LazyRegistry
from serving.settings import read_settings
registry = _LazyRegistry(read_settings({"PRICING_HOME": sys.argv[1], "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}))
for ask in (lambda: registry.at("champion"), lambda: registry.download("7", Path(sys.argv[1]) / "7-1")):
    try:
        ask()
    except RegistryError as error:
        print(error)
print(sorted({"mlflow", "sqlalchemy"} & {*sys.modules}))
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_WORKSPACE"):
        environment.pop(name, None)

    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    *refused, imported = ran.stdout.splitlines()
    assert len(refused) == 2
    assert imported == "[]"


def test_a_version_is_served_only_once_the_switches_in_force_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    order: list[str] = []

    def verify(folder: Path) -> int:
        order.append("verified")
        return 9

    def look(watch: SwitchWatch) -> None:
        time.sleep(0.2)
        order.append("looked")

    monkeypatch.setattr("serving.follower.verify_version", verify)
    monkeypatch.setattr(SwitchWatch, "look", look)
    settings = settings_in(tmp_path)
    database = DatabaseWatch(settings, stop=stop)

    requests, before = verify_beside(tmp_path, database=database), [*order]

    stop.set()
    database.join()
    assert requests == 9
    assert sorted(before) == ["looked", "verified"]


def test_a_database_whose_address_cannot_be_used_holds_no_version_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    monkeypatch.setattr("serving.follower.verify_version", lambda folder: 9)
    settings = settings_in(tmp_path, PRICING_DATABASE_URL="postgresql://host:port/x", PRICING_RUN_ID="run")
    database = DatabaseWatch(settings, stop=stop)

    assert verify_beside(tmp_path, database=database) == 9

    stop.set()
    database.join()
    assert "record of switches" in caplog.text


def test_a_service_is_not_ready_before_what_a_person_has_switched_is_known(tmp_path: Path) -> None:
    told: list[bool] = []
    status = tmp_path / "follower.json"

    def known() -> None:
        before = read_follower_status(status)
        told.append(before is not None and before.attempted)

    one = Follower(
        FakeRegistry(down=True), places=places(tmp_path), options=FollowerOptions("run", 3), verify=verify, known=known
    )
    one.poll()
    one.poll()

    after = read_follower_status(status)
    assert told == [False]  # once, and before anybody could have read it
    assert after is not None
    assert after.attempted


@pytest.mark.parametrize("lost", ["database_watch.DatabaseWatch", "log_upload.Uploading"])
def test_a_follower_that_has_lost_a_thread_begins_anew(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"serving.{lost}._run", lambda thread: None)  # it ends at once, as by an error
    monkeypatch.setattr("serving.database_watch.FIRST_LOOK_SECONDS", 0.1)
    monkeypatch.setattr("serving.follower.configure_logging", lambda: None)
    monkeypatch.setattr("serving.follower.os.nice", lambda _: 0)
    monkeypatch.setattr("serving.follower.signal.signal", lambda *_: None)
    for name, value in {
        "PRICING_HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'none.db'}",
        "PRICING_DECISIONS_URL": str(tmp_path / "uploads"),
        "PRICING_RUN_ID": "run",
        "PRICING_RUN_FOLDER": str(tmp_path / "run"),
    }.items():
        monkeypatch.setenv(name, value)

    assert main([]) == 1

    assert "begins anew" in caplog.text
