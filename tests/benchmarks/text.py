"""Text of the page of the benchmarks and of their table."""

import re


def wrapped(text: str, width: int = 100) -> list[str]:
    """The text in lines of so many characters at most."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def titled(name: str) -> str:
    """The name with a capital at its beginning, and otherwise as it is."""
    return name[:1].upper() + name[1:]


def picture(heading: str, name: str, plot: str) -> str:
    """The line of the page that shows a plot; says no more of it than what its bars are."""
    return f"![{heading.partition(' (')[0]}]({plot_file(name, plot)})"


def plot_file(name: str, plot: str) -> str:
    """The file of a plot, relative to the page."""
    return f"pictures/performance/{re.sub('[^a-z0-9]+', '-', name.lower())}-{plot}.svg"
