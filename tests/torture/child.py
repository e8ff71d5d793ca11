"""The process that reads mutants, one after the other, within limits: `python -m tests.torture.child FOLDER FIRST LAST KIND...`.

It writes a line of JSON for each mutant when it begins, and one when it has ended. What takes more than `SECONDS` of processor time ends
the process; the memory is the peak of what is resident, above that of before.
"""

import contextlib
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 5  # of processor time for a mutant
MEGABYTES = 1000  # of memory for a mutant
BACKSTOP = 6000  # MB of address space beyond what the process has when it is warm: the machine is kept from harm


def peak() -> float:
    """The peak of resident memory in MB since `forget_peak`, or, where the system cannot forget, since the start."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1000
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def forget_peak() -> None:
    with contextlib.suppress(OSError):  # another system: the peak is that since the start, which finds the first that is too large
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def limit_address_space() -> None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = pages * resource.getpagesize() + BACKSTOP * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def outcome(kind: Any, folder: Path, rng: random.Random) -> dict[str, str]:
    """Read a mutant; what came of it."""
    from malaria_cells.base.errors import InputError
    from tests.torture.kinds import check_refusal

    try:
        try:
            kind.try_one(folder, rng)
        except InputError as error:
            check_refusal(error, folder)
            return {"outcome": "refused"}
    except BaseException:  # noqa: BLE001  whatever it is, that is what is looked for
        return {"outcome": "fault", "detail": traceback.format_exc()[-3000:]}
    return {"outcome": "read"}


def main(name: str, first: int, last: int, folder: Path, say: Callable[[dict[str, Any]], None]) -> None:
    """Read the mutants of a kind from one number to before another."""
    from tests.torture.kinds import kinds

    kind = kinds()[name]
    kind.prepare(folder)
    for seed in range(-3, 0):  # imports and caches are not counted as a mutant's
        outcome(kind, folder, random.Random(f"{name} {seed}"))
    limit_address_space()
    for number in range(first, last):
        say({"kind": name, "number": number})
        forget_peak()
        before, started = peak(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        result = outcome(kind, folder, random.Random(f"{name} {number}"))
        signal.setitimer(signal.ITIMER_PROF, 0)
        seconds, megabytes = time.process_time() - started, peak() - before
        if megabytes > MEGABYTES:
            result = {"outcome": "fault", "detail": f"took {megabytes:,.0f} MB of memory"}
        say({"kind": name, "number": number, **result, "seconds": round(seconds, 4), "megabytes": round(megabytes, 1)})


if __name__ == "__main__":
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print as they like
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for kind_name in sys.argv[4:]:
        with tempfile.TemporaryDirectory(dir=sys.argv[1]) as scratch:
            main(kind_name, int(sys.argv[2]), int(sys.argv[3]), Path(scratch), lambda line: print(json.dumps(line), file=lines))
