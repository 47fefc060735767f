"""GitHub's Markdown, and random texts in it."""

from hypothesis import strategies as st
from markdown_it import MarkdownIt

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

# What Markdown and GitHub act on, so that random text meets it often.
PIECES = (
    *"`~<>![]()#@*_-|&\\:/ \n\"'=x1é\u200b\u202e\U000e0041",
    *("```", "~~~", "<!--", "-->", "<details>", "</details>", "<img src=x alt='y'>", "<b title='x'>"),
    *("fixes #1", "GH-1", "@octocat", "![a](http://b)", "[a]: http://b 'c'", "https://x.example", "&#64;"),
    *("[^1]", "[^1]: a", "[](b)", "&#8203;", "$", "%", "\\phantom{", "}", "```math\n", "```mermaid\n%%", "</b x>"),
    *("\n\n", "    ", "| a |\n|---|\n", "- ", "> ", "/troop stop"),
)
MARKDOWN = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
