"""Pictures for people: plots and overlays."""
