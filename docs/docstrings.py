"""Docstrings of this package as reStructuredText, which Sphinx reads.

They are written as plain text: backticks around code, indented or aligned lines for equations and tables,
and the sections Args, Attributes, Returns, Yields and Raises.
"""

import re

FIELDS = {"Args": "param", "Attributes": "ivar", "Raises": "raises", "Returns": "returns", "Yields": "yields"}
SECTION = re.compile(rf"^({'|'.join(FIELDS)}):$")
ENTRY = re.compile(r"^(\*{0,2}[\w.]+): (.*)$", re.DOTALL)
ITEM = re.compile(r"^(- |\d+\. )")
CODE = re.compile(r"(`+)(.+?)\1")


def to_rst(lines: list[str]) -> list[str]:
    """The lines of a docstring for Sphinx.

    Args:
      lines: of the docstring, without its common indentation.
    """
    found, section = [], ""
    for block in _blocks(lines):
        title = SECTION.match(block[0])
        if title:
            section, block = title[1], block[1:]
        elif section and not block[0].startswith(" "):
            section = ""
        if section:
            found += _fields(section, block)
        else:
            found += [*_paragraphs(block), ""]
    return found


def _blocks(lines):
    """Neighbouring lines between empty ones; a section begins a block of its own."""
    blocks = [[]]
    for line in lines:
        if not line.strip() or SECTION.match(line):
            blocks.append([])
        if line.strip():
            blocks[-1].append(line)
    return [block for block in blocks if block]


def _fields(section, block):
    """A field for each entry of a section, or one for all of its text."""
    if FIELDS[section] in ("returns", "yields"):
        return [f":{FIELDS[section]}: {escape(_join(block))}", ""] if block else []
    entries = []
    for line in block:
        if line.startswith("   ") and entries:  # goes on
            entries[-1].append(line)
        else:
            entries.append([line])
    fields = []
    for entry in entries:
        text = _join(entry)
        found = ENTRY.match(text)
        name, text = (found[1], found[2]) if found else ("", text)
        label = f":{FIELDS[section]} {escape(name)}:" if name else f":{FIELDS[section]}:"
        fields.append(f"{label} {escape(text)}")
    return [*fields, ""]


def _join(lines):
    return " ".join(line.strip() for line in lines)


def _paragraphs(block):
    """Text and lists as they are; what is indented or aligned as a literal block."""
    if any(line.startswith((" ", "|")) or re.search(r"\S   *\S", line) for line in block):
        start = next((index for index, line in enumerate(block) if ITEM.match(line)), None)
        if start is None or any(line.startswith("|") for line in block):
            return ["::", "", *(f"    {line}" for line in block)]
        return [*map(escape, block[:start]), "", *map(escape, block[start:])]
    return list(map(escape, block))


def escape(text: str) -> str:
    """Text in which only backticks around code mean something.

    Args:
      text: of one paragraph.
    """
    found, end = [], 0
    for code in CODE.finditer(text):
        found += [_escape_plain(text[end : code.start()]), f"\\ ``{code[2].strip()}``\\ "]
        end = code.end()
    return "".join([*found, _escape_plain(text[end:])])


def _escape_plain(text):
    return re.sub(r"[\\*|`]|_(?!\w)", r"\\\g<0>", text)
