"""Makes .venv and brings it to exactly the requirement sets asked for, beside those asked for before.

Run by `make`, as `python3 tools/environment.py training demo`. Standard library only, and no grammar newer
than Python 3.6: an old Python is to be told what is wrong instead of failing on the syntax.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, TOO_NEW = (3, 11), (3, 14)
# The command `pricing` of a checkout, which it finds from how it was called: a linked .venv runs this one.
LAUNCHER = """\
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$root/.venv/bin/python" -P -m pricing.runtime.command "$@"
"""
ADVICE = """\
Install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13),
or name one that you have: make … PYTHON=/path/to/python3.13"""


def complaint(version, modules):
    """Says what is wrong with a Python and what to do about it; None when it will do.

    Args:
        version: Its (major, minor).
        modules: Which of `venv` and `ensurepip` it has.
    """
    if not OLDEST <= version < TOO_NEW:
        return f"Python 3.11, 3.12 or 3.13 is needed; {sys.executable} is {version[0]}.{version[1]}.\n{ADVICE}"
    if not {"venv", "ensurepip"} <= set(modules):
        return (
            f"{sys.executable} cannot make virtual environments: Debian and Ubuntu keep that in a package of its own.\n"
            "Install it: apt-get install python3-venv"
        )
    return None


def read_locks(names):
    """Returns {set: sha256 of its lock file}.

    Raises:
        FileNotFoundError: There is no such set.
    """
    return {name: hashlib.sha256(_lock(name).read_bytes()).hexdigest() for name in names}


def main(names):
    """Brings .venv up to date; returns the exit status."""
    modules = [module for module in ("venv", "ensurepip") if importlib.util.find_spec(module)]
    wrong = complaint(sys.version_info[:2], modules)
    if wrong:
        print(wrong, file=sys.stderr)
        return 2
    venv = ROOT / ".venv"
    python = venv / "bin" / "python"
    record = venv / "locked.json"
    if venv.is_symlink():
        return _use_linked(venv, names)
    if venv.exists() and _version(python) != sys.version_info[:2]:
        print(f"Removing {venv}: it is broken, or of another Python than {sys.executable}.", flush=True)
        shutil.rmtree(venv)
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    kept = {name for name in before if _lock(name).exists()}
    wanted = read_locks(["bootstrap", *sorted({*kept, *names} - {"bootstrap"})])
    if before == wanted:
        _write_launcher(venv)
        return 0
    print(
        f"Installing {', '.join(sorted(wanted))} into {venv} (about 3 GB; minutes at first, then seconds).", flush=True
    )
    record.unlink(missing_ok=True)  # an interrupted installation must not look like a finished one
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    files = [_lock(name) for name in wanted]
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--require-hashes", "-r", files[0]], check=True)
    uv = [venv / "bin" / "uv", "pip", "sync", "--python", python, "--require-hashes"]
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    subprocess.run([*uv, *quiet, *files], check=True, env=_settings())
    record.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    _write_launcher(venv)
    return 0


def _use_linked(venv, names):
    """Takes a .venv that is a link as it is, or says why not: what it leads to belongs to another checkout."""
    version, record = _version(venv / "bin" / "python"), venv / "locked.json"
    installed = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    there = {pin for name in installed if _is_locked(name, installed[name]) for pin in _pins(name)}
    lacking = [name for name in names if not _pins(name) <= there]
    if version is None:
        wrong = "has no Python that runs"
    elif not OLDEST <= version < TOO_NEW:
        wrong = f"is of Python {version[0]}.{version[1]}"
    elif lacking:
        wrong = f"has not exactly the packages of this checkout's requirements/{lacking[0]}.txt"
    else:
        return 0
    print(
        f"{venv} is a link to {os.path.realpath(venv)}, which {wrong}. Nothing is installed through a link:\n"
        f"bring that one up to date where it belongs (make install there), or remove the link (rm {venv}) and make "
        "builds one here.",
        file=sys.stderr,
    )
    return 2


def _is_locked(name, lock):
    """Whether a set was installed from the lock file of that name that lies here."""
    return _lock(name).exists() and read_locks([name])[name] == lock


def _pins(name):
    """The `package==version` of a set: one set may hold another, as that for development holds that for training."""
    lines = _lock(name).read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}


def _write_launcher(venv):
    """Puts the command `pricing` beside the packages, where it is not yet."""
    path = venv / "bin" / "pricing"
    if not path.is_file() or path.read_text(encoding="utf-8") != LAUNCHER:
        path.write_text(LAUNCHER, encoding="utf-8")
        path.chmod(0o755)


def _lock(name):
    return ROOT / "requirements" / f"{name}.txt"


def _version(python):
    """(major, minor) of the interpreter at `python`; None when it does not run."""
    try:
        out = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"], stdout=subprocess.PIPE, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(int(part) for part in out.stdout.split())


def _settings():
    """The environment for uv, which does not read pip's settings: an index set for pip is meant for it too."""
    index = os.environ.get("PIP_INDEX_URL")
    return {"UV_DEFAULT_INDEX": index, **os.environ} if index else dict(os.environ)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except FileNotFoundError as error:
        sys.exit(f"There is no such requirement set: {error.filename}")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"The installation failed (above). Nothing else was changed; the same command tries again: {error.cmd[0]}"
        )
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on where it stopped.")
