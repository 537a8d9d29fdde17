import errno
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pricing.errors import ConfigError, RegistryError, VersionError

pytest.importorskip("pricing.decision.pricer")
from serving.current_version import (
    FollowerPaths,
    FollowerStatus,
    Pointer,
    read_follower_status,
    read_pointer,
    write_pointer,
)
from serving.follower import REMIND_SECONDS, RETRY_SECONDS, Follower, FollowerOptions, _bake
from serving.settings import read_settings
from tests.kit.serving import settings_in


@dataclass(frozen=True)
class ListedVersion:
    number: str
    created_ms: int = 1


@dataclass
class FakeRegistry:
    champion: ListedVersion | None = None
    challenger: ListedVersion | None = None
    down: bool = False
    challenger_down: bool = False
    full: bool = False
    unreachable: str | None = None
    downloads: list[str] = field(default_factory=list)

    def at(self, alias: str) -> ListedVersion | None:
        if self.down or (self.challenger_down and alias == "challenger"):
            raise RegistryError("registry: connection refused")
        return {"champion": self.champion, "challenger": self.challenger}[alias]

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
    if "bad" in (folder / "version.json").read_text():
        raise VersionError("arrays/x.npy is damaged")
    return 9


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def follower(
    registry: FakeRegistry, home: Path, *, clock: Clock | None = None, keep: int = 3, challenger: bool = False
) -> Follower:
    return Follower(
        registry,
        places=places(home),
        options=FollowerOptions("run", keep, challenger),
        verify=verify,
        clock=clock or Clock(),
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


def test_a_pointer_that_former_code_wrote_is_followed(tmp_path: Path) -> None:
    one = follower(FakeRegistry(ListedVersion("7")), tmp_path)
    one.poll()
    place = places(tmp_path).pointer
    written = json.loads(place.read_text())
    place.write_text(json.dumps({"version": "7", "created_ms": 1, "folder": "7-1"}))

    following = follower(FakeRegistry(down=True), tmp_path).poll()

    assert written == {"format": 1, "version": "7", "created_ms": 1, "folder": "7-1"}
    assert following.served == "7"


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
     (FakeRegistry(ListedVersion("7"), full=True), "failed"), (FakeRegistry(ListedVersion("bad")), "refused")],
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
        {"champion": ListedVersion("bad")},
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
    registry, clock = FakeRegistry(ListedVersion("bad")), Clock()
    one = follower(registry, tmp_path, clock=clock)

    one.poll()
    clock.now = RETRY_SECONDS - 1
    soon = one.poll()
    clock.now = RETRY_SECONDS
    one.poll()

    assert registry.downloads == ["bad", "bad"]
    assert soon.refused == {"bad": "arrays/x.npy is damaged"}
    assert soon.detail == "arrays/x.npy is damaged"


def test_a_good_version_after_a_refused_one_is_served(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("bad"))
    one = follower(registry, tmp_path)
    one.poll()

    registry.champion = ListedVersion("8")
    following = one.poll()

    assert (following.state, following.served) == ("following", "8")
    assert list(following.refused) == ["bad"]


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


def test_the_challenger_is_fetched_beside_the_champion_only_where_it_is_tried(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("7"), challenger=ListedVersion("8"))

    alone = follower(registry, tmp_path / "alone").poll()
    both = follower(registry, tmp_path / "both", challenger=True).poll()

    assert (alone.served, alone.challenger) == ("7", None)
    assert (both.served, both.challenger) == ("7", "8")
    assert read_pointer(places(tmp_path / "both").challenger) == Pointer("8", 1, "8-1")
    assert registry.downloads == ["7", "7", "8"]


@pytest.mark.parametrize("fault", ["bad", "unreachable"])
def test_a_challenger_that_cannot_be_tried_changes_nothing_for_the_champion(tmp_path: Path, fault: str) -> None:
    registry = FakeRegistry(
        ListedVersion("7"), challenger=ListedVersion("bad 8"), unreachable="bad 8" if fault != "bad" else None
    )
    one = follower(registry, tmp_path, challenger=True)

    following = [one.poll() for _ in range(3)][-1]

    assert (following.state, following.served, following.challenger) == ("following", "7", None)
    assert ("bad 8" in following.refused) == (fault == "bad")
    assert registry.downloads.count("bad 8") == (1 if fault == "bad" else 0)
    assert pointed(tmp_path) == Pointer("7", 1, "7-1")
    assert not places(tmp_path).challenger.exists()


@pytest.mark.parametrize("after", [None, ListedVersion("7")])
def test_a_challenger_that_is_gone_or_was_promoted_is_tried_no_longer(
    tmp_path: Path, after: ListedVersion | None
) -> None:
    registry = FakeRegistry(ListedVersion("7"), challenger=ListedVersion("8"))
    one = follower(registry, tmp_path, challenger=True)
    one.poll()

    registry.challenger = after

    assert one.poll().challenger is None
    assert not places(tmp_path).challenger.exists()


def test_the_challenger_outlives_sweeps_and_restarts(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("1"), challenger=ListedVersion("8"))
    one = follower(registry, tmp_path, challenger=True, keep=1)
    one.poll()
    for number in ("2", "3"):
        registry.champion = ListedVersion(number)
        one.poll()

    following = follower(registry, tmp_path, challenger=True, keep=1).poll()

    assert following.challenger == "8"
    assert registry.downloads == ["1", "8", "2", "3"]


def test_challengers_that_follow_each_other_are_swept_and_no_pointed_version_is(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("1"))
    one = follower(registry, tmp_path, challenger=True, keep=2)
    for number in range(2, 12):
        registry.challenger = ListedVersion(str(number))
        one.poll()

    kept = {path.name for path in places(tmp_path).versions.iterdir() if path.is_dir()}

    assert kept == {"1-1", "10-1", "11-1"}


def test_a_fault_of_the_challenger_alias_holds_no_champion_up_and_is_counted(tmp_path: Path) -> None:
    registry = FakeRegistry(ListedVersion("1"), challenger=ListedVersion("8"))
    one = follower(registry, tmp_path, challenger=True)
    one.poll()

    registry.champion, registry.challenger_down = ListedVersion("2"), True
    following = one.poll()

    assert (following.state, following.served, following.challenger) == ("following", "2", "8")
    assert following.challenger_faults == 1
    assert read_pointer(places(tmp_path).challenger) == Pointer("8", 1, "8-1")


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
    "fault", [KeyError("golden"), ZeroDivisionError("no"), AttributeError("x"), ConfigError("old")]
)
@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_a_version_that_verification_stumbles_over_is_refused_and_reported(
    tmp_path: Path, fault: Exception, alias: str
) -> None:
    def stumble(folder: Path) -> int:
        if (folder / "version.json").read_text() == "8":
            raise fault
        return 9

    registry = FakeRegistry(ListedVersion("7"), challenger=None)
    options = FollowerOptions("run", 3, uses_challenger=True)
    one = Follower(registry, places=places(tmp_path), options=options, verify=stumble, clock=Clock())
    one.poll()
    setattr(registry, alias, ListedVersion("8"))

    following = one.poll()

    assert type(fault).__name__ in following.refused["8"]
    assert following.served == "7"
    assert not (places(tmp_path).versions / "8-1").exists()
