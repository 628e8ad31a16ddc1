"""Text for and from the command line: help, key pages, quoting, nearest names, the names of other tools."""
