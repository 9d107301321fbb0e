"""Choices relaxed to continuous parameters that are trained with the network, and paid for by expected exact costs."""
