"""Vectors to Annoy: build, verify, publish."""
