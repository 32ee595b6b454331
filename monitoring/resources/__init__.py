"""What a machine and its container are asked for, and how readings are folded into a session's figures."""
