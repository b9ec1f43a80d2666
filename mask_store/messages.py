"""Messages: what others wrote, made safe to quote in a log line, a reply or a terminal."""

LONGEST_MESSAGE = 500


def escape_controls(text: str) -> str:
    r"""Write what is not printable as its escape: a line feed as \n, half a surrogate as \ud800."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def one_line(text: str) -> str:
    """Escape what is not printable, and cut what is longer than `LONGEST_MESSAGE` characters."""
    line = escape_controls(text[: LONGEST_MESSAGE + 1])
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."
