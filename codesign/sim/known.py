"""Where results are kept that belong to an accelerator as this version generates it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from codesign._files import cache_folder, content_hash
from codesign.arch.hardware import Hardware


def known_path(kind: str, hw: Hardware) -> Path:
    """The cache file of what is known of `hw`; another one for every version of the generator."""
    return cache_folder() / kind / "by_hardware" / f"{content_hash(hw.canonical_json(), _generator_hash())}.json"


@lru_cache(maxsize=1)
def _generator_hash() -> str:
    """Of the source files that say what Verilog a `Hardware` becomes."""
    import codesign.arch
    import codesign.rtl

    folders = [Path(str(room.__file__)).parent for room in (codesign.arch, codesign.rtl)]
    return content_hash(*(path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py"))))
