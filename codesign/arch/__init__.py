"""The hardware description: YAML to a typed, validated, immutable `Hardware`, and the devices it is built on."""
