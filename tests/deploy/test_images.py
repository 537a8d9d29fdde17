"""Images are built once, recorded by digest, copied unchanged, trusted by signature."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import images
from deploy.environment import environment_named, with_images

ROOT = Path(__file__).parents[2]
COMMIT = "c" * 40
BASE_DIGEST = "sha256:" + "b" * 64
HERE, THERE = "ghcr.io/shop/pricing", "1.dkr.ecr.eu-central-1.amazonaws.com/pricing-staging"


@dataclass
class Registry:
    """What `docker buildx` and `cosign` do to registries, of which each holds digests by reference.

    Attributes:
        digests: Reference, by tag or digest → digest.
        labels: Digest → base that the image says.
        signed: References by digest that are signed.
        commands: All that ran.
        spoils: Whether a copy arrives as another image.
        fails: Command (its first words) → exit code and message with which it fails.
    """

    digests: dict[str, str] = field(default_factory=lambda: {images.BASE: BASE_DIGEST, images.COLLECTOR: BASE_DIGEST})
    labels: dict[str, str] = field(default_factory=dict)
    signed: set[str] = field(default_factory=set)
    commands: list[list[str]] = field(default_factory=list)
    spoils: bool = False
    fails: dict[str, tuple[int, str]] = field(default_factory=dict)

    def run(self, command: Sequence[str]) -> str:
        self.commands.append(list(command))
        words = list(command)
        for start, (code, said) in self.fails.items():
            if " ".join(words).startswith(start):
                raise images.CommandError(words, code=code, said=said)
        if words[:3] == ["docker", "buildx", "build"]:
            digest = f"sha256:{len(self.commands):064x}"
            self._put(words[words.index("--tag") + 1], digest)
            self.labels[digest] = words[words.index("--build-arg") + 1].removeprefix("BASE=")
            return ""
        if words[3:4] == ["inspect"]:
            reference = words[4]
            if reference not in self.digests:
                raise images.CommandError(words, code=1, said=f"ERROR: {reference}: not found\n")
            digest = self.digests[reference]
            if ".Image" in words[-1]:
                return json.dumps({"config": {"Labels": {images.BASE_LABEL: self.labels[digest]}}})
            return json.dumps({"digest": digest})
        if words[3:4] == ["create"]:
            self._put(words[words.index("--tag") + 1], self.digests[words[-1]] if not self.spoils else BASE_DIGEST)
            return ""
        if words[:2] == ["cosign", "sign"]:
            self.signed.add(words[-1])
        if words[:2] == ["cosign", "verify"] and words[-1] not in self.signed:
            raise images.CommandError(words, code=images.UNSIGNED, said="Error: no signatures found\n")
        return ""

    def _put(self, tagged: str, digest: str) -> None:
        name = tagged.rpartition(":")[0]
        self.digests |= {tagged: digest, f"{name}@{digest}": digest}

    def ran(self, *words: str) -> list[list[str]]:
        return [command for command in self.commands if command[: len(words)] == list(words)]


def published(registry: Registry) -> images.Record:
    return images.publish(HERE, commit=COMMIT, repository="shop/pricing", run=registry.run)


def sboms(folder: Path) -> Path:
    for name in images.DOCKERFILES:
        (folder / f"{name}.cdx.json").write_text("{}")
    return folder


def test_every_image_is_built_on_the_base_that_the_record_names() -> None:
    registry = Registry()

    record = published(registry)

    assert record.base == f"{images.BASE}@{BASE_DIGEST}"
    builds = registry.ran("docker", "buildx", "build")
    assert len(builds) == len(images.DOCKERFILES)
    assert all(f"BASE={record.base}" in build and "--push" in build for build in builds)
    assert {build[build.index("--file") + 1] for build in builds} == set(images.DOCKERFILES.values())


def test_what_was_built_and_signed_of_a_commit_is_not_built_again(tmp_path: Path) -> None:
    registry = Registry()
    first = published(registry)
    images.sign(first, sboms=sboms(tmp_path), run=registry.run)
    registry.digests[images.BASE] = "sha256:" + "a" * 64  # a newer base
    registry.commands.clear()

    assert published(registry) == first
    assert registry.ran("docker", "buildx", "build") == []


def test_an_image_that_nobody_signed_is_built_anew() -> None:
    registry = Registry()
    planted = "sha256:" + "e" * 64
    registry._put(f"{HERE}/serving:{COMMIT}", planted)
    registry.labels[planted] = "evil"

    record = published(registry)

    assert record.digests["serving"] != planted
    assert record.base == f"{images.BASE}@{BASE_DIGEST}"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("docker buildx imagetools inspect", 1, "ERROR: failed to do request: dial tcp: i/o timeout"),
        ("docker buildx imagetools inspect", 1, "docker-credential-ecr: executable file not found in $PATH"),
        ("cosign verify", 1, "Error: no matching signatures: searching log query: 503 Service Unavailable"),
        ("cosign verify", 12, "Error: no matching signatures: none of the expected identities matched"),
    ],
)
def test_a_commit_is_not_built_twice_because_nobody_could_be_asked(
    tmp_path: Path, command: str, code: int, said: str
) -> None:
    registry = Registry()
    images.sign(published(registry), sboms=sboms(tmp_path), run=registry.run)
    registry.commands.clear()
    registry.fails[command] = (code, said)

    with pytest.raises(images.ImageError, match=re.escape(said)):
        published(registry)

    assert registry.ran("docker", "buildx", "build") == []


def test_nothing_is_copied_to_a_registry_that_cannot_be_asked() -> None:
    registry = Registry()
    record = published(registry)
    registry.fails[f"docker buildx imagetools inspect {THERE}"] = (1, "ERROR: 500 Internal Server Error")

    with pytest.raises(images.ImageError, match="500 Internal Server Error"):
        images.copy(record, THERE, run=registry.run)

    assert registry.ran("docker", "buildx", "imagetools", "create") == []


def test_images_of_one_commit_stand_on_one_base(tmp_path: Path) -> None:
    registry = Registry()
    record = published(registry)
    images.sign(record, sboms=sboms(tmp_path), run=registry.run)
    registry.labels[record.digests["jobs"]] = "another"

    with pytest.raises(images.ImageError, match="stand on different bases"):
        published(registry)


def test_a_copy_is_the_image_that_was_built_and_is_made_once() -> None:
    registry = Registry()
    record = published(registry)

    copied = images.copy(record, THERE, run=registry.run)
    images.copy(record, THERE, run=registry.run)

    assert copied.digests == record.digests == images.found(THERE, commit=COMMIT, run=registry.run)
    assert len(registry.ran("docker", "buildx", "imagetools", "create")) == len(images.DOCKERFILES) + 1
    assert f"{THERE}/collector:{images.COLLECTOR.rpartition(':')[2]}" in registry.digests


def test_a_copy_that_arrives_changed_is_refused() -> None:
    registry = Registry()
    record = published(registry)
    registry.spoils = True

    with pytest.raises(images.ImageError, match=r"not the sha256:\w+ that was built"):
        images.copy(record, THERE, run=registry.run)


def test_signatures_are_made_and_asked_for_by_digest(tmp_path: Path) -> None:
    registry = Registry()
    record = published(registry)
    with pytest.raises(images.ImageError, match="no signatures found"):
        images.verify(record, repository="shop/pricing", run=registry.run)

    images.sign(record, sboms=sboms(tmp_path), run=registry.run)
    images.verify(record, repository="shop/pricing", run=registry.run)

    assert all("@sha256:" in command[-1] for command in registry.ran("cosign"))
    (identity,) = {
        command[command.index("--certificate-identity-regexp") + 1] for command in registry.ran("cosign", "verify")
    }
    assert identity == r"^https://github\.com/shop/pricing/\.github/workflows/images\.yml@refs/(heads/main|tags/v.+)$"


def test_nothing_is_signed_without_its_bill_of_materials(tmp_path: Path) -> None:
    registry = Registry()
    record = published(registry)
    (tmp_path / "serving.cdx.json").write_text("{}")

    with pytest.raises(images.ImageError, match=r"no bill of materials of mlflow, jobs"):
        images.sign(record, sboms=tmp_path, run=registry.run)

    assert registry.ran("cosign", "sign") == []


def test_a_record_survives_its_file_and_is_what_deploy_takes(tmp_path: Path) -> None:
    record = published(Registry())
    record.write(tmp_path / "images.json")

    back = images.Record.read(tmp_path / "images.json")

    assert back == record
    assert with_images(environment_named("staging"), back.words()).images.serving == record.digests["serving"]


@pytest.mark.parametrize(
    "change",
    [
        {"digests": {}},
        {"digests": {"serving": "latest", "mlflow": BASE_DIGEST, "jobs": BASE_DIGEST}},
        {"base": "python:3.11-slim"},
        {"surprise": 1},
    ],
)
def test_a_record_without_digests_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "images.json"
    published(Registry()).write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    with pytest.raises(images.ImageError, match=r"images\.json"):
        images.Record.read(path)


def test_a_command_that_fails_is_an_error_with_its_words() -> None:
    with pytest.raises(images.CommandError, match="sh -c echo out; echo why >&2; exit 3 … ended with 3: why") as failed:
        images.run(["sh", "-c", "echo out; echo why >&2; exit 3"])

    assert (failed.value.code, failed.value.said) == (3, "why\n")
    with pytest.raises(images.CommandError, match="false … ended with 1: no message"):
        images.run(["false"])


def test_what_a_command_says_comes_through_and_its_answer_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert images.run(["sh", "-c", "echo building >&2; echo answer"]) == "answer\n"
    assert "building\n" in capsys.readouterr().err


def test_the_command_line_prints_what_deploy_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = published(Registry())
    record.write(tmp_path / "images.json")

    assert images.main(["words", "--record", str(tmp_path / "images.json")]) == 0
    assert capsys.readouterr().out.strip() == record.words()
    assert images.main(["words", "--image", "jobs", "--record", str(tmp_path / "images.json")]) == 0
    assert capsys.readouterr().out.strip() == record.digests["jobs"]
    assert images.main(["references", "--record", str(tmp_path / "images.json")]) == 0
    assert f"jobs {HERE}/jobs@{record.digests['jobs']}\n" in capsys.readouterr().out
    assert images.main(["outputs", "--record", str(tmp_path / "images.json")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert {f"words={record.words()}", f"jobs={HERE}/jobs", f"jobs_digest={record.digests['jobs']}"} <= set(said)
    assert images.main(["words", "--record", str(tmp_path / "none.json")]) == 1
