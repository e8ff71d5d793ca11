"""Measures how fast this package is, beside its peers in the same run, and prints one table.

python -m benchmarks.bench                          # everything but how time grows (make bench)
python -m benchmarks.bench --only detection start   # some groups
python -m benchmarks.bench --quick                  # whether all of it works; the figures are no result
python -m benchmarks.bench --page                   # docs/performance.md from benchmarks/results.json, without measuring

Nothing else should run on the machine meanwhile.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.bench import table
from benchmarks.bench.groups import DEFAULT, MODULES, TITLES, in_a_process
from benchmarks.bench.machine import described
from benchmarks.bench.page import PAGE, write_page
from benchmarks.bench.rows import Row
from benchmarks.bench.settings import CORES, ROOT, Settings, limited_to

RESULTS = ROOT / "benchmarks" / "results.json"
CACHE = ROOT / ".cache" / "bench"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write.

    Returns:
        Exit code 0, also where a target is not met: the table says so.
    """
    options = parsed(arguments)
    if options.page:
        write_page(PAGE, table.read(options.output or RESULTS))
        return 0
    CACHE.mkdir(parents=True, exist_ok=True)
    cores, every = limited_to(options.cores)
    settings = Settings(options.quick, cores, every, CACHE, options.model.resolve(), options.train)
    output = options.output or (CACHE / "quick.json" if options.quick else RESULTS)
    rows: list[Row] = []
    for name in options.only:
        about = described(settings)
        started = time.monotonic()
        print(f"{TITLES[name]} ..", end="", file=sys.stderr, flush=True)
        of_group = in_a_process(name, settings)
        seconds = round(time.monotonic() - started)
        print(f" {seconds} s", file=sys.stderr, flush=True)
        table.write(output, {name: about | {"seconds": seconds, "rows": [row.to_json() for row in of_group]}})
        rows += of_group
    print(table.as_text(rows))
    print(f"\nwritten: {output}", file=sys.stderr)
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = f"groups to measure, of {', '.join(MODULES)} (default: all but growth)"
    parser.add_argument("--only", nargs="+", choices=MODULES, default=list(DEFAULT), metavar="GROUP", help=groups)
    parser.add_argument("--quick", action="store_true", help="small numbers; written to .cache/bench/quick.json")
    parser.add_argument("--train", action="store_true", help="train the shipped model anew, which takes the better part of an hour")
    parser.add_argument("--model", type=Path, default=ROOT / "pretrained" / "thin_smear", help="model folder (default: the shipped model)")
    parser.add_argument("--cores", type=int, default=CORES, help="cores that everything runs on (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="file of results (default: benchmarks/results.json)")
    parser.add_argument("--page", action="store_true", help="write the results into docs/performance.md, and measure nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
