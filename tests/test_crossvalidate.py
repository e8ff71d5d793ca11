"""Every fold is trained without its pictures and scored on them, once; the test part is left alone."""

import json

import pytest

from malaria_cells.cli import main
from malaria_cells.commands.crossvalidate import TABLE, _mean_and_error, _summary, _table
from malaria_cells.sample import write_sample

SHORT = {"epochs": 1, "steps_per_epoch": 4, "batch_size": 16, "image_size": "[24, 24]", "proposals": "watershed", "tta": 1}


def crossvalidate(config, output, **settings):
    sets = [part for key, value in (SHORT | settings).items() for part in ("--set", f"{key}={value}")]
    return main(["crossvalidate", f"--config={config}", *sets, "--folds", "2", "--output", str(output)])


@pytest.mark.slow
def test_folds_of_the_sample(repository, tmp_path, capsys):
    sample = tmp_path / "sample"
    write_sample(sample, training=16, test=4, seed=7, size_wh=(480, 360))
    settings = {"train_images": sample, "patch_cache": tmp_path / "cache"}
    assert crossvalidate(repository / "config.yaml", tmp_path / "cv", **settings) == 0
    said = capsys.readouterr().out
    assert "| fold | mAP50 | cell AP50 |" in said
    assert "| mean ± standard error |" in said
    splits = [json.loads((tmp_path / "cv" / f"fold{i}" / "split.json").read_text()) for i in (1, 2)]
    held_out = [set(split["test"]) for split in splits]
    assert not held_out[0] & held_out[1]
    assert len(held_out[0] | held_out[1]) == 16  # the training pictures, not the four of test.json
    for split in splits:
        assert not set(split["test"]) & {*split["train"], *split["validation"]}
    table = json.loads((tmp_path / "cv" / TABLE).read_text())
    assert table["finished"] == table["folds"] == 2
    assert sum(fold["images"] for fold in table["by_fold"]) == 16
    # Once more: what is trained stays; of another recipe it is refused.
    before = (tmp_path / "cv" / "fold1" / "model.yaml").stat().st_mtime_ns
    assert crossvalidate(repository / "config.yaml", tmp_path / "cv", **settings) == 0
    assert "fold1: trained before" in capsys.readouterr().out
    assert (tmp_path / "cv" / "fold1" / "model.yaml").stat().st_mtime_ns == before
    assert crossvalidate(repository / "config.yaml", tmp_path / "cv", **settings, learning_rate=0.01) == 2
    assert "fold1: holds a model of another recipe" in capsys.readouterr().err


def test_mean_and_standard_error_by_hand():
    assert _mean_and_error([0.8, None, 0.9, 1.0]) == pytest.approx((0.9, 0.1 / 3**0.5))
    assert _mean_and_error([0.8]) == (0.8, None)
    assert _mean_and_error([None]) is None


def test_table_and_summary():
    fold = {"mAP50": 0.5, "cell": {"AP50": 0.9, "recall50": 1.0}}  # no infected class
    assert _table([fold, fold | {"mAP50": 0.7}]).splitlines()[-1].startswith("| mean ± standard error | 0.600 ± 0.100 | 0.900 ± 0.000 |")
    summary = _summary([fold], 5, ["tta=8"])
    assert summary["mean"]["mAP50"] == 0.5
    assert summary["mean"]["infected F1"] is None
    assert (summary["finished"], summary["folds"], summary["set"]) == (1, 5, ["tta=8"])
    whole = {"accuracy": 0.9, "macro_f1": 0.8, "balanced_accuracy": 0.7}
    assert _table([whole]).splitlines()[0] == "| fold | accuracy | macro F1 | balanced accuracy |"
