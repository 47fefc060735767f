"""Where repositories, issues and pull requests live: GitHub (`bot.forge.github`) or a checkout (`bot.forge.local`)."""
