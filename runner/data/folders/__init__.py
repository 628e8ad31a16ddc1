"""Listing folders of images, and their meaning as splits and classes."""
