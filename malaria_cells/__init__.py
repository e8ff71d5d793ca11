"""Finds, names and counts blood cells in photographs of stained smears."""
