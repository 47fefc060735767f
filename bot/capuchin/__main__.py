"""`python -m bot.capuchin`. The code is in `cli`, since a spawned process can't import this module."""

from bot.capuchin.cli import main

main(prog_name="python -m bot.capuchin")
