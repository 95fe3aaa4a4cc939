"""Arrays to TFRecord: schema, writing, manifests, reading."""
