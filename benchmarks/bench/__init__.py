"""How fast this package is, beside its peers in the same run: ``make bench``.

In: photographs, the shipped model, and whatever peers are installed. Out: one table, and ``benchmarks/results.json``.
"""
