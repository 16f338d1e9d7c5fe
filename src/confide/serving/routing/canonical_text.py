"""The canonical form of an answer: two answers with the same form say the same.

Only what carries no meaning in an answer is dropped: case, accents of words, articles, quotes, emphasis, white space
and punctuation that ends a sentence. Operators, signs, units, symbols, emojis and the marks of other scripts stay, so
it is stricter than `confide.tasks.text.fold`, which grades by names. Where nothing would be left, what was written
counts.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby, pairwise

from confide.serving.routing.stream_safe import stream_safe

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufe0e\ufe0f\ufeff"))
_ALIKE = str.maketrans(
    dict.fromkeys("‐‑‒–—―−", "-") | dict.fromkeys("“”„‟〝〞〟", '"') | dict.fromkeys("‘’‚‛ʼʻ`´", "'")
)
_DROPPED = str.maketrans(dict.fromkeys("«»‹›「」『』《》¿¡", "") | dict.fromkeys(",;、،؛؟。।॥։።", " ") | {"⁄": "/"})
# Letters that Unicode does not decompose into a base letter and an accent.
_LETTERS = str.maketrans(
    dict(zip("łŁøØđĐðÐı", "lLoOdDdDi", strict=True))
    | {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "TH"}
)

# NFKC writes "3²" as 32, "3½" as 31/2 and "10₂" as 102.
_SUPERSCRIPT = re.compile("[²³¹⁰ⁱ⁴-ⁿ]+")
_SUBSCRIPT = re.compile(r"(?<=\d)[₀-₉]+")
_FRACTION = re.compile("(?<=[0-9])(?=[¼-¾⅐-⅞↉])")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_DECIMAL = re.compile(r"(?<![\w.])\.(?=\d)")

_BULLET = re.compile(r"^[^\S\n]*[*•▪◦‣]\s+(?=[^\W\d_]{2})", re.MULTILINE)
_STARS = re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*]+?)(?<=\S)\1(?![\w*])")
_UNDERSCORES = re.compile(r"(?<!\w)_(?=[^\W_])([^_]+)(?<=[^\W_])_(?!\w)")
_QUOTED = re.compile(r"""(?<!\w)"([^"]*)"(?!\w)|(?<![\w'])('+)([^']+)\2(?![\w'])""")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
_INITIALS = re.compile(r"(?<!\w)(?:[^\W\d_]\.\s?)+[^\W\d_](?!\w)\.?")
_SENTENCE_END = re.compile(r"(?<=[^\s.?!:‽])[.?!:‽]+(?=[\s)\]}]|$)")
_FACTORIAL = re.compile(r"(?:[\d)\]]|(?<!\w)[^\W\d_])$")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")  # " - " and "-1" may subtract
_AND = re.compile("(?<!&)&(?!&)")
# Units in which the case tells one from another ("mW" and "MW", "Mb" and "MB").
_UNIT = "[yzafpnμmcdhkMGTPEZY]?(?:Wh|eV|Hz|Pa|Wb|lm|lx|Bq|Gy|Sv|bit|mol|cd|[mgsAKNJWCVFΩSTHlLBb])|M"
_NUMBER_UNIT = re.compile(f"([0-9]+)({_UNIT})")
_CASED_UNIT = re.compile(_UNIT)


def canonical(text: str) -> str:
    """The form by which answers are compared.

    >>> canonical("**Japan**.") == canonical("japan")
    True
    >>> canonical("a < b"), canonical("10%"), canonical("👍")
    ('a < b', '10 %', '👍')
    """
    return " ".join(_words(_tokens(_plain(text)))) or text.strip()


def _plain(text: str) -> str:
    """``text`` without quotes, emphasis and the punctuation of sentences; one spelling of each sign."""
    text = text.translate(_INVISIBLE).translate(_ALIKE)  # NFKC would take an acute accent for a space
    text = _SUPERSCRIPT.sub(lambda m: f"^{unicodedata.normalize('NFKC', m[0])}", text)
    text = _FRACTION.sub(" ", _SUBSCRIPT.sub(lambda m: f"_{m[0]}", text))
    text = unicodedata.normalize("NFKC", stream_safe(text)).translate(_ALIKE)
    text = _UNDERSCORES.sub(r"\1", _STARS.sub(r"\2", _BULLET.sub("", text)))
    text = _QUOTED.sub(lambda m: m[1] or m[3] or "", text)
    text = _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    text = _DECIMAL.sub("0.", _APOSTROPHE.sub("", text).translate(_DROPPED))
    text = _INITIALS.sub(_joined_initials, text)
    text = _HYPHEN.sub(" ", _SENTENCE_END.sub(_factorial_alone, text))
    return _AND.sub(" and ", text)


def _joined_initials(match: re.Match[str]) -> str:
    letters = re.sub(r"[.\s]", "", match[0])
    return f"{letters} " if letters.isupper() else match[0]


def _factorial_alone(match: re.Match[str]) -> str:
    """Nothing of the marks that end a sentence, but "5!" and "n!" keep theirs."""
    if match[0][0] == "!" and _FACTORIAL.search(match.string, max(0, match.start() - 2), match.start()):
        return "!" * (len(match[0]) - len(match[0].lstrip("!")))
    return ""


def _tokens(text: str) -> list[str]:
    """Words with their marks, and every other character alone."""
    tokens: list[str] = []
    for inside, characters in groupby(text, _in_word):
        run = "".join(characters)
        tokens += [run] if inside else "".join(run.split())
    return [part for token in tokens for part in _number_and_unit(token)]


def _in_word(character: str) -> bool:
    return character.isalnum() or character in "_\u200c\u200d" or _is_mark(character)


def _number_and_unit(token: str) -> tuple[str, ...]:
    match = _NUMBER_UNIT.fullmatch(token)
    return match.groups() if match else (token,)


def _words(tokens: list[str]) -> list[str]:
    """Tokens in lower case and without accents; articles and a last full stop are left out, "St" is spelled out."""
    last = max((at for at, token in enumerate(tokens) if token != "."), default=len(tokens))
    tokens = tokens[: last + 1]
    folded = [
        word if before.isdigit() and _CASED_UNIT.fullmatch(word) else _folded(word)
        for before, word in pairwise(["", *tokens])
    ]
    for at, (before, word, after) in enumerate(zip(["", *folded], folded, [*folded[1:], ""], strict=False)):
        if word == "st" and len(after) > 2 and after.isalpha() and not before.isdigit():
            folded[at] = "saint"
    words = [word for word in folded if word != "the"]
    # "a" only in front of a word: "a < b" and "A, C" keep theirs.
    if len(words) > 1 and words[0] in ("a", "an") and len(words[1]) > 1 and words[1].isalpha():
        words = words[1:]
    return words or folded


def _folded(word: str) -> str:
    """A word in lower case, without the accents of Latin and Greek letters unless it is one letter ("Å" is a unit)."""
    if word.isascii():
        return word.casefold()
    if sum(not _is_mark(character) for character in word) < 2:
        return word.casefold()
    kept, base = [], ""
    for character in unicodedata.normalize("NFD", stream_safe(word)).translate(_LETTERS):
        if not _is_mark(character):
            base = character
        elif base.isalpha() and (base.isascii() or "\u0370" <= base <= "\u03ff"):
            continue
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept)).casefold()


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"
