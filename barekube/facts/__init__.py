"""What is true on a host, many answers in one remote command."""
