"""Text that Unicode normalises in linear time: no long run of combining marks.

Normalisation sorts the marks behind a character. With a run of n marks that may take n² steps, and whoever writes the
text chooses n. The Stream-Safe Text Format (Unicode Standard Annex 15, section 13) ends a run after 30 of them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_MOST = 30
_LAST = 0x1FFFF  # no mark lies behind it
_JOINER = "\u034f"  # the combining grapheme joiner, which no mark is sorted past


def stream_safe(text: str) -> str:
    """``text`` with a joiner in each run of more than 30 combining marks; any other text stays as it is."""
    return text if text.isascii() else _runs().sub(rf"\g<0>{_JOINER}", text)


@cache
def _runs() -> re.Pattern[str]:
    """As many marks as there may be, with another one behind; characters that decompose into marks alone are marks."""
    marks = "".join(
        mark
        for mark in map(chr, range(0x300, _LAST + 1))
        if all(unicodedata.combining(part) for part in unicodedata.normalize("NFKD", mark))
    )
    return re.compile(f"[{marks}]{{{_MOST}}}(?=[{marks}])")
