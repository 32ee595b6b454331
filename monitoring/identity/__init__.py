"""What can tell whose an image is: reading headers, words for devices, and which secrets there are."""
