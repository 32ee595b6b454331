"""What can tell whose an image is, and how it is kept in: pseudonyms, header facts, secrets, the log filter."""
