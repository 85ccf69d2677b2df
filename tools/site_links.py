"""A hook of mkdocs: pages of the root become pages of the site, and links to other files become text."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"\[([^\]\[]+)\]\(((?!https?:|mailto:)[^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    # Pages that no menu lists need no entry there: they are found from their index.
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    for file in files.documentation_pages():
        if file.src_uri not in listed and file.src_uri.startswith("decisions/"):
            file.inclusion = file.inclusion.NOT_IN_NAV
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    here = page.file.src_uri
    # A page of the root has its links from there.
    base = "" if here in PAGES else f"docs/{here.rpartition('/')[0]}"

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if not target:
            return match[0]
        found = _normal(f"{base}/{target}")
        if found == "README.md":
            return f"[{text}]({_from(here, 'index.md')})"
        inside = found.removeprefix("docs/")
        if files.get_file_from_path(inside) is not None and (found.startswith("docs/") or found in PAGES):
            return f"[{text}]({_from(here, inside)}{anchor})"
        return text

    return LINK.sub(replaced, markdown)


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _from(page: str, target: str) -> str:
    return "../" * page.count("/") + target
