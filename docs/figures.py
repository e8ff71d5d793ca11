"""Writes the shipped model's figures into README.md and its card, so that they are those of its metrics.json.

python docs/figures.py                        # write them (make figures)
python docs/figures.py --check                # or only say what is not as it should be: exit code 1
python docs/figures.py --measure data/iml     # take them anew on the test photographs, then write them
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "pretrained" / "vivax"
START, END = "<!-- figures: docs/figures.py writes them -->", "<!-- end of figures -->"
DETECTION = "detection"  # key of metrics.json; the others are the training's own


def measure(data: Path) -> None:
    """Put what `run.py` scores on the test photographs of IML-Malaria, times left out, into the model's metrics.json."""
    from malaria_cells.cli import main

    with tempfile.TemporaryDirectory() as folder:
        parts = ("--image", data / "images", "--annotations", data / "annotations.json", "--split", data / "split.json", "--output", folder)
        if main(["run", "--model", str(MODEL), *map(str, parts)]):
            sys.exit("error: not every photograph was scored; the figures are as they were")
        scored = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
        with (Path(folder) / "per_class.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                scored["per_class"][row["label"]] |= {key: int(row[key]) for key in ("annotated", "predicted", "matched")}
    del scored["seconds_per_image"]
    metrics = json.loads((MODEL / "metrics.json").read_text(encoding="utf-8")) | {DETECTION: scored}
    (MODEL / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def percent(share: float) -> str:
    """A share of 1 in percent, with a digit behind the point."""
    return f"{100 * share:.1f} %"


def readme(metrics: dict) -> str:
    """The lines of README.md."""
    d = metrics[DETECTION]
    cell, infected = d["cell"], d["infected"]
    return f"""On the {d["images"]} held-out photographs of IML-Malaria ({of_what(d)}):

| | precision | recall | F1 | AP50 |
|---|---|---|---|---|
| cells, whatever their class | {four(cell)} |
| infected cells, whatever the stage | {four(infected)} |

Precision, recall and F1 are of the cells that are counted, at the operating thresholds: {percent(cell["recall"])} of the annotated cells
are found so, and {percent(cell["recall50"])} have a box of any score. mAP50 over the {len(d["per_class"])} classes is {d["mAP50"]:.3f}."""


def four(figures: dict) -> str:
    """Precision, recall, F1 and AP50 as cells of a table."""
    return " | ".join(f"{figures[key]:.3f}" for key in ("precision", "recall", "f1", "AP50"))


def of_what(d: dict) -> str:
    """How many cells were annotated."""
    infected = set(yaml.safe_load((MODEL / "model.yaml").read_text(encoding="utf-8"))["labels"]["infected"])
    numbers = {name: row["n"] for name, row in d["per_class"].items()}
    return f"{sum(numbers.values()):,} cells, {sum(n for name, n in numbers.items() if name in infected):,} of them infected"


def card(metrics: dict) -> str:
    """The lines of the model's card."""
    d, test = metrics[DETECTION], metrics["test"]["infected"]
    cell, infected, parasitemia = d["cell"], d["infected"], d["parasitemia"]
    rows = [
        f"| {name} | {r['annotated']:,} | {r['matched']:,} | {r['matched'] / r['annotated']:.3f} | "
        f"{r['matched'] / r['predicted']:.3f} | {r['AP50']:.3f} |"
        for name, r in d["per_class"].items()
    ]
    alarms = infected["false_alarms_per_1000_red_cells"]
    bias = f"{100 * abs(parasitemia['bias']):.2f} too {'high' if parasitemia['bias'] > 0 else 'low'}"
    return f"""The {d["images"]} test photographs ({of_what(d)}), at the thresholds that were chosen on the validation part:

| | annotated | matched | recall | precision | AP50 |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Cells, whatever their class: precision {cell["precision"]:.3f}, recall {cell["recall"]:.3f}, F1 {cell["f1"]:.3f}, AP50 {cell["AP50"]:.3f};
{cell["recall50"]:.3f} have a box of any score. mAP50 {d["mAP50"]:.3f}. Infected or not: precision {infected["precision"]:.3f}, recall
{infected["recall"]:.3f}, F1 {infected["f1"]:.3f}, AP50 {infected["AP50"]:.3f}, {alarms:.1f} false alarms per 1,000
red cells. Parasitemia: mean absolute error {100 * parasitemia["mean_absolute_error"]:.2f} percentage points, on average {bias}. Its
probabilities say that {test["expected"]:.1f} of the boxes it proposes on these photographs hold infected cells; {test["annotated"]} do."""


def with_figures(page: Path, lines: str) -> str:
    """A page's text with the figures between its two comments."""
    before, start, rest = page.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        sys.exit(f"error: {page}: expected the lines {START} and {END}, between which the figures stand")
    return f"{before}{START}\n{lines}\n{END}{after}"


def main() -> int:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is not as it would be written")
    parser.add_argument("--measure", type=Path, metavar="DATA", help="IML-Malaria, as bash download.sh iml writes it")
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
    metrics = json.loads((MODEL / "metrics.json").read_text(encoding="utf-8"))
    code = 0
    for page, lines in ((ROOT / "README.md", readme(metrics)), (MODEL / "README.md", card(metrics))):
        text = with_figures(page, lines)
        if text == page.read_text(encoding="utf-8"):
            continue
        if options.check:
            print(f"{page}: its figures are not those of {MODEL / 'metrics.json'}; write them by: make figures", file=sys.stderr)
            code = 1
        else:
            page.write_text(text, encoding="utf-8")
            print(f"{page}: figures written")
    return code


if __name__ == "__main__":
    sys.exit(main())
