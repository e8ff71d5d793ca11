"""Adds to a model folder how such a model does in laboratories that trainings left out.

``python benchmarks/add_elsewhere.py MODEL FILE``: FILE is the ``crossvalidation.json`` of ``crossvalidate --by data_set``, which takes as
long as so many trainings and is therefore mostly run after the model. A training with `elsewhere: FILE` writes the same.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from malaria_cells.base import files
from malaria_cells.inference.model_description import ABOUT, plain
from malaria_cells.inference.model_yaml import load_description
from malaria_cells.training.errors_elsewhere import read_elsewhere


def main() -> None:
    """Parse arguments, read, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder, which is changed")
    parser.add_argument("file", metavar="FILE", help="crossvalidation.json")
    options = parser.parse_args()
    measured = read_elsewhere(options.file)
    described = plain(asdict(replace(load_description(options.model)[0], **measured)))
    content = yaml.safe_load((options.model / ABOUT).read_text(encoding="utf-8")) | {key: described[key] for key in measured}
    files.write_text(options.model / ABOUT, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    print(f"{options.model / ABOUT}: errors and evidence in {', '.join(measured['errors_elsewhere'])}")


if __name__ == "__main__":
    main()
