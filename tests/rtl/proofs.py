"""Claims about a module's registers, proven in all states that can be reached: by induction, by Yosys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from codesign.rtl.modules import modules_of


def proven(verilog: str, top: str, claims: str, folder: Path) -> bool:
    """Whether `claims`, assertions and assumptions inside of `top`, hold in all states that can be reached."""
    module = modules_of(verilog)[top]
    text = verilog.replace(module, module.removesuffix("endmodule") + f"always @* begin\n{claims}\nend\nendmodule")
    (folder / "top.v").write_text(text)
    commands = [
        "read_verilog -formal -noautowire top.v",
        f"hierarchy -top {top}",
        "proc",
        f"select -module {top}",
        f"delete t:{top}__*",  # FIFOs: what they answer is assumed
        "select -clear",
        "opt_clean",
        "chformal -lower",
        f"tee -o said.txt sat -tempinduct -prove-asserts -set-assumes -seq 1 -maxsteps 4 -set-at 1 rst 1 {top}",
    ]
    script = f"""
from pyosys import libyosys
design = libyosys.Design()
for command in {commands}:
    libyosys.run_pass(command, design)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return "Induction step proven: SUCCESS!" in (folder / "said.txt").read_text()
