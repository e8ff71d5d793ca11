#!/usr/bin/env python3
"""Detect cells in pictures: ``python run.py --model MODEL --image PATH``."""

import sys

from malaria_cells.app.cli import script

if __name__ == "__main__":
    sys.exit(script("run"))
