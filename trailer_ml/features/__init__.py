"""Bytes to arrays: when to look, ten frames, one spectrogram."""
