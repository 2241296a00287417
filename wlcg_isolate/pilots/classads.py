"""
ClassAds of jobs and machines, from the files that HTCondor leaves for a job.

Rules:

1. A literal is read here.  An expression is evaluated by HTCondor's own
   library where it is installed (extra ``[htcondor]``); without it the
   attribute counts as undefined, and is listed.
2. A line that cannot be read loses that line only, and is listed.
3. Names are compared without regard to case.
   Source: HTCondor manual, ClassAd mechanism, attribute names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate.errors import Problem, RequestError

__all__ = ["Ad", "environment_of", "parse_ad", "read_ad"]

_LINE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=\s*(.*?)\s*;?\s*$", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"$', re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "undefined": None, "error": None}
#: HTCondor writes no expression in this form.
_LOOSE = re.compile(r'(\s*[A-Za-z_]\w*="[^"]*")+\s*$')
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|[^"\[\]{}();]+|.', re.DOTALL)
_OPEN, _CLOSE = ("[", "{", "("), ("]", "}", ")")
_BLANKS = " \t\n\r"
#: What may stand first in ``Env``.  Source: HTCondor, src/condor_utils/env.cpp.
_DELIMITERS = "!#$%&*+,-/:;<>?@^`|~\x1f"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@attrs.frozen(kw_only=True)
class Ad(Mapping[str, Any]):
    """
    One ad: names in any case to text, numbers, truth values.

    What is undefined, or an error, is not in it.

    Attributes:
        unread: Names of attributes that are expressions nobody here could
            evaluate, and lines that are none.

        raw: What was written for each name, in lower case.
    """

    _values: Mapping[str, Any] = attrs.field(alias="values", repr=False)
    unread: tuple[str, ...] = ()
    raw: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    def __getitem__(self, name: str) -> Any:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, name: str, default: str = "") -> str:
        """
        Give text; *default* for what is undefined or no text.
        """
        value = self.get(name)

        return value if isinstance(value, str) else default

    def truth(self, name: str, *, default: bool = False) -> bool:
        """
        Give a truth value, which numbers are as well; *default* for others.
        """
        value = self.get(name)

        return bool(value) if isinstance(value, (bool, int, float)) else default


def read_ad(path: str) -> Ad:
    """
    Read the ad in a file.

    Raises:
        RequestError: The file cannot be read.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return parse_ad(file.read())
    except OSError as e:
        message = f"{path}: the ad cannot be read: {e.strerror}"
        raise RequestError(
            [Problem(kind="request-invalid", message=message, origin=path, advice="look at the job's directory")]
        ) from e


def parse_ad(text: str) -> Ad:
    """
    Read an ad: one ``NAME = VALUE`` a line, or the form in square brackets.
    """
    body = text.strip()
    bracketed = body.startswith("[") and body.endswith("]")
    # Only a line feed ends a line: a user's text may hold what Python takes for an end.
    lines = _split(body[1:-1]) if bracketed else text.split("\n")
    values: dict[str, Any] = {}
    raw: dict[str, str] = {}
    expressions: dict[str, str] = {}
    unread: list[str] = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line)
        if found is None:
            unread.append(line.strip()[:80])
            continue
        name = found[1].lower()
        raw[name] = found[2]
        known, value = _literal(found[2])
        # Of an attribute that is written twice the last counts.
        values.pop(name, None)
        expressions.pop(name, None)
        if not known:
            expressions[name] = found[1]
        elif value is not None:
            values[name] = value
    if expressions:
        for name, value in _evaluated(raw, list(expressions)).items():
            del expressions[name]
            if value is not None:
                values[name] = value

    return Ad(values=values, unread=(*unread, *expressions.values()), raw=raw)


def _split(body: str) -> list[str]:
    """
    Split the inside of square brackets where an attribute ends.
    """
    items = [""]
    depth = 0
    for part in _PART.findall(body):
        depth += (part in _OPEN) - (part in _CLOSE)
        if part == ";" and depth == 0:
            items.append("")
        else:
            items[-1] += part

    return items


