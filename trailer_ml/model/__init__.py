"""Shards to encoder: towers, losses, batches, phases, evaluation, registry."""
