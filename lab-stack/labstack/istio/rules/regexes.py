"""The syntax of RE2, the regular expression engine of Envoy and of Istio's own validation.

Python's engine can't check it. It accepts syntax that RE2 doesn't have (lookaround, backreferences, possessive
repetition) and rejects syntax that RE2 has (``\\pL``, ``\\z``, ``(?i)`` in the middle).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LONGEST = 1024  # bytes; Istio's own limit
REPEATS = 1000
COUNT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
FLAGS = re.compile(r"\(\?([imsU]*)(-([imsU]+))?([:)])")
NAME = re.compile(r"\(\?P?<([A-Za-z0-9_]+)>")
CLASS_NAME = re.compile(r"\[:(\^?)([^:\]]*):\]")
CLASS_NAMES = {
    "alnum",
    "alpha",
    "ascii",
    "blank",
    "cntrl",
    "digit",
    "graph",
    "lower",
    "print",
    "punct",
    "space",
    "upper",
    "word",
    "xdigit",
}
PROPERTY = re.compile(r"[pP](\{\^?([A-Za-z_]+)\}|([A-Z]))")
GENERAL = (
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs"  # categories
)
HEX = re.compile(r"x(\{([0-9A-Fa-f]{1,8})\}|[0-9A-Fa-f]{2})")
OCTAL = re.compile(r"0[0-7]{0,2}|[1-7][0-7]{1,2}")
FOREIGN = {
    "(?=": "a lookahead",
    "(?!": "a negative lookahead",
    "(?<=": "a lookbehind",
    "(?<!": "a negative lookbehind",
    "(?>": "an atomic group",
    "(?#": "a comment",
    "(?(": "a condition",
    "(?P=": "a backreference",
    "(?P>": "a recursion",
    "(?R": "a recursion",
    "(?|": "a branch reset",
    "(?&": "a recursion",
}


def pattern_error(text: str) -> str | None:
    """Return the reason why RE2 rejects a regular expression, or None if RE2 accepts it."""
    if not text:
        return "the regular expression is empty"
    if len(text.encode()) > LONGEST:
        return f"the regular expression has {len(text.encode())} bytes; Istio allows at most {LONGEST}"
    try:
        _Scanner(text).scan()
    except _InvalidPattern as invalid:
        location = f" (character {invalid.at + 1})" if invalid.at is not None else ""
        return f"`{text[:80]}` is not a valid RE2 regular expression: {invalid.why}{location}"
    return None


class _InvalidPattern(Exception):
    def __init__(self, why: str, at: int | None) -> None:
        super().__init__(why)
        self.why = why
        self.at = at


@dataclass
class _Scanner:
    text: str
    at: int = 0
    atom: bool = False  # whether a repeatable element precedes
    repeated: bool = False  # whether it is already repeated, so that another `*` would be possessive
    weight: int = 1  # maximum number of repetitions of the last atom
    heaviest: int = 1
    groups: list[tuple[int, int]] = field(default_factory=list)

    def scan(self) -> None:
        while self.at < len(self.text):
            self.step(self.text[self.at])
        if self.groups:
            raise _InvalidPattern("a `(` is never closed", self.groups[-1][0])

    def step(self, char: str) -> None:
        if char == "(":
            self.open()
        elif char == ")":
            if not self.groups:
                raise _InvalidPattern("a `)` has no matching `(`", self.at)
            inner = self.heaviest
            _, outer = self.groups.pop()
            self.heaviest = max(outer, inner)
            self.add_atom(1, inner)
        elif char == "[":
            self.character_class()
        elif char in "*+?":
            self.repeat(1, 1)
        elif char == "{" and (count := COUNT.match(self.text, self.at)):
            self.count(count)
        elif char == "|":
            self.at += 1
            self.atom = self.repeated = False
        elif char == "\\":
            self.escape()
        else:
            self.add_atom(1)

    def add_atom(self, length: int, weight: int = 1) -> None:
        self.at += length
        self.atom, self.repeated, self.weight = True, False, weight

    def open(self) -> None:
        rest = self.text[self.at :]
        if not rest.startswith("(?"):
            self.groups.append((self.at, self.heaviest))
            self.at += 1
        elif name := NAME.match(rest):
            self.groups.append((self.at, self.heaviest))
            self.at += name.end()
        elif flags := FLAGS.match(rest):
            if flags[4] == ":":
                self.groups.append((self.at, self.heaviest))
            self.at += flags.end()
            if flags[4] == ")":
                self.repeated = False
                return
        else:
            found = [what for start, what in FOREIGN.items() if rest.startswith(start)]
            raise _InvalidPattern(
                f"RE2 does not support {found[0]}" if found else f"`{rest[:4]}` does not start a group", self.at
            )
        self.heaviest, self.atom, self.repeated = 1, False, False

    def count(self, count: re.Match[str]) -> None:
        least = int(count[1][:9])
        most = least if count[2] is None else int(count[3][:9]) if count[3] else None
        if least > REPEATS or (most or 0) > REPEATS:
            raise _InvalidPattern(f"`{count[0]}` repeats more than {REPEATS} times", self.at)
        if most is not None and most < least:
            raise _InvalidPattern(f"the maximum in `{count[0]}` is less than the minimum", self.at)
        self.repeat(len(count[0]), max(least if most is None else most, 1))

    def repeat(self, length: int, times: int) -> None:
        sign = self.text[self.at : self.at + length]
        if not self.atom:
            raise _InvalidPattern(f"`{sign}` has nothing before it to repeat", self.at)
        if self.repeated:
            raise _InvalidPattern(
                f"`{sign}` follows a repetition; RE2 does not support possessive repetitions", self.at
            )
        self.weight *= times
        if self.weight > REPEATS:
            raise _InvalidPattern(f"nested repetitions repeat more than {REPEATS} times", self.at)
        self.heaviest = max(self.heaviest, self.weight)
        self.at += length
        if self.text[self.at : self.at + 1] == "?":
            self.at += 1
        self.repeated = True

    def escape(self, *, inside: bool = False) -> str | None:
        """Consume an escape. Return the character that it stands for, or None if it is not a single character."""
        start, self.at = self.at, self.at + 1
        if self.at >= len(self.text):
            raise _InvalidPattern("a trailing `\\`", start)
        char = self.text[self.at]
        if char == "Q" and not inside:
            end = self.text.find("\\E", self.at)
            length = (end if end >= 0 else len(self.text)) - self.at - 1
            self.at = len(self.text) if end < 0 else end + 2
            self.repeated = False
            if length:
                self.add_atom(0)
            return None
        if char in "dDsSwW":
            self.add_atom(1)
            return None
        if char in "AzbB" and not inside:
            self.add_atom(1)
            return None
        if prop := PROPERTY.match(self.text, self.at):
            name = prop[2] or prop[3]
            if name not in GENERAL.split() and (len(name) < 3 or not name[0].isupper()):
                raise _InvalidPattern(f"`\\{prop[0]}` is not a character class", start)
            self.add_atom(prop.end() - prop.start())
            return None
        if (number := HEX.match(self.text, self.at)) or (number := OCTAL.match(self.text, self.at)):
            digits = number[0].lstrip("x{").rstrip("}") or "0"
            value = int(digits, 16 if number[0][0] == "x" else 8)
            if value > 0x10FFFF:
                raise _InvalidPattern(f"`\\{number[0]}` is not a character", start)
            self.add_atom(len(number[0]))
            return chr(value)
        if char.isdigit():
            raise _InvalidPattern(f"RE2 does not support backreferences such as `\\{char}`", start)
        if char in "aftnrv" or (char.isascii() and not char.isalnum()):
            self.add_atom(1)
            return {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}.get(char, char)
        raise _InvalidPattern(f"RE2 does not support `\\{char}`", start)

    def character_class(self) -> None:
        start = self.at
        self.at += 2 if self.text[self.at + 1 : self.at + 2] == "^" else 1
        first = True
        while first or self.text[self.at : self.at + 1] != "]":
            first = False
            if self.at >= len(self.text):
                raise _InvalidPattern("a `[` is never closed", start)
            if self.text.startswith("[:", self.at) and (named := CLASS_NAME.match(self.text, self.at)):
                if named[2] not in CLASS_NAMES:
                    raise _InvalidPattern(f"`{named[0]}` is not a character class", self.at)
                self.at += len(named[0])
                continue
            start_position = self.at
            low = self.one_of_class()
            rest = self.text[self.at : self.at + 2]
            if low is not None and len(rest) == 2 and rest[0] == "-" and rest[1] != "]":
                self.at += 1
                high = self.one_of_class()
                if high is None or high < low:
                    raise _InvalidPattern(
                        f"`{self.text[start_position : self.at]}` is not a valid range", start_position
                    )
        self.at += 1
        self.add_atom(0)

    def one_of_class(self) -> str | None:
        if self.text[self.at] == "\\":
            return self.escape(inside=True)
        self.at += 1
        return self.text[self.at - 1]
