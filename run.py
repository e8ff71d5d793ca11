#!/usr/bin/env python3
"""Detect cells in images: ``python run.py --model MODEL --image PATH``."""

import sys

from malaria_cells.app.cli import script

if __name__ == "__main__":
    sys.exit(script("run"))
