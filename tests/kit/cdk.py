"""Whether aws-cdk-lib runs here: the library is Python around JavaScript, and starts Node when it is imported."""

import importlib.util
import shutil
import subprocess

LEAST_NODE = 20


def lacks_for_cdk() -> str | None:
    """What is missing, as the reason of a skip; None where nothing is."""
    if importlib.util.find_spec("aws_cdk") is None:
        return "aws-cdk-lib is not installed: make installs it with the set for development"
    node = shutil.which("node")
    if node is None:
        return f"Node is not installed, on which aws-cdk-lib runs: {LEAST_NODE} or newer"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = said.strip().removeprefix("v").partition(".")[0]
    if not major.isdigit() or int(major) < LEAST_NODE:
        return f"Node {LEAST_NODE} or newer is needed by aws-cdk-lib; found {said.strip() or 'none that runs'}"
    return None
