"""Back to people: the status comment, the pull request, and the answers to later commands."""
