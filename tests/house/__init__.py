"""How large the house is, and who imports whom: counted from the source."""
