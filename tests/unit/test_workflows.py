"""The pipelines on GitHub: what linters find, and what they call exists."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
BOTH = [*WORKFLOWS, *ACTIONS]
PROGRAMS = Path(sys.executable).parent


def read(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step, with the file that it stands in."""
    for path in WORKFLOWS:
        yield from ((path.name, step) for job in read(path)["jobs"].values() for step in job.get("steps", []))
    for path in ACTIONS:
        yield from ((path.parent.name, step) for step in read(path)["runs"]["steps"])


def lint(*command: str | Path) -> subprocess.CompletedProcess[str]:
    program, *words = command
    return subprocess.run([PROGRAMS / program, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_actionlint_finds_nothing() -> None:
    done = lint("actionlint", "-no-color")

    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_zizmor_finds_nothing() -> None:
    done = lint(
        "zizmor", "--offline", "--no-progress", "--persona", "pedantic", "--config", GITHUB / "zizmor.yml", GITHUB
    )

    assert "No findings to report" in done.stdout + done.stderr, done.stdout
    assert all(f"completed {path.relative_to(ROOT)}" in done.stderr.replace(f"{ROOT}/", "") for path in BOTH)


def test_no_job_that_may_reach_aws_runs_the_code_of_a_pull_request() -> None:
    pull_requests = {path.name for path in WORKFLOWS if "pull_request" in str(read(path)[True])}  # `on` is YAML's True

    assert pull_requests == {"ci.yml"}
    assert [name for name, job in jobs() if name.startswith("ci.yml") and "id-token" in job["permissions"]] == []
    assert not any("pull_request_target" in path.read_text(encoding="utf-8") for path in WORKFLOWS)


def test_production_is_reached_by_way_of_its_environment_alone() -> None:
    for name, job in jobs():
        if "id-token" in job["permissions"] and "uses" not in job and not name.startswith("images.yml"):
            assert job["environment"], name
    assert read(GITHUB / "workflows" / "deploy.yml")["jobs"]["production"]["needs"] == "staging"
    assert read(GITHUB / "workflows" / "promote.yml")["jobs"]["promote"]["needs"] == "check"


# The scripts that sign and copy images, run with programs that write down how they are called. A registry is a folder
# with a file for each tag, which holds the digest; cosign knows the signature of SIGNED.
COMMIT, DIGEST, OTHER = "c" * 40, f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
OURS, THEIRS = "ghcr.io/shop/pricing", "12.dkr.ecr.eu-central-1.amazonaws.com/pricing-staging"
BUILT, BASE = {f"{OURS}/{name}:{COMMIT}": DIGEST for name in ("serving", "mlflow", "jobs")}, {"python:3.11-slim": OTHER}
PROGRAM = """#!/bin/bash
echo "${0##*/} $*" >> "$HERE/calls"
case "${0##*/} $*" in
  *" imagetools inspect "*) cat "$HERE/${4//\\//_}" 2> /dev/null || { echo "$4: $SAID" >&2; exit 1; } ;;
  *" imagetools create "*) echo "${6#*@}" > "$HERE/${5//\\//_}" ;;
  "docker buildx build "*) tag="${*: -2:1}"; echo "$DIGEST" > "$HERE/${tag//\\//_}" ;;
  "cosign verify "*) [ "${2#*@}" = "$SIGNED" ] ;;
  "aws cloudformation "*Sales*) echo s3://data/sales ;;
  "aws logs "*) echo '["done"]' ;;
  "aws ecs describe-tasks "*) echo 3 ;;
  "aws ssm get-parameter --name /pricing/"*) echo "$DIGEST" ;;
  "aws ecr describe-images "*"imageDigest=$DIGEST "*) echo running ;;
  "gh api "*/compare/running...$COMMIT" "*) echo "$STATUS" ;;
  "gh api "*/compare/*) exit 1 ;;
  "gh api "*) echo ann ;;
esac
"""


def run_script(name: str, here: Path, tags: dict[str, str], **given: str) -> tuple[int, list[str]]:
    """Runs the step whose name begins so; returns its exit code, and the calls and outputs that it made."""
    (script,) = (step["run"] for _, step in steps() if step.get("name", "").startswith(name))
    for file, text in {**dict.fromkeys(("docker", "cosign", "aws", "gh", "sleep"), PROGRAM), **tags}.items():
        (here / file.replace("/", "_")).write_text(text)
        (here / file.replace("/", "_")).chmod(0o755)
    github = {"GITHUB_REPOSITORY": "Shop/Pricing", "GITHUB_SHA": COMMIT, "GITHUB_OUTPUT": str(here / "calls")}
    usual = {
        "COMMIT": COMMIT,
        "TO": THEIRS,
        "IMAGE": "serving",
        "DIGEST": DIGEST,
        "SIGNED": DIGEST,
        "SAID": "not found",
        "STACK": "",
    }
    files = {"HERE": str(here), "GITHUB_STEP_SUMMARY": "/dev/null", "PATH": f"{here}:{os.environ['PATH']}"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as GitHub starts it
    done = subprocess.run(
        command, cwd=ROOT, env={**github, **usual, **files, **given}, capture_output=True, check=False
    )
    return done.returncode, (here / "calls").read_text().splitlines() if (here / "calls").exists() else []


def test_a_deployment_copies_the_digests_that_this_repositorys_workflow_signed(tmp_path: Path) -> None:
    code, calls = run_script("Copy images", tmp_path, BUILT)

    assert (code, calls[-1]) == (0, f"words=serving={DIGEST} mlflow={DIGEST} jobs={DIGEST} ")
    for name in ("serving", "mlflow", "jobs"):
        (verified,) = (call for call in calls if call.startswith(f"cosign verify {OURS}/{name}@{DIGEST} "))
        assert verified.endswith("github.com/Shop/Pricing/.github/workflows/images.yml@refs/heads/main")
        copied = f"docker buildx imagetools create --tag {THEIRS}/{name}:{COMMIT} {OURS}/{name}@{DIGEST}"
        assert calls.index(verified) < calls.index(copied)


@pytest.mark.parametrize(
    ("status", "deployed"), [("ahead", True), ("identical", True), ("behind", False), ("diverged", False), ("", False)]
)
def test_an_older_commit_does_not_pass_a_newer_one(tmp_path: Path, status: str, deployed: bool) -> None:
    given = {"NAME": "pricing-staging/serving", "PARAMETER": "/pricing/staging/images/serving", "GH_TOKEN": "t"}

    code, calls = run_script("Refuse a commit", tmp_path, {}, STATUS=status, **given)

    assert ((code == 0), len(calls)) == (deployed, 3)


def test_images_are_copied_once_the_commit_has_been_compared_unless_a_person_goes_back_or_forces_it() -> None:
    names = [step.get("name", "").split(",")[0] for step in read(ACTIONS[0])["runs"]["steps"]]
    (compared,) = (step for _, step in steps() if step.get("name", "").startswith("Refuse a commit"))

    assert names.index(compared["name"]) == names.index("Copy images that this repository's own workflow signed") - 1
    assert compared["if"] == "inputs.stack == '' && inputs.force != 'true'"


def test_a_rollback_of_the_service_deploys_its_image_and_no_other(tmp_path: Path) -> None:
    code, calls = run_script("Copy images", tmp_path, BUILT, STACK="serving")

    assert (code, calls[-1]) == (0, f"words=serving={DIGEST} ")


def test_a_models_task_gets_the_environments_sales_its_approver_and_ends_as_it_ends(tmp_path: Path) -> None:
    promote = read(GITHUB / "workflows" / "promote.yml")["jobs"]["promote"]["steps"][1]["with"]
    words = promote["command"].replace("toJSON(inputs.sales || '{sales}')", "x")
    command = re.sub(r"\$\{\{ (\S*) \}\}", lambda found: '"{sales}"' if found[1] == "x" else '"7"', words)
    given = {"ENVIRONMENT": "staging", "GITHUB_ACTOR": "bob", "GITHUB_RUN_ID": "1", "GH_TOKEN": "t"}

    code, calls = run_script("Run it", tmp_path, {}, COMMAND=command, **given)

    overrides, _ = json.JSONDecoder().raw_decode("\n".join(calls).partition("--overrides ")[2])
    (job,) = overrides["containerOverrides"]
    assert (code, job["command"][:4], job["command"][-2:]) == (
        3,
        ["pricing", "promote", "--version", "7"],
        ["--sales", "s3://data/sales"],
    )
    assert job["environment"] == [{"name": "PRICING_ACTOR", "value": "bob@github, approved by ann"}]


def test_a_deployment_ends_before_it_copies_what_it_should_not(tmp_path: Path) -> None:
    main = {f"{OURS}/{name}:main": DIGEST for name in ("serving", "mlflow", "jobs")}
    unsigned, another = (BUILT, {"SIGNED": OTHER}), ({**BUILT, f"{THEIRS}/serving:{COMMIT}": OTHER}, {})
    for number, (tags, given) in enumerate([unsigned, another, (main, {"COMMIT": "main"}), ({}, {})]):
        (here := tmp_path / str(number)).mkdir()

        code, calls = run_script("Copy images", here, tags, **given)

        assert (code != 0, [call for call in calls if " create " in call or "words=" in call]) == (True, []), number
