"""Mutated inputs and kills, by the ten thousand: `python -m tests.torture`, which `make torture` calls.

A slice of them runs with the tests (`tests/test_torture.py`). A case is known by its kind and its number: the same number is the same
input on every machine, so what is found in the long form can be looked at alone.
"""
