"""The command `stream-app`. Data goes to standard output, everything else to standard error."""
