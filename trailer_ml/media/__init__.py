"""The bytes of a trailer: download, probe, and running ffmpeg."""
