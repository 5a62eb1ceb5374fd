"""Install size: what `requirements.lock` and Vedette itself take in a fresh virtual environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.results import Outcome
from bench.servers import ROOT

HOW = (
    "A fresh virtual environment; `pip install vedette` without extras, at the versions of `requirements.lock`. "
    "Bytes allocated on disk under `site-packages`, compiled bytecode included, without pip and setuptools."
)


def _allocated(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def run() -> Outcome:
    """Install into a scratch directory and measure."""
    outcome = Outcome("install", "Default install", how=HOW)
    with tempfile.TemporaryDirectory(prefix="bench-install-") as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        python = f"{scratch}/bin/python"
        site = Path(
            subprocess.run(
                [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        before = _allocated(site)
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        started = time.monotonic()
        subprocess.run([*pip, "-c", str(ROOT / "requirements.lock"), str(ROOT)], check=True)
        outcome.add("time to install", "vedette", "s", [time.monotonic() - started])
        outcome.add("size", "vedette", "MB", [(_allocated(site) - before) / 1e6])
        sizes = sorted(
            ((_allocated(p), p.name) for p in site.iterdir() if p.is_dir() and p.name not in ("pip", "setuptools")), reverse=True
        )[:6]
        subprocess.run([*pip, "-r", str(ROOT / "requirements.lock")], check=True)
        outcome.add("size with all extras, as `make run` installs it", "vedette", "MB", [(_allocated(site) - before) / 1e6])
        outcome.notes.append("Largest: " + ", ".join(f"{name} {size / 1e6:.0f} MB" for size, name in sizes) + ".")
    outcome.promise_at_most("size", 450, "MB", "first release")
    return outcome
