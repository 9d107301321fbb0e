"""What a choice loses, estimated on the float network: one file for each estimate."""
