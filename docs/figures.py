"""Writes the shipped model's figures into README.md and its card, so that they are those of its metrics.json.

python docs/figures.py                        # write them (make figures)
python docs/figures.py --check                # or only say what is not as it should be: exit code 1
python docs/figures.py --measure              # take them anew on the test images in data/, then write them
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "pretrained" / "thin_smear"
START, END = "<!-- figures: docs/figures.py writes them -->", "<!-- end of figures -->"
NAMES = {
    "iml": "IML-Malaria (*P. vivax*)",
    "bbbc041": "BBBC041 (*P. vivax*, five stains)",
    "bccd": "BCCD (healthy)",
    "pbc": "Barcelona, PBC (healthy)",
    "deepbionet": "DeepBioNet (healthy, six stains)",
    "chula": "Bangkok, Chula (thalassaemia)",
}


def measure() -> None:
    """Put what the model finds in the test images of its data sets into its metrics.json."""
    from malaria_cells.base import files
    from malaria_cells.base.tensorflow_setup import start_tensorflow
    from malaria_cells.config import load_config
    from malaria_cells.data.dataset import load_data_set
    from malaria_cells.evaluation.by_data_set import detected_by_data_set
    from malaria_cells.inference.model_folder import load_detector

    test = load_data_set(load_config(MODEL / "config.yaml")).test
    if test is None:
        sys.exit("error: no data set of the model has a test part; the figures are as they were")
    start_tensorflow()
    metrics = json.loads((MODEL / "metrics.json").read_text(encoding="utf-8"))
    metrics["by_data_set"] = detected_by_data_set(load_detector(MODEL)[0], test)
    files.write_json(MODEL / "metrics.json", metrics)


def readme(by_data_set: dict) -> str:
    """The lines of README.md."""
    images = sum(own["images"] for own in by_data_set.values())
    return f"""On the {images} test images of six laboratories, none of which was trained on or chosen by:

{table(by_data_set)}

The images of a laboratory that is none of these six are harder: [docs/results.md](docs/results.md#several-laboratories) has what is
known of laboratories that a training left out, and `run.py` says of each image how like the training's it is."""


def card(by_data_set: dict) -> str:
    """The lines of the model's card."""
    return f"""The test images of each laboratory, at the thresholds that were chosen on the validation parts:

{table(by_data_set)}

Average precision of each label at an IoU of 0.5, and how many are annotated:

{labels_table(by_data_set)}"""


def table(by_data_set: dict) -> str:
    """A row for each laboratory; infection where there is any."""
    lines = [
        "| | images | cells | AP50 of cells | mAP50 | infected | F1 of infected | AP50 of infected | false alarms in 1,000 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in NAMES.items():
        own = by_data_set[name]
        infected, counts = own["infected"], own["counts"]
        cells = sum(row["n"] for row in own["per_class"].values())
        of_infected = (figure(infected["f1"]), figure(infected["AP50"])) if counts["infected"] else ("", "")
        alarms = f"{infected['false_alarms_per_1000_red_cells']:.1f}"
        lines.append(
            f"| {title} | {own['images']} | {cells:,} | {figure(own['cell']['AP50'])} | {figure(own['mAP50'])} | {counts['infected']} "
            f"| {of_infected[0]} | {of_infected[1]} | {alarms} |"
        )
    return "\n".join(lines)


def labels_table(by_data_set: dict) -> str:
    """A row for each label, a column for each laboratory."""
    labels = list(by_data_set["iml"]["per_class"])
    lines = ["| | " + " | ".join(NAMES) + " |", "|---" * (len(NAMES) + 1) + "|"]
    for label in labels:
        rows = [by_data_set[name]["per_class"][label] for name in NAMES]
        lines.append(f"| {label} | " + " | ".join(f"{figure(row['AP50'])} ({row['n']:,})" if row["n"] else "" for row in rows) + " |")
    return "\n".join(lines)


def figure(fraction: float | None) -> str:
    """Three digits behind the point; nothing where there is nothing to measure."""
    return "" if fraction is None else f"{fraction:.3f}"


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
    parser.add_argument("--measure", action="store_true", help="score the model again, on the folders that its config.yaml names")
    options = parser.parse_args()
    if options.measure:
        measure()
    by_data_set = json.loads((MODEL / "metrics.json").read_text(encoding="utf-8"))["by_data_set"]
    code = 0
    for page, lines in ((ROOT / "README.md", readme(by_data_set)), (MODEL / "README.md", card(by_data_set))):
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
