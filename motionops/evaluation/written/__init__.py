"""What an evaluation leaves in files: scores, tables, pictures of a result."""
