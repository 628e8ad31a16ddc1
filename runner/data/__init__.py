"""Images: decoded once into a cache, split by rule, and fed to the device in batches."""
