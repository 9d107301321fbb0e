"""Names that stand for accelerators and networks, for who completes them."""

from __future__ import annotations


def hardware_names(beginning: str = "") -> list[str]:
    """Accelerators in hw_configs/ whose names begin so, sorted."""
    from codesign.arch.load import config_names

    return [name for name in config_names() if name.startswith(beginning)]


def network_names(beginning: str = "") -> list[str]:
    """Networks of the zoo whose names begin so."""
    from codesign.workload import zoo

    return [name for name in zoo.names() if name.startswith(beginning)]
