#!/usr/bin/env bash
# Trains pretrained/vivax again, from the training part of IML-Malaria: bash pretrained/train_vivax.sh
# It wants the data in data/iml (`bash download.sh iml`) with the split.json that docs/results.md names.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"

"$python" train.py --config=configs/iml.yaml --set name=vivax --set output_models=models
cp models/vivax/*.keras models/vivax/*.yaml models/vivax/*.json models/vivax/*.csv models/vivax/*.png pretrained/vivax/
"$python" run.py --model pretrained/vivax --image data/iml/images --annotations data/iml/annotations.json \
    --split data/iml/split.json --output results/vivax
