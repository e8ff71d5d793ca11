#!/usr/bin/env bash
# Trains the shipped model again, from the training parts of six laboratories' data sets: bash pretrained/train_thin_smear.sh
# It wants them in data/iml, data/bbbc041, data/bccd, data/nih (`bash download.sh iml bbbc041 bccd nih`), data/pbc, data/deepbionet and
# data/chula, each with the split.json that docs/results.md names; the card says where the last three come from.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"

"$python" train.py --config=configs/thin_smear.yaml --set output_models=models
for file in models/thin_smear/*.keras models/thin_smear/*.yaml models/thin_smear/*.json models/thin_smear/*.csv models/thin_smear/*.png; do
    cp "$file" pretrained/thin_smear/
done
"$python" -m malaria_cells export --model pretrained/thin_smear --format onnx --beside
"$python" docs/figures.py
