"""Where weights come from, and the calls that bring them into the store and out of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
from collections.abc import Callable
from pathlib import Path

from conversion.downloads import Progress, downloaded
from conversion.state_dicts import open_file
from perceptual_jax import weights
from perceptual_jax.errors import InputError
from perceptual_jax.weights import Package, WeightsError, WeightSet

__all__ = ["convert", "get", "installed_file"]


def get(
    name: str,
    *,
    with_classifier: bool = False,
    file: str | Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Brings a weight set into the store, from the first source that has it.

    An installed package, the file given, the publisher's address, in this order. Whatever comes
    is checked: it must be the publisher's file, or hold the tensors that the manifest knows.

    Args:
      name: one of `weights.names()`.
      with_classifier: the network's classifier too, which is a set of its own.
      file: a file that may hold it.
      offline: leave the network alone.
      progress: is told how far a download is.

    Returns:
      The files that hold it now; what was there and is sound is left as it was.

    Raises:
      WeightsError: if no source has it; the message says what was tried, and what to do.
    """
    entries = missing = [weights.entry(each) for each in _sets(name, with_classifier)]
    tried: list[str] = []
    for source in (_from_package, _from_file(file), _from_network(offline, progress)):
        missing = [entry for entry in missing if not _is_here(entry)]
        if missing:
            try:
                source(missing)
            except InputError as error:
                tried.append(str(error))
    if lacking := [entry.name for entry in missing if not _is_here(entry)]:
        wanted = " and ".join(map(repr, lacking))
        raise WeightsError(f"the weights {wanted} could not be had: {'; '.join(tried)}")
    return tuple(path for entry in entries if (path := weights.find(entry.name)))


def _sets(name: str, with_classifier: bool) -> list[str]:
    """The weight sets meant, the network's own and its classifier's."""
    if not with_classifier:
        return [name]
    if f"{name}-classifier" not in weights.names():
        raise WeightsError(f"the weights {name!r} have no classifier")
    return [name, f"{name}-classifier"]


def _is_here(entry: WeightSet) -> bool:
    """Whether the store has the publisher's own. What is damaged or not theirs is made again."""
    try:
        return entry.vouches_for(weights.provenance(entry.name))
    except WeightsError:
        return False


def convert(
    file: str | Path,
    name: str,
    *,
    with_classifier: bool = False,
    key: str | None = None,
    out: str | Path | None = None,
) -> tuple[Path, ...]:
    """Converts a file that the caller vouches for.

    Args:
      file: a PyTorch file, a safetensors file, or the pickle of a package known here.
      name: one of `weights.names()`.
      with_classifier: the network's classifier too, which is a set of its own.
      key: which state dict of a checkpoint; by default the only one that fits.
      out: the file to write, with any weights of such names and shapes; by default those of the
        store, which where the manifest knows the tensors takes no others.

    Returns:
      The files written. `weights.read_file` reads them.

    Raises:
      WeightsError: if the file does not hold such weights.
      InputError: if it is malformed, or holds what is not data.
    """
    file, sets = Path(file), _sets(name, with_classifier)
    opened = {each: open_file(file, each, key=key) for each in sets}
    digest = _digest(file)
    if out is not None:
        out = Path(out)
        paths = [out, *(out.with_stem(f"{out.stem}-classifier") for _ in sets[1:])]
        for path, (each, tensors) in zip(paths, opened.items(), strict=True):
            weights.write_file(path, each, tensors, file.name, digest)
        return tuple(paths)
    for entry in map(weights.entry, sets):
        if not entry.published(digest) and _is_here(entry):
            raise WeightsError(
                f"the store has the publisher's {entry.name}, which {file} is not; convert it "
                f"with --out FILE, or remove {weights.find(entry.name)} first"
            )
    try:
        return tuple(weights.write(each, opened[each], file.name, digest) for each in sets)
    except WeightsError as error:
        raise WeightsError(f"{error}; --out FILE takes any of such names and shapes") from None


# --- Sources: each stores what it has of the sets it is asked for, or raises ------------------

Source = Callable[[list[WeightSet]], None]


def _from_package(entries: list[WeightSet]) -> None:
    for entry in entries:
        if entry.package is None:
            continue
        path = installed_file(entry.package)
        origin = f"{entry.package.name}=={entry.package.version}: {entry.package.file}"
        weights.write(entry.name, open_file(path, entry.name), origin, entry.package.sha256)


def _from_file(file: str | Path | None) -> Source:
    def source(entries: list[WeightSet]) -> None:
        if file is None:
            return
        digest = _digest(Path(file))
        for entry in entries:
            if entry.sha256 is None and not entry.published(digest):
                raise WeightsError(
                    f"{file} is not the publisher's file; if you vouch for it: "
                    f"perceptual-jax weights convert {file} --as {entry.name}"
                )
            weights.write(entry.name, open_file(file, entry.name), Path(file).name, digest)

    return source


def _from_network(offline: bool, progress: Progress | None) -> Source:
    def source(entries: list[WeightSet]) -> None:
        for download, group in itertools.groupby(entries, lambda entry: entry.download):
            if download is None:
                continue
            if offline:
                raise WeightsError(
                    f"offline, so {download.url} was not asked; fetch it by other means, and add "
                    f"--from FILE"
                )
            folder = weights.cache_folder() / "downloads"
            with downloaded(download, folder, progress=progress) as fetched:
                for entry in group:
                    # Another process may have made it meanwhile.
                    if not _is_here(entry):
                        path = fetched()
                        tensors = open_file(path, entry.name)
                        weights.write(entry.name, tensors, download.url, _digest(path))

    return source


def installed_file(package: Package) -> Path:
    """The source file inside the installed package, verified against the manifest.

    The package is located, never imported: nothing of it runs.

    Raises:
      WeightsError: if the package is not installed (the message gives the command that installs
        it) or its file is not the one the manifest describes.
    """
    try:
        distribution = importlib.metadata.distribution(package.name)
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"the package {package.name} is not installed: {package.install}"
        ) from None
    path = Path(str(distribution.locate_file(package.file)))
    if not path.is_file():
        raise WeightsError(
            f"{package.name} {distribution.version} has no file {package.file}: {package.install}"
        )
    if _digest(path) != package.sha256:
        raise WeightsError(
            f"{path} (of {package.name} {distribution.version}) is not the file that the manifest "
            f"describes: its sha256 differs; {package.install}"
        )
    return path


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
