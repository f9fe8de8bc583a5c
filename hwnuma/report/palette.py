"""Colours that most colour-blind people tell apart, and that text on them is readable on.

Okabe and Ito, "Color Universal Design: how to make figures and presentations that are friendly to colorblind people"
(2008), figure 16; black, which is the paper's or the terminal's own, is left out for a grey. A colour is never all that
tells two ranks apart: each of their cores carries their number too.
"""

from __future__ import annotations

from hwnuma.model.value import Value


class Colour(Value):
    """A colour, and the text's colour on it.

    Attributes:
        red_green_blue: as in HTML, ``#e69f00``.
        text: likewise, of the two of black and white the one with more contrast (WCAG 2.1, 1.4.3: at least 4.5).
        terminal: the nearest of the 256 that terminals number (xterm's ``38;5`` and ``48;5``).
    """

    red_green_blue: str
    text: str
    terminal: int

    @property
    def terminal_text(self) -> int:
        """The terminal's number of the text's colour."""
        return 16 if self.text == BLACK else 231


BLACK, WHITE = "#000000", "#ffffff"

# Of the paper and all that is no rank: in light and in dark.
THEME = {
    "page": ("#ffffff", "#15191e"),
    "ink": ("#1b1f24", "#e6e9ed"),
    "faint": ("#57606a", "#a3adb8"),
    "outer": ("#f3f4f6", "#1d2229"),
    "inner": ("#ffffff", "#262c34"),
    "edge": ("#8c959f", "#6e7883"),
    "core": ("#d8dee4", "#4a535e"),
    "reserved": ("#6e7781", "#8c959f"),
}

_RANKS = (
    Colour("#e69f00", BLACK, 214),  # orange
    Colour("#56b4e9", BLACK, 74),  # sky blue
    Colour("#009e73", BLACK, 36),  # bluish green
    Colour("#f0e442", BLACK, 227),  # yellow
    Colour("#0072b2", WHITE, 25),  # blue
    Colour("#d55e00", BLACK, 166),  # vermilion
    Colour("#cc79a7", BLACK, 175),  # reddish purple
    Colour("#999999", BLACK, 247),  # grey
)


def colours() -> tuple[Colour, ...]:
    """All of them."""
    return _RANKS


def colour(number: int) -> Colour:
    """The colour of the rank, or the set of ranks, with this number; after the last the first again."""
    return _RANKS[number % len(_RANKS)]
