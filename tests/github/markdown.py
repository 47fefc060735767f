"""Markdown as GitHub shows it: tables, folds, mentions and references; all other HTML escaped, nothing loaded."""

import html
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_ALLOWED = re.compile(r"</?(details|summary|sub|sup|kbd|b|i|em|strong|code|br|p)\s*/?>|<details open>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# What GitHub would notify or link: https://docs.github.com/get-started/writing-on-github
_MENTION = re.compile(r"(?<![\w`/@])@([a-z0-9](?:-?[a-z0-9]){0,38}(?:/[a-z0-9][\w.-]*)?)", re.IGNORECASE)
_REFERENCE = re.compile(r"(?<![\w&/])([\w.-]+/[\w.-]+)?#(\d+)\b")


_URL = re.compile(r"\bhttps?://[^\s<>\"'`|]*[^\s<>\"'`|.,:;!?)]")
_ALERT = re.compile(r"<blockquote>\s*<p>\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]")


class _Renderer(RendererHTML):
    """Escapes what is not allowed, and marks what GitHub would act on: `class="mention"`, `class="reference"`."""

    def html_block(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _filter(tokens[idx].content)

    def html_inline(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _filter(tokens[idx].content)

    def text(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        text, kept, position = tokens[idx].content, "", 0
        for found in _URL.finditer(text):
            url = html.escape(found.group())
            kept += self._plain(text[position : found.start()]) + f'<a class="link" href="{url}">{url}</a>'
            position = found.end()
        return kept + self._plain(text[position:])

    def _plain(self, text: str) -> str:
        safe = html.escape(text, quote=False)
        safe = _MENTION.sub(r'<a class="mention">@\1</a>', safe)
        return _REFERENCE.sub(r'<a class="reference">\g<0></a>', safe)

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return f'<span class="image">[image {html.escape(str(tokens[idx].attrGet("src")))}]</span>'


def _filter(raw: str) -> str:
    kept, position = [], 0
    raw = _COMMENT.sub("", raw)
    for match in _ALLOWED.finditer(raw):
        kept += [html.escape(raw[position : match.start()], quote=False), match.group()]
        position = match.end()
    return "".join([*kept, html.escape(raw[position:], quote=False)])


_PARSER = MarkdownIt("commonmark", {"html": True}, renderer_cls=_Renderer).enable(["table", "strikethrough"])


def render(text: str) -> str:
    """The HTML of an issue, a comment or a pull request."""
    return _ALERT.sub(r'<blockquote class="alert"><p><b>\1</b>', str(_PARSER.render(text)))
