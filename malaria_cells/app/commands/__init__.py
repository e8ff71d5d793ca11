"""The commands, one file each. A command reads as the list of its steps."""
