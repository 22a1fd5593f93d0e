"""How many frames a file has, and where decoding may begin: told by its packets; many files at a time."""
