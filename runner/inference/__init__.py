"""A finished run put to use: measured again, applied to images, quantised, exported."""
