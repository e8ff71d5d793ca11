"""What each command is asked with: arguments, their types, and how they become a request.

In: words of a command line. Out: a call of a command.
"""
