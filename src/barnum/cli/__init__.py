"""The command line: one file a command, which reads options, calls a room and prints."""
