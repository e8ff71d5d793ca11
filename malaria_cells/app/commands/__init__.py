"""One file a thing that a person asks for; each reads like its recipe."""
