"""What a trained run has learned, beside its scores: options of the config group `analysis`."""
