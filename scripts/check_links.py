"""Check that every relative link in the documentation leads somewhere.

python scripts/check_links.py README.md docs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def pages(roots: list[str]) -> Iterator[Path]:
    """Yield every Markdown file named or below a folder that is named."""
    for root in map(Path, roots):
        yield from sorted(root.rglob("*.md")) if root.is_dir() else [root]


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings of a page make."""
    return {re.sub(r"[^\w\- ]", "", h["text"].lower()).replace(" ", "-") for h in HEADING.finditer(prose(page))}


def faults(page: Path) -> Iterator[str]:
    """Yield a sentence for each link of a page that leads nowhere."""
    for link in LINK.finditer(prose(page)):
        path, _, anchor = unquote(link["target"]).partition("#")
        if re.match(r"[a-z][a-z0-9+.-]*:", path):
            continue
        target = page.parent / path if path else page
        if not target.exists():
            yield f"{page}: {link['target']} does not exist"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{page}: {path or 'this page'} has no heading #{anchor}"


def main() -> int:
    """Print all faults; 1 when there is one."""
    checked = list(pages(sys.argv[1:]))
    found = [fault for page in checked for fault in faults(page)]
    print(*found, sep="\n", end="\n" if found else "")  # noqa: T201
    print(f"{len(checked)} pages, {len(found)} broken links")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
