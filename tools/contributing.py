"""CONTRIBUTING.md as a page of the site: mkdocs asks here while it builds, and nothing is kept twice."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGE = Path(__file__).resolve().parent.parent / "CONTRIBUTING.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Mkdocs asks here for its list of files."""
    files.append(File.generated(config, "contributing.md", content=PAGE.read_text(encoding="utf-8")))
    return files
