"""Text of users and of other tools as it may be shown: no control over the terminal, no megabytes."""

from __future__ import annotations

import re

LINE = 1000
"""Characters of the longest line that is shown whole."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline; ESC among them
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # invisible ones, and those that turn the text
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e0fff]"  # bytes of names that are no text, tags
)


def visible(text: str) -> str:
    r"""The text with control characters, invisible ones and lone surrogates as escapes, such as `\x1b`."""
    return _HIDDEN.sub(lambda match: _escape(match[0]), text)


def one_line(text: str, limit: int = LINE) -> str:
    """The text in one line of at most `limit` characters, visible; of a longer one the middle is left out."""
    ends = text if len(text) <= 4 * limit else f"{text[: 2 * limit]}{text[-2 * limit :]}"
    shown = visible(" ".join(ends.split()))
    if len(shown) <= limit:
        return shown
    gap = f" [... {len(text):,} characters in all ...] "
    head = (limit - len(gap)) * 2 // 3
    return shown[:head] + gap + shown[len(gap) + head - limit :]


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
