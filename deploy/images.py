"""Build the images once, record their digests, and bring exactly those images from registry to registry.

`publish` builds and pushes what this repository has not built and signed of the commit yet; `copy` carries the recorded
images, byte for byte, to another registry; `words` prints what `make deploy IMAGES=…` takes. `sign` and `verify` call
cosign, keyless, on digests and never on tags.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DOCKERFILES = {"serving": "Dockerfile.serve", "mlflow": "Dockerfile.mlflow", "jobs": "Dockerfile.jobs"}
BASE = "python:3.11-slim"  # of every image
# What reads the service's figures (deploy/figures.py); AWS builds and signs it.
COLLECTOR = "public.ecr.aws/aws-observability/aws-otel-collector:v0.43.3"
BASE_LABEL = "org.opencontainers.image.base.name"
PLATFORM = "linux/amd64"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
ISSUER = "https://token.actions.githubusercontent.com"  # of the identities that sign
UNSIGNED = 10  # exit code of `cosign verify` where an image has no signature at all
Run = Callable[[Sequence[str]], str]


class ImageError(RuntimeError):
    """An image that cannot be built, found or trusted; says which, and why."""


class CommandError(ImageError):
    """A command that failed.

    Attributes:
        code: Its exit code.
        said: What it wrote to stderr.
    """

    def __init__(self, command: Sequence[str], *, code: int, said: str) -> None:
        last = said.strip().rpartition("\n")[2]
        super().__init__(f"{' '.join(command[:4])} … ended with {code}: {last or 'no message'}")
        self.code, self.said = code, said


class AbsentError(ImageError):
    """The registry has answered that it has no such image."""


@dataclass(frozen=True)
class Record:
    """What was built, in a file that travels with it.

    Attributes:
        registry: Where: each image lies at `registry/NAME`.
        commit: Commit of the sources, and tag of every image.
        base: Base image of all, by digest.
        digests: Name of the image → its digest.
    """

    registry: str
    commit: str
    base: str
    digests: dict[str, str]

    def reference(self, name: str) -> str:
        """The one image of that name, by digest."""
        return f"{self.registry}/{name}@{self.digests[name]}"

    def words(self) -> str:
        """The images as `make deploy IMAGES=…` takes them."""
        return " ".join(f"{name}={digest}" for name, digest in self.digests.items())

    def outputs(self) -> dict[str, str]:
        """The record as outputs of a workflow's step: `words`, and each image's name and digest."""
        names = {name: f"{self.registry}/{name}" for name in self.digests}
        digests = {f"{name}_digest": digest for name, digest in self.digests.items()}
        return {"words": self.words(), **names, **digests}

    def write(self, path: Path) -> None:
        """Writes the record as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Reads a record.

        Raises:
            ImageError: The file is none.
        """
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            record = cls(**content)
            digests = [*record.digests.values(), record.base.rpartition("@")[2]]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ImageError(f"{path}: cannot be read as a record of images: {error}") from error
        wrong = [digest for digest in digests if not DIGEST.fullmatch(digest)]
        if record.digests.keys() != DOCKERFILES.keys() or wrong:
            raise ImageError(f"{path}: expected a digest for each of {', '.join(DOCKERFILES)}, and one of the base")
        return record


def run(command: Sequence[str]) -> str:
    """Runs a command and passes on what it writes to stderr; returns what it wrote to stdout.

    Raises:
        CommandError: It failed.
    """
    print("+ " + " ".join(command), file=sys.stderr, flush=True)
    said: list[str] = []
    # stdout goes to a file: of two pipes, one could fill up while the other is read.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        with subprocess.Popen(
            command, stdout=out, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
        ) as process:
            for line in process.stderr or ():
                print(line, end="", file=sys.stderr, flush=True)
                said.append(line)
        if process.returncode:
            raise CommandError(command, code=process.returncode, said="".join(said))
        out.seek(0)
        return out.read()


def digest_of(reference: str, *, run: Run = run) -> str:
    """The digest that a registry has for a reference.

    Raises:
        AbsentError: It has none.
        ImageError: It cannot be asked, or the answer holds no digest.
    """
    try:
        said = run(["docker", "buildx", "imagetools", "inspect", reference, "--format", "{{json .Manifest}}"])
    except CommandError as error:
        # What buildx makes of a registry's 404, and of nothing else.
        if f"{reference}: not found" in error.said:
            raise AbsentError(f"{reference}: not found") from error
        raise
    try:
        digest = str(json.loads(said)["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{reference}: the registry names no digest: {said[:200]!r}") from error
    if not DIGEST.fullmatch(digest):
        raise ImageError(f"{reference}: {digest!r} is no digest")
    return digest


def base_of(reference: str, *, run: Run = run) -> str:
    """The base image, by digest, that an image of ours says in its label.

    Raises:
        ImageError: It says none.
    """
    said = run(["docker", "buildx", "imagetools", "inspect", reference, "--format", "{{json .Image}}"])
    try:
        return str(json.loads(said)["config"]["Labels"][BASE_LABEL])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{reference}: has no label {BASE_LABEL}") from error


def publish(registry: str, *, commit: str, repository: str, run: Run = run) -> Record:
    """Builds and pushes every image, tagged with the commit; takes those that are there and signed as they are.

    An image without any signature is built anew: its build broke off before it was signed, and no deployment takes
    it. Any other doubt is an error: deployments may have copied the image to repositories whose tags never move, and
    a second build of the commit, with another digest, could not follow it there.

    Args:
        registry: Such as ghcr.io/OWNER/REPOSITORY.
        commit: Full hash of the commit.
        repository: `OWNER/NAME` on GitHub, whose signature counts.
        run: Runs a command.

    Raises:
        ImageError: One cannot be built or pushed, the registry or the log of signatures cannot be asked, one that is
            there is signed by somebody else, or those that are there stand on different bases.
    """
    digests: dict[str, str] = {}
    bases: set[str] = set()
    for name in DOCKERFILES:
        digest = _finished(f"{registry}/{name}", commit=commit, repository=repository, run=run)
        if digest is not None:
            bases.add(base_of(f"{registry}/{name}@{digest}", run=run))
            digests[name] = digest
    if len(bases) > 1:
        raise ImageError(f"{registry}: the images of {commit} stand on different bases: {', '.join(sorted(bases))}")
    base = bases.pop() if bases else f"{BASE}@{digest_of(BASE, run=run)}"
    for name, dockerfile in DOCKERFILES.items():
        if name not in digests:
            tagged = f"{registry}/{name}:{commit}"
            build = [
                "docker",
                "buildx",
                "build",
                *build_words(dockerfile, base=base, commit=commit, repository=repository),
            ]
            run([*build, "--tag", tagged, "--push", "."])
            digests[name] = digest_of(tagged, run=run)
    return Record(registry, commit, base, {name: digests[name] for name in DOCKERFILES})


def _finished(image: str, *, commit: str, repository: str, run: Run) -> str | None:
    """The digest of an image that is built and signed; None where it is not there, or nobody has signed it."""
    try:
        digest = digest_of(f"{image}:{commit}", run=run)
    except AbsentError:
        return None
    try:
        verify_one(f"{image}@{digest}", repository=repository, run=run)
    except CommandError as error:
        if error.code == UNSIGNED:
            return None
        raise ImageError(
            f"{image}:{commit} is there, and its signature cannot be verified: {error}. Nothing was built. Run this "
            "again once the registry and the log of signatures answer; if somebody else signed it, find out who"
        ) from error
    return digest


def build_words(dockerfile: str, *, base: str, commit: str, repository: str) -> list[str]:
    """Options of a build: platform, base by digest, and what the labels say of its sources."""
    arguments = {"BASE": base, "REVISION": commit, "SOURCE": f"https://github.com/{repository}"}
    labels = {"org.opencontainers.image.revision": commit, BASE_LABEL: base}
    return [
        *("--file", dockerfile, "--platform", PLATFORM, "--provenance=false"),
        *(word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")),
        *(word for name, value in labels.items() for word in ("--label", f"{name}={value}")),
    ]


def copy(record: Record, registry: str, *, run: Run = run) -> Record:
    """Copies the recorded images, and the collector, to another registry; those that are there already stay.

    Raises:
        ImageError: One cannot be copied, or arrived with another digest.
    """
    for name, digest in record.digests.items():
        there = f"{registry}/{name}"
        try:
            digest_of(f"{there}@{digest}", run=run)
        except AbsentError:
            run(["docker", "buildx", "imagetools", "create", "--prefer-index=false", "--tag",
                 f"{there}:{record.commit}", record.reference(name)])  # fmt: skip
            arrived = digest_of(f"{there}:{record.commit}", run=run)
            if arrived != digest:
                raise ImageError(f"{there}:{record.commit} is {arrived}, not the {digest} that was built") from None
    collector = f"{registry}/collector:{COLLECTOR.rpartition(':')[2]}"
    try:
        digest_of(collector, run=run)
    except AbsentError:
        run(["docker", "buildx", "imagetools", "create", "--tag", collector, COLLECTOR])
    return Record(registry, record.commit, record.base, record.digests)


def found(registry: str, *, commit: str, run: Run = run) -> dict[str, str]:
    """The digests of the images of a commit that a registry has.

    Raises:
        AbsentError: One is not there.
        ImageError: The registry cannot be asked.
    """
    return {name: digest_of(f"{registry}/{name}:{commit}", run=run) for name in DOCKERFILES}


def sign(record: Record, *, sboms: Path, run: Run = run) -> None:
    """Signs every image with the identity of the workflow, and its bill of materials with it.

    Args:
        record: The images.
        sboms: Folder with NAME.cdx.json, CycloneDX, for each.
        run: Runs a command.

    Raises:
        ImageError: A bill of materials is missing, or cosign failed.
    """
    missing = [name for name in record.digests if not (sboms / f"{name}.cdx.json").is_file()]
    if missing:
        raise ImageError(f"{sboms}: no bill of materials of {', '.join(missing)}; expected NAME.cdx.json")
    for name in record.digests:
        reference, sbom = record.reference(name), str(sboms / f"{name}.cdx.json")
        run(["cosign", "sign", "--yes", reference])
        run(["cosign", "attest", "--yes", "--type", "cyclonedx", "--predicate", sbom, reference])


def verify(record: Record, *, repository: str, run: Run = run) -> None:
    """Refuses images that no workflow of the repository on main, or on a tag of a version, has signed.

    Args:
        record: The images.
        repository: `OWNER/NAME` on GitHub.
        run: Runs a command.

    Raises:
        ImageError: One is not signed so.
    """
    for name in record.digests:
        verify_one(record.reference(name), repository=repository, run=run)


def verify_one(reference: str, *, repository: str, run: Run = run) -> None:
    """Refuses one image that is not signed; see `verify`."""
    workflow = rf"github\.com/{re.escape(repository)}/\.github/workflows/images\.yml"
    identity = rf"^https://{workflow}@refs/(heads/main|tags/v.+)$"
    run(["cosign", "verify", "--certificate-oidc-issuer", ISSUER, "--certificate-identity-regexp", identity, reference])


def markdown(record: Record) -> str:
    """A table of the images."""
    rows = "".join(f"| {name} | `{record.reference(name)}` |\n" for name in record.digests)
    return f"### Images of {record.commit[:12]}\n\nBase: `{record.base}`\n\n| image | by digest |\n|---|---|\n{rows}"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.images", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name: str, about: str, *, registry: bool = False, commit: bool = False) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=about, description=about)
        if registry:
            one.add_argument("--registry", required=True, help="registry and path, such as ghcr.io/OWNER/NAME")
        if commit:
            one.add_argument("--commit", required=True, help="of the sources; tag of the images")
        one.add_argument("--record", type=Path, default=Path("images.json"), help="file (default images.json)")
        one.add_argument("--summary", type=Path, help="append a table to this file")
        return one

    verb("publish", "builds, pushes and records", registry=True, commit=True).add_argument(
        "--repository", required=True, help="OWNER/NAME on GitHub"
    )
    verb("copy", "carries the recorded images to another registry", registry=True)
    verb("words", "prints IMAGES=… of the record").add_argument(
        "--image", choices=sorted(DOCKERFILES), help="only the digest of this one"
    )
    verb("references", "prints NAME and registry/NAME@digest of each image, one a line")
    verb("outputs", "prints what steps of a workflow read: words, NAME and NAME_digest")
    verb("find", "prints IMAGES=… of a commit's images in a registry", registry=True, commit=True)
    verb("sign", "signs with cosign").add_argument("--sboms", type=Path, required=True, help="folder of NAME.cdx.json")
    verb("verify", "checks who signed").add_argument("--repository", required=True, help="OWNER/NAME on GitHub")
    return parser.parse_args(argv)


def _act(options: argparse.Namespace) -> Record | None:
    """Does what the command line says; returns the images that a summary tells of."""
    if options.verb == "publish":
        # ghcr.io takes lower case alone, and GitHub's names have both.
        record = publish(options.registry.lower(), commit=options.commit, repository=options.repository)
        record.write(options.record)
        return record
    if options.verb == "find":
        print(" ".join(f"{name}={one}" for name, one in found(options.registry, commit=options.commit).items()))
        return None
    record = Record.read(options.record)
    if options.verb == "words":
        print(record.digests[options.image] if options.image else record.words())
    elif options.verb == "references":
        print("\n".join(f"{name} {record.reference(name)}" for name in record.digests))
    elif options.verb == "outputs":
        print("\n".join(f"{name}={value}" for name, value in record.outputs().items()))
    elif options.verb == "copy":
        return copy(record, options.registry)
    elif options.verb == "sign":
        sign(record, sboms=options.sboms)
    else:
        verify(record, repository=options.repository)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns 0, or 1 where an image cannot be built, found or trusted."""
    options = _options(argv)
    try:
        record = _act(options)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if record is not None and options.summary is not None:
        with options.summary.open("a", encoding="utf-8") as file:
            file.write(markdown(record) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
