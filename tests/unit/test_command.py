"""The command `pricing` lists every job, starts it by name, and adds nothing of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pricing.runtime.command import JOBS, Chosen, Job, about, main, read, start

ROOT = Path(__file__).parents[2]
HEAVY = ("tensorflow", "keras", "mlflow", "numpy", "pandas", "flask", "sqlalchemy", "pydantic")


def job(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job of one module of the given source."""
    (folder / "a_job.py").write_text(source)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    return Job("a_job", ("--first",))


def test_every_entry_point_of_the_project_is_a_job_of_the_same_module() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
    entries = {name: entry["command"].split(" -m ")[1].split()[0] for name, entry in project["entry_points"].items()}
    entries["train"] = entries.pop("main")

    assert entries.items() <= {name: job.module for name, job in JOBS.items()}.items()


def test_help_of_a_job_is_asked_for_either_way() -> None:
    assert read(["help", "price"]) == read(["price", "--help"]) == Chosen("price", ("--help",))


def test_the_word_help_shows_the_list_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0

    assert "Build models" in capsys.readouterr().out


@pytest.mark.parametrize("name", JOBS)
def test_every_job_is_a_program_that_says_in_one_line_what_it_does(name: str) -> None:
    path = ROOT.joinpath(*JOBS[name].module.split("."))
    source = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")

    assert '__name__ == "__main__"' in source.read_text(encoding="utf-8")
    assert about(JOBS[name]).endswith(".")
    assert len(about(JOBS[name])) <= 120


def test_help_lists_every_job_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip()]
    for name, known in JOBS.items():
        assert [name, about(known)] in lines


def test_help_loads_nothing_that_a_job_needs() -> None:
    code = (
        "import sys\nfrom pricing.runtime.command import main\nmain(['--help'])\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
    assert "train" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--sales", "my sales.csv", "--config", ""),
        ("--help",),
        ("-h",),
        ("--version", "3"),
        ("--", "-x", "--", "y"),
        ("train", "--reason", "--force"),
        (),
    ],
)
def test_the_options_of_a_job_are_passed_on_unchanged(words: tuple[str, ...]) -> None:
    assert read(["train", *words]) == Chosen("train", words)


def test_a_job_sees_the_command_line_that_it_would_see_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    source = (
        f"import sys\nfrom pathlib import Path\nPath({str(seen)!r}).write_text('|'.join([__name__, *sys.argv[1:]]))\n"
    )

    code = start("job", job(tmp_path, source, monkeypatch), words=("a b", ""))

    assert code == 0
    assert seen.read_text() == "__main__|--first|a b|"


def test_the_exit_code_of_a_job_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended:
        start("job", job(tmp_path, "import sys\nsys.exit(143)\n", monkeypatch), words=())

    assert ended.value.code == 143


def test_an_interrupt_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        start("job", job(tmp_path, "raise KeyboardInterrupt\n", monkeypatch), words=())


def test_a_job_whose_packages_are_not_installed_says_which_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = start("train", job(tmp_path, "import no_such_library.part\n", monkeypatch), words=())

    assert code == 2
    error = capsys.readouterr().err
    assert "train needs the package no_such_library" in error
    assert "install pricing[training]" in error


def test_a_module_of_ours_that_is_gone_is_a_bug_and_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        start("train", job(tmp_path, "import pricing.no_such_module\n", monkeypatch), words=())


@pytest.mark.parametrize(("given", "near"), [("trian", "train"), ("expriment", "experiment"), ("server", "serve")])
def test_an_unknown_job_is_refused_with_the_nearest_known_one(
    given: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([given, "--sales", "x"]) == 2

    assert f"unknown job '{given}'; the nearest known one is {near}" in capsys.readouterr().err


def test_a_word_that_is_like_no_job_is_refused_without_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2

    error = capsys.readouterr().err
    assert "unknown job 'xyzzy'" in error
    assert "nearest" not in error


def test_an_unknown_option_before_the_job_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sales", "x", "train"]) == 2

    assert "--sales" in capsys.readouterr().err


def test_the_command_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2

    shown = capsys.readouterr()
    assert "Build models" in shown.out + shown.err
