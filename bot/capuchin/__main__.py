"""`python -m bot.capuchin`. The work is in `cli`: a process that is started anew can't import from here."""

from bot.capuchin.cli import main

main(prog_name="python -m bot.capuchin")
