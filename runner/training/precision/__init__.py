"""16-bit types: forward context, loss scale, float16 on a CPU."""