def _literal(text: str) -> tuple[bool, Any]:
    """
    Tell whether a value is a literal, and which.
    """
    string = _STRING.match(text)
    if string:
        return True, re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), string[1], flags=re.DOTALL)
    if text.lower() in _WORDS:
        return True, _WORDS[text.lower()]
    number = _NUMBER.match(text)
    if number:
        return True, float(text) if number[2] or number[3] or "." in text else int(text)

    return False, None


def _evaluated(raw: Mapping[str, str], names: list[str]) -> dict[str, Any]:
    """
    Evaluate expressions with HTCondor's library, if it is there; None for
    what is undefined.
    """
    try:
        import classad2 as library
    except ImportError:
        return {}
    readable = {name: value for name, value in raw.items() if _parses(library, f"{name} = {value}\n")}
    ad = library.parseOne("".join(f"{name} = {value}\n" for name, value in readable.items()))
    found: dict[str, Any] = {}
    for name in names:
        if name in readable:
            value = ad.eval(name)
            # Undefined and error are values of a type of their own; so are lists and ads.
            plain = isinstance(value, (str, bool, int, float)) and not isinstance(value, library.Value)
            found[name] = value if plain else None

    return found


def _parses(library: Any, line: str) -> bool:
    """
    Tell whether the library can read a line; one that it cannot ends the ad
    for it, without an error.
    """
    return len(library.parseOne(line)) == 1


def environment_of(ad: Ad) -> dict[str, str]:
    """
    Give the variables that a job asked for.

    Source: HTCondor manual, submit command ``environment``: words separated by
    blanks, single quotes around a value, doubled for one of their own;
    attribute ``Env`` has the older form, separated by its own first character,
    by what ``EnvDelim`` says, or by semicolons, and by line feeds.
    Source: HTCondor, src/condor_utils/env.cpp, MergeFrom.

    Raises:
        RequestError: A word has no equals sign, or a quote is open; or it is
            an expression that cannot be evaluated here.
    """
    text = ad.get("Environment")
    written = ad.raw.get("environment", "")
    if text is None and _LOOSE.match(written):
        # As some wrappers' own tests write it: not a ClassAd value at all.
        return _loose(written, ad)
    if text is None and "environment" in map(str.lower, ad.unread):
        raise RequestError([_bad_environment("it is an expression, which needs the extra [htcondor]")])
    if isinstance(text, str):
        return dict(_pairs(_words(text, "'")))
    unread = {"env", "envdelim"} & set(map(str.lower, ad.unread))
    if unread:
        raise RequestError([_bad_environment("it is an expression, which needs the extra [htcondor]")])
    return dict(_pairs(_old_words(ad.text("Env"), ad.text("EnvDelim"))))


def _old_words(text: str, delimiter: str) -> list[str]:
    between = delimiter[:1] or ";"
    if text[:1] and text[0] in _DELIMITERS:
        between, text = text[0], text[1:]
    words = [word.lstrip(_BLANKS) for line in text.split("\n") for word in line.split(between)]

    return [word for word in words if word]


def _loose(written: str, ad: Ad) -> dict[str, str]:
    found = dict(_pairs(_words(written, '"')))
    if any(name.lower() in ad.raw for name in found):
        # For HTCondor the word is the attribute, whose value could set anything.
        raise RequestError([_bad_environment(f"{written!r} names an attribute of the ad")])

    return found


def _words(text: str, quote: str) -> list[str]:
    words: list[str] = []
    word: Optional[str] = None
    quoted = False
    i = 0
    while i < len(text):
        char = text[i]
        if char == quote and quoted and text[i + 1 : i + 2] == quote:
            word = (word or "") + quote
            i += 1
        elif char == quote:
            quoted = not quoted
            word = word or ""
        elif char in _BLANKS and not quoted:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + char
        i += 1
    if quoted:
        raise RequestError([_bad_environment("a quote is open")])

    return words if word is None else [*words, word]


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    bad = [word for word in words if not re.match(r"[^=\s]+=", word)]
    if bad:
        raise RequestError([_bad_environment(f"{word!r} is no NAME=VALUE") for word in bad])
    for word in words:
        name, _, value = word.partition("=")
        yield name, value


def _bad_environment(message: str) -> Problem:
    return Problem(
        kind="request-invalid",
        message=f"the job's Environment cannot be read: {message}",
        origin="job ad",
        advice="correct the job",
    )
