"""The service as strangers meet it: what its description promises, other people's clients, and those who mean harm."""
