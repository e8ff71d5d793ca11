"""The three faces of the toolkit: command line, web page, and `CellDetector` for programs.

In: what a person types, clicks or calls. Out: calls of the packages below, messages, exit codes.
"""
