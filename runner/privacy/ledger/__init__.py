"""The record of every private run on a data set."""
