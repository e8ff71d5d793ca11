"""Adds what its training images look like to a model folder of before trainings stored it.

``python benchmarks/add_familiarity.py MODEL [--set train_images=FOLDER ..]`` reads the data set that the model's own
``config.yaml`` names, runs the model on the validation part, and writes ``familiarity`` into ``model.yaml``. After a `refit` the networks
have learned the validation images, so that they are a little surer of them than of new ones.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from malaria_cells.base import files
from malaria_cells.base.progress import progress
from malaria_cells.config import load_config
from malaria_cells.data.dataset import load_data_set, with_labels
from malaria_cells.evaluation import error_rates
from malaria_cells.inference.model_description import ABOUT, plain
from malaria_cells.inference.model_folder import load_detector
from malaria_cells.inference.two_stage_detector import TwoStageDetector
from malaria_cells.training.fit_familiarity import fit_familiarity


def main() -> None:
    """Parse arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder, which is changed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of its config")
    options = parser.parse_args()
    data = load_data_set(with_labels(load_config(options.model / "config.yaml", options.set)))
    detector, description = load_detector(options.model)
    if isinstance(detector, TwoStageDetector):  # images are judged by what is seen before anything is corrected
        detector = replace(detector, unfamiliar=None)
    images = data.validation.images
    found = [detector.detect(p.path) for p in progress(images, len(images), "detecting", "image")]
    limits = description.familiarity.limits if description.familiarity else None
    known = fit_familiarity(data.train, data.validation, found, description.cell_size, limits)
    content = yaml.safe_load((options.model / ABOUT).read_text(encoding="utf-8"))
    own = error_rates(list(images), found, description.labels)
    content["familiarity"] = plain(asdict(known)) if known else None
    if content.get("errors"):  # its counts stay: they are from before a refit
        content["errors"] |= {"misses_vary": own.misses_vary, "alarms_vary": own.alarms_vary}
    files.write_text(options.model / ABOUT, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    print(f"{options.model / ABOUT}: familiarity of {len(data.train)} training and {len(images)} validation images")


if __name__ == "__main__":
    main()
