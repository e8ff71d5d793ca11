"""Class names of the data sets that the defaults are made for."""

SIX_CLASSES = ["red blood cell", "leukocyte", "gametocyte", "ring", "trophozoite", "schizont"]
PARASITES = ["gametocyte", "ring", "trophozoite", "schizont"]
