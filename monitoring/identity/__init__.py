"""What can tell whose an image is: reading headers, finding values in disguise, and which secrets there are."""
