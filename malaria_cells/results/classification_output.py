"""Writes the files of a run that classifies whole images; their names, columns and keys must not change."""

from pathlib import Path

import numpy as np

from malaria_cells.base import files
from malaria_cells.base.text import number_of
from malaria_cells.data.annotations import AnnotationSet
from malaria_cells.evaluation import classification_metrics
from malaria_cells.inference.classifier import PatchClassifier
from malaria_cells.results.output_folder import clear
from malaria_cells.results.run_results import RunResults
from malaria_cells.results.scored_by import scored_without
from malaria_cells.results.tables import say_ending, write_failed


def write_classification(folder: Path, classifier: PatchClassifier, finished: RunResults, truth: AnnotationSet | None) -> None:
    """Write ``predictions.csv`` and, with annotations, ``metrics.json``."""
    clear(folder)
    names = classifier.class_names
    rows = []
    for key, p in sorted(finished.results.items()):
        best = int(p.argmax())
        rows.append((key, names[best], f"{p[best]:.4f}", *(f"{v:.4f}" for v in p)))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_csv(folder / "predictions.csv", ("image", "label", "score", *(f"p_{name}" for name in names)), rows)
    write_failed(folder, finished.reasons)
    if truth is not None:
        scored = [p for p in truth.images if p.key in finished.results]
        class_ids = np.array([p.cell_class_ids[0] for p in scored], dtype=np.int64)
        probabilities = np.array([finished.results[p.key] for p in scored]).reshape(-1, len(names))
        files.write_json(
            folder / "metrics.json", classification_metrics(class_ids, probabilities, names) | scored_without(truth, classifier.labels)
        )
    print(f"{number_of(len(rows), 'image')} classified: {folder / 'predictions.csv'}")
    say_ending(folder, finished, names)
