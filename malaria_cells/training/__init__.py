"""Training: one file a trainee, and what they share."""
