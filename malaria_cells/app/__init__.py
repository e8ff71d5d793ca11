"""The three user interfaces of the toolkit: command line, web page, and `CellDetector` for programs.

Input: arguments, clicks and function calls. Output: calls of the packages below, messages, exit codes.
"""
