"""The long form: `python -m tests.torture [--mutants 10000] [--kind NAME] [--first N]`."""

import argparse
import sys
import time

from tests.torture import kills, mutants
from tests.torture.kinds import kinds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000, metavar="N", help="mutants of each reader (10000)")
    parser.add_argument("--kind", action="append", metavar="NAME", help="all mutants of one kind alone; may be repeated")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first mutant")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="kills of each kind of work (20)")
    parser.add_argument("--work", action="append", metavar="NAME", help="kills of one kind of work alone, and no mutants; may be repeated")
    options = parser.parse_args()
    known = kinds()
    n_faults = 0
    for kind in () if options.work else options.kind or known:
        n_mutants = options.mutants if options.kind else round(options.mutants * known[kind].share)
        n_faults += _of_kind(kind, options.first, n_mutants)
    if options.kills and not options.kind:
        n_faults += kills.main(options.kills, options.work)
    return int(n_faults > 0)


def _of_kind(kind: str, first: int, n_mutants: int) -> int:
    """Run a kind and print what came of it; returns the number of faults."""
    started = time.monotonic()
    report = mutants.run([kind], first, first + n_mutants)[kind]
    counts, seconds = report.counts, time.monotonic() - started
    print(
        f"{kind}: {sum(counts.values()):,} mutants, {counts['read']:,} read, {counts['refused']:,} refused, {counts['fault']:,} faults; "
        f"slowest {report.seconds:.2f} s, largest {report.megabytes:.0f} MB; {seconds:.0f} s",
        flush=True,
    )
    for number, detail in report.faults[:20]:
        print(f"  --kind '{kind}' --first {number} --mutants 1\n    " + detail.strip().replace("\n", "\n    "), flush=True)
    return len(report.faults)


if __name__ == "__main__":
    sys.exit(main())
