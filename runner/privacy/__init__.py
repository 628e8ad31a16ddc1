"""Differential privacy: the secret key, sampling, noise, clipped gradients, and what all of it costs in epsilon."""
