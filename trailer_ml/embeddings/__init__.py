"""Encoder and shards to vectors."""
