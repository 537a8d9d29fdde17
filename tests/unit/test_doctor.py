"""The doctor names what is missing or wrong, says what to do, and shows no password."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from pricing.config import DEFAULT_PATH
from pricing.errors import RegistryError
from pricing.runtime import doctor
from pricing.runtime.doctor import CheckResult, Declared

METADATA = """\
Metadata-Version: 2.4
Name: pricing
Version: 0.2.0
Requires-Python: <3.14,>=3.11
Requires-Dist: numpy<2.5,>=2.4
Requires-Dist: nowhere>=1; sys_platform == "win32"
Provides-Extra: serving
Requires-Dist: flask<3.2,>=3.1; extra == "serving"
Provides-Extra: training
Requires-Dist: pricing[serving]; extra == "training"
Requires-Dist: keras>=3; extra == "training"
"""
PROJECT = {
    "requires-python": ">=3.11,<3.14",
    "dependencies": ["numpy>=2.4,<2.5"],
    "optional-dependencies": {"serving": ["flask>=3.1,<3.2"], "training": ["pricing[serving]", "keras>=3"]},
}
INSTALLED = {"numpy": "2.4.6", "flask": "3.1.3", "keras": "3.15.1"}


@pytest.fixture
def known() -> Declared:
    return doctor.from_project(PROJECT)


def names(known: Declared) -> dict[str, list[tuple[str, SpecifierSet]]]:
    return {extra: [(line.name, line.specifier) for line in lines] for extra, lines in known.packages.items()}


def packages(known: Declared, installed: dict[str, str], *needs: str) -> list[CheckResult]:
    needed = known.with_included(needs)
    return list(doctor.package_findings(known, needed=needed, version_of=installed.get, prefix=Path("/env")))


def lines(found: list[CheckResult]) -> tuple[int, str]:
    """The exit code of a report, and its text."""
    shown: list[str] = []
    code = doctor.report(found, show=shown.append)
    return code, "\n".join(shown)


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0), (4, 0, 0)])
def test_a_python_outside_the_range_is_a_problem(version: tuple[int, int, int]) -> None:
    found = doctor.python_finding(version, SpecifierSet(">=3.11,<3.14"))

    assert (found.status, found.needed) == ("problem", True)
    assert f"Python {'.'.join(map(str, version))} is outside" in found.text
    assert found.advice


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 13, 9)])
def test_a_supported_python_is_ok(version: tuple[int, int, int]) -> None:
    assert doctor.python_finding(version, SpecifierSet(">=3.11,<3.14")).status == "ok"


def test_an_installed_package_says_the_same_as_the_project_that_it_was_built_from(
    known: Declared, tmp_path: Path
) -> None:
    (tmp_path / "pricing.dist-info").mkdir()
    (tmp_path / "pricing.dist-info" / "METADATA").write_text(METADATA)
    installed = importlib.metadata.Distribution.at(tmp_path / "pricing.dist-info")

    found = doctor.from_metadata(installed.metadata)

    assert names(found) == names(known)
    assert (found.python, found.includes) == (known.python, known.includes)


def test_all_packages_of_the_right_versions_are_ok(known: Declared) -> None:
    found = packages(known, INSTALLED, "training")

    assert [each.status for each in found] == ["ok", "ok", "ok"]


def test_missing_packages_are_named_with_the_command_that_installs_them(known: Declared) -> None:
    found = packages(known, {"numpy": "2.4.0"}, "training")

    code, text = lines(found)

    assert code == 2
    assert "missing  packages of [serving]: flask →" in text
    assert "-m pip install 'flask<3.2,>=3.1'" in text
    assert "missing  packages of [training]: keras →" in text


def test_the_environment_that_make_keeps_is_mended_by_make(known: Declared) -> None:
    found = doctor.package_findings(known, needed=(), version_of={}.get, prefix=doctor.CODE / ".venv")

    assert {each.advice for each in found} == {"rm -f .venv/locked.json && make install"}


def test_a_version_outside_the_range_is_a_problem_with_what_to_install(known: Declared) -> None:
    found = packages(known, {**INSTALLED, "numpy": "2.5.0"}, "serving")

    code, text = lines(found)

    assert code == 2
    assert "problem  packages of the base: numpy 2.5.0 is outside <2.5,>=2.4 →" in text
    assert "-m pip install 'numpy<2.5,>=2.4'" in text


def test_a_preview_release_inside_the_range_is_ok(known: Declared) -> None:
    assert [each.status for each in packages(known, {**INSTALLED, "keras": "3.16.0rc1"}, "training")] == ["ok"] * 3


def test_an_extra_that_nobody_asked_for_is_shown_and_is_no_fault(known: Declared) -> None:
    found = packages(known, {"numpy": "2.4.6", "flask": "3.1.0"}, "serving")

    code, text = lines(found)

    assert code == 0
    assert "missing  packages of [training]: keras" in text


def test_an_extra_needs_what_it_includes(known: Declared) -> None:
    code, _ = lines(packages(known, {"numpy": "2.4.6", "keras": "3.15.0"}, "training"))

    assert code == 2


def test_the_openmp_library_that_lightgbm_lacks_is_named_with_its_package() -> None:
    def absent(_: str) -> object:
        raise OSError("cannot open shared object file")

    found = doctor.openmp_finding(absent, needed=True)

    assert (found.status, found.needed) == ("missing", True)
    assert "LightGBM" in found.text
    assert "install lib" in found.advice
    assert doctor.openmp_finding(lambda name: name, needed=True).status == "ok"


def test_a_valid_configuration_gives_the_name_of_the_model() -> None:
    name, found = doctor.config_finding("small")

    assert (name, found.status) == ("pricing", "ok")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("demand: {hrizon: 3}", "the nearest known one is horizon"),
        ("demand: {horizon: soon}", "demand.horizon"),
        ("[", "is not valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_a_problem(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)

    name, found = doctor.config_finding(str(path))

    assert (name, found.status, found.needed) == (None, "problem", True)
    assert words in found.text
    assert f"{DEFAULT_PATH} explains every key" in found.advice  # in a wheel it is no config/default.yaml


def test_a_home_that_can_be_written_is_ok_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    assert doctor.home_finding(tmp_path) == CheckResult("ok", f"PRICING_HOME {tmp_path}")
    assert doctor.home_finding(tmp_path / "new" / "home").text.endswith("(will be made)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "home"])
def test_a_file_where_the_home_should_be_is_a_problem(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").touch()

    found = doctor.home_finding(tmp_path / "taken" / below)

    assert (found.status, found.needed) == ("problem", True)
    assert "cannot be written" in found.text
    assert "PRICING_HOME" in found.advice


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that even root cannot write in is needed")
def test_a_home_that_cannot_be_written_is_a_problem() -> None:
    assert doctor.home_finding(Path("/proc/pricing")).status == "problem"


def test_a_local_tracking_store_that_is_not_there_yet_is_fine_and_is_not_made(tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"

    found = list(doctor.tracking_findings(f"sqlite:///{store}", model_name="pricing"))

    assert [each.status for each in found] == ["ok", "missing"]
    assert lines(found)[0] == 0
    assert not store.exists()


def test_a_local_tracking_store_without_its_folder_is_a_problem(tmp_path: Path) -> None:
    (found,) = doctor.tracking_findings(f"sqlite:///{tmp_path / 'nowhere' / 'mlflow.db'}", model_name="pricing")

    assert (found.status, found.needed) == ("problem", True)
    assert f"there is no folder {tmp_path / 'nowhere'}" in found.text


def test_a_registry_without_a_champion_is_no_fault_and_says_what_to_do() -> None:
    found = doctor.champion_finding(lambda: None, model_name="shop")

    assert (found.status, found.text, found.needed) == ("missing", "champion of shop", False)
    assert "promote" in found.advice


def test_a_champion_is_named() -> None:
    assert doctor.champion_finding(lambda: "7", model_name="shop") == CheckResult("ok", "champion of shop: version 7")


def test_a_registry_that_refuses_is_a_problem_without_its_password() -> None:
    def refuse() -> str | None:
        raise RegistryError("registry http://me:secret@host: 401 Unauthorized")

    code, text = lines([doctor.champion_finding(refuse, model_name="shop")])

    assert code == 2
    assert "401 Unauthorized" in text
    assert "secret" not in text


def test_a_registry_that_the_installed_part_of_mlflow_cannot_read_is_a_problem() -> None:
    def lack() -> str | None:
        raise ModuleNotFoundError("No module named 'alembic'", name="alembic")

    found = doctor.champion_finding(lack, model_name="shop")

    assert (found.status, found.needed) == ("problem", True)
    assert "without alembic" in found.text
    assert "training" in found.advice


def test_a_database_that_is_not_named_is_not_looked_for() -> None:
    assert list(doctor.database_findings(None, connect=pytest.fail)) == []


def test_a_database_that_answers_is_ok_without_its_password() -> None:
    code, text = lines(list(doctor.database_findings("postgresql://me:secret@h/x", connect=lambda _: None)))

    assert code == 0
    assert "ok       PRICING_DATABASE_URL postgresql://***@h/x" in text


def test_a_database_that_does_not_answer_is_a_problem_without_its_password() -> None:
    def refuse(url: str) -> None:
        raise RegistryError(f"{url}: the record of promotions cannot be opened: connection refused")

    code, text = lines(list(doctor.database_findings("postgresql://me:secret@h/x", connect=refuse)))

    assert code == 2
    assert "connection refused" in text
    assert "secret" not in text


@pytest.mark.parametrize("name", doctor.OPTIONAL_PROGRAMS)
def test_a_program_that_only_some_want_is_no_fault(name: str) -> None:
    commands, use = doctor.OPTIONAL_PROGRAMS[name]

    absent = doctor.program_finding(name, commands, use=use, which=lambda _: None)
    present = doctor.program_finding(name, commands, use=use, which={commands[-1]: "/usr/bin/it"}.get)

    assert (absent.status, absent.needed) == ("missing", False)
    assert present == CheckResult("ok", f"{name} /usr/bin/it")


def test_an_unknown_extra_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--needs", "sevring"]) == 2

    assert "'serving'" in capsys.readouterr().err
