"""The command line: `troop`."""
