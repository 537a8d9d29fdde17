"""A reader that leaves, as `| head` does, ends no job."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
JOB = """
import sys
from pathlib import Path
from pricing.runtime.cli import run_main

def job(argv):
    for number in range(20000):
        print("line", number)
    Path(argv[0]).write_text("done")
    return 3

sys.exit(run_main(job, [{mark!r}]))
"""


def test_a_job_whose_reader_leaves_does_its_work_and_keeps_its_exit_code(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = [sys.executable, "-c", JOB.format(mark=str(mark))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stderr is not None
        assert job.stdout.readline() == "line 0\n"
        job.stdout.close()
        complaint = job.stderr.read()

    assert job.wait(timeout=60) == 3
    assert mark.read_text() == "done"
    assert complaint == ""
