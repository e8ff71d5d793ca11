#!/usr/bin/env python3
"""Train a model: ``python train.py --config=config.yaml``."""

import sys

from malaria_cells.app.cli import script

if __name__ == "__main__":
    sys.exit(script("train"))
