"""What Troop writes on GitHub: the status comment, the pull request, and the answers to later commands."""
