"""A batch script for Slurm, in which each task of an array computes a shard of a run: `--print-slurm N`."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=1-{total}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}

# `bash THIS_FILE` submits the array, and a job that merges when all of it has ended; `sbatch THIS_FILE` the array
# alone. The run folder lies where all nodes see it. Add --partition, --account, --time and --mem as your site wants.
set -euo pipefail

if [ -z "${{SLURM_ARRAY_TASK_ID:-}}" ]; then
    array=$(sbatch --parsable "$0")
    exec sbatch --job-name={name}-merge --dependency="afterany:${{array%%;*}}" --wrap={merge}
fi

exec {run} --shard "${{SLURM_ARRAY_TASK_ID}}/{total}"
"""


def script(arguments: Sequence[str], *, study: str, folder: Path, total: int, cpus: int) -> str:
    """Return the script.

    Parameters
    ----------
    arguments : sequence of str
        What `tokenlink` is called with, but for `--shard`.
    study : str
        Name of the job.
    folder : Path
        The run folder, for the job that merges.
    total : int
        Number of shards.
    cpus : int
        CPUs of each: processes times threads.
    """
    return SCRIPT.format(
        name=f"tokenlink-{re.sub(r'[^A-Za-z0-9_-]', '-', study)}",
        total=total,
        cpus=cpus,
        run=shlex.join(["tokenlink", *arguments]),
        merge=shlex.quote(shlex.join(["tokenlink", "plot", str(folder)])),
    )
