"""Forecasts of a planned run: time, memory, privacy and money, measured by a probe or estimated."""
