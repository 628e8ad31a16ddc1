"""The private step: secret key, sampling, draws, clipping, noise."""
