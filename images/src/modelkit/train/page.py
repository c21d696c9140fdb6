"""card.html: the model card as one page for people, with pictures, without scripts and without any address.

Its words are those of card.md, of which it reads the few forms that the card uses; every name is escaped.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from modelkit.train.pictures import Picture

_PLACES = {
    "Quality": ("confusion", "roc", "pr", "calibration", "predicted", "residuals"),
    "Candidates": ("search",),
    "Learning curve": ("learning",),
    "Inputs": ("importance", "shap", "dependence"),
}
"""Below which heading a picture stands, by the beginning of its key."""
_WIDE_TABLE = 8
"""Rows above which a table is folded away."""
_CELLS = re.compile(r"(?<!\\)\|")


def build_page(card: str, pictures: Sequence[Picture]) -> bytes:
    """The HTML document of the card `card` (Markdown, as `build_card` writes it)."""
    blocks = [block for block in card.strip().split("\n\n") if block]
    title = blocks[0].splitlines()[0].removeprefix("# ")
    style = files("modelkit.train").joinpath("card.css").read_text(encoding="utf-8")
    body = "\n".join(_sections(blocks, pictures))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_plain(title)}: model card</title><style>{style}</style></head>\n"
        f"<body><main>{body}</main></body></html>\n"
    ).encode()


def _sections(blocks: Sequence[str], pictures: Sequence[Picture]) -> Iterator[str]:
    heading, placed = "", set[str]()
    for block in [*blocks, "## "]:
        if block.startswith("## "):
            # The pictures close their section, before the next heading.
            chosen = [found for found in pictures if found.key.startswith(_PLACES.get(heading, ("-",)))]
            placed.update(found.key for found in chosen)
            if chosen:
                yield _figures(chosen)
            heading = block.removeprefix("## ")
        if block != "## ":
            yield _block(block)
    if rest := [found for found in pictures if found.key not in placed]:
        yield _figures(rest)


def _block(block: str) -> str:
    lines = block.splitlines()
    if lines[0].startswith("# "):
        rest = "".join(f"<p>{_inline(line)}</p>" for line in lines[1:])
        return f"<header><p>Model card</p><h1>{_inline(lines[0][2:])}</h1>{rest}</header>"
    if lines[0].startswith("## "):
        return f"<h2>{_inline(lines[0][3:])}</h2>"
    if lines[0].startswith("| "):
        return _table(lines)
    if lines[0].startswith("- "):
        return "<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _table(lines: Sequence[str]) -> str:
    cells = [[_inline(cell.strip()) for cell in _CELLS.split(line)[1:-1]] for line in lines]
    header, _, *rows = cells  # the second line is a rule
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    # A focus on the frame lets keys scroll a table that is wider than the window.
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    if len(rows) <= _WIDE_TABLE:
        return table
    return f"<details open><summary>{len(rows)} rows</summary>{table}</details>"


def _figures(pictures: Sequence[Picture]) -> str:
    return (
        '<div class="figures">'
        + "".join(
            f"<figure><figcaption><b>{escape(found.title)}</b></figcaption>{_described(found)}"
            f"<p>{escape(found.description)}</p></figure>"
            for found in pictures
        )
        + "</div>"
    )


def _described(found: Picture) -> str:
    label = escape(f"{found.title}: {found.description}")
    return found.svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _inline(text: str) -> str:
    """`code` and **strong** of one line; the rest escaped."""
    text = _plain(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"^\*\*(.+)\*\*$", r"<strong>\1</strong>", text)


def _plain(text: str) -> str:
    return escape(text.replace("\\|", "|").replace("&lt;", "<"))
