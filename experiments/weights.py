"""The pretrained weights: what there is, where it is, whether it is sound, and other people's.

    perceptual-jax weights list
    perceptual-jax weights get                    # all that installed packages carry
    perceptual-jax weights get vgg19 --with-classifier
    perceptual-jax weights get vgg19 --from vgg19-dcbb9e9d.pth
    perceptual-jax weights convert my.pth --as vgg16 --out mine.safetensors
    perceptual-jax weights verify
    perceptual-jax weights export vgg16 --out vgg16-torchvision.safetensors

They are kept in ~/.cache/perceptual-jax/weights; $PERCEPTUAL_JAX_CACHE names another place.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Column, Table

import conversion
from conversion.downloads import Progress
from experiments.common.progress import Advance, console, progress
from perceptual_jax import weights
from perceptual_jax.weights import WeightsError

__all__ = ["PRESETS", "Config", "run"]

_CLASSIFIER = "-classifier"
_COLUMNS = ("name", "here", "MB", "classifier", "licence", "from")
Names = tyro.conf.Positional[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class List:
    """Every weight set: whether it is here, and where it comes from."""

    def run(self) -> None:
        """Prints the table."""
        table = Table(
            *(Column(title, no_wrap=True) for title in _COLUMNS),
            box=None,
            padding=(0, 1, 0, 0),
        )
        for name in weights.names():
            if name.endswith(_CLASSIFIER):
                continue
            entry, path = weights.entry(name), weights.find(name)
            here = "shipped" if entry.shipped else ("yes" if path else "no")
            if path and not entry.shipped and not _is_published(name):
                here = "yours"
            size = f"{path.stat().st_size / 1e6:.2f}" if path else ""
            classifier = ""
            if name + _CLASSIFIER in weights.names():
                classifier = "yes" if weights.find(name + _CLASSIFIER) else "no"
            table.add_row(name, here, size, classifier, entry.licence, _sources(entry))
        console.print(table)
        console.print(f"cache: {weights.cache_folder() / 'weights'}")


@dataclasses.dataclass(frozen=True)
class Get:
    """Brings weights into the store: from an installed package, a file, or the network."""

    names: Names = ()
    """Weight sets; by default all that installed packages carry."""
    with_classifier: bool = False
    """Get the classifier too, which gives ImageNet's 1,000 classes."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """A file that may hold them."""
    offline: bool = False
    """Leave the network alone."""

    def run(self) -> None:
        """Gets each; all are tried before any problem is reported."""
        names = self.names or _carried() or _PRETRAINED
        if self.from_ is not None and len(names) != 1:
            raise WeightsError("--from is a file of one weight set: name it")
        if self.from_ is not None and not self.from_.is_file():
            raise WeightsError(f"there is no file {self.from_}")
        problems = []
        for name in names:
            try:
                with _download_progress(name) as progress:
                    paths = conversion.get(
                        name,
                        with_classifier=self.with_classifier,
                        file=self.from_,
                        offline=self.offline,
                        progress=progress,
                    )
            except WeightsError as error:
                problems.append(str(error))
            else:
                for path in paths:
                    source = weights.provenance(path.stem).source
                    console.print(f"{path.stem}: {path}, from {source}")
        if problems:
            raise WeightsError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Convert:
    """Converts a PyTorch or safetensors file that you vouch for. Nothing in it is executed."""

    file: tyro.conf.Positional[Path]
    """A .pth, .pt or .bin of PyTorch, a state dict or a checkpoint with one; or safetensors."""
    as_: Annotated[str, tyro.conf.arg(name="as")]
    """The weight set that it is."""
    out: Path | None = None
    """The file to write; by default that of the store."""
    key: str | None = None
    """Which state dict of a checkpoint, where more than one fits."""
    with_classifier: bool = False
    """Convert the classifier too, to a file of its own."""

    def run(self) -> None:
        """Converts, and says where to."""
        paths = conversion.convert(
            self.file,
            self.as_,
            with_classifier=self.with_classifier,
            key=self.key,
            out=self.out,
        )
        for path in paths:
            console.print(f"{self.as_}: {path}")


@dataclasses.dataclass(frozen=True)
class Verify:
    """Re-reads stored weights: names, shapes, values, and where they come from."""

    names: Names = ()
    """Weight sets, or files that `convert` wrote; by default all sets that are here."""

    def run(self) -> None:
        """Verifies each; all are tried before any problem is reported."""
        problems = []
        for name in self.names or [name for name in weights.names() if weights.find(name)]:
            try:
                is_file = name not in weights.names() and Path(name).is_file()
                found = weights.read_file(name)[1] if is_file else weights.provenance(name)
            except WeightsError as error:
                problems.append(str(error))
            else:
                console.print(f"{name}: sound, from {found.source}{_doubt(found)}")
        if problems:
            raise WeightsError("; ".join(problems))


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes stored weights as a safetensors file under torchvision's or timm's names."""

    name: tyro.conf.Positional[str]
    """A weight set of the store, whose classifier comes along if it is there; or a file that
    `convert` wrote."""
    out: Path
    """The file to write."""
    dialect: Literal["torchvision", "timm"] = "torchvision"
    """Whose names."""

    def run(self) -> None:
        """Exports, and says where to."""
        console.print(
            f"{self.name}: {conversion.export(self.name, self.out, dialect=self.dialect)}"
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax weights`."""

    action: Annotated[
        Annotated[List, tyro.conf.subcommand("list", prefix_name=False)]
        | Annotated[Get, tyro.conf.subcommand("get", prefix_name=False)]
        | Annotated[Convert, tyro.conf.subcommand("convert", prefix_name=False)]
        | Annotated[Verify, tyro.conf.subcommand("verify", prefix_name=False)]
        | Annotated[Export, tyro.conf.subcommand("export", prefix_name=False)],
        tyro.conf.arg(name=""),
    ] = List()


PRESETS = {"default": Config()}


def run(config: Config) -> None:
    """Lists, gets, converts, verifies or exports weight sets.

    Raises:
      WeightsError: for an unknown name, a missing source, or weights that are not sound.
    """
    config.action.run()


def _is_published(name: str) -> bool:
    try:
        return weights.entry(name).vouches_for(weights.provenance(name))
    except WeightsError:
        return False


_PRETRAINED = ("vgg16", "alexnet")
"""What the extra `pretrained` installs: where no package is, the error says how."""


def _carried() -> tuple[str, ...]:
    """The sets that installed packages carry, but for those that ship."""
    installed = {each.metadata["Name"] for each in importlib.metadata.distributions()}
    installed = {re.sub(r"[-_.]+", "-", name).lower() for name in installed if name}
    entries = map(weights.entry, weights.names())
    return tuple(
        entry.name
        for entry in entries
        if entry.package is not None and entry.package.name in installed and not entry.shipped
    )


def _sources(entry: weights.WeightSet) -> str:
    package = [entry.package.name] if entry.package else []
    return ", ".join([*package, *(["network"] if entry.download else [])])


def _doubt(found: weights.Provenance) -> str:
    if weights.entry(found.weight_set).vouches_for(found):
        return ""
    return ", which is not the publisher's: you vouched for it"


@contextmanager
def _download_progress(name: str) -> Iterator[Progress]:
    """A bar of megabytes, from the first byte on, where the server says how many there are."""
    with ExitStack() as stack:
        advance: Advance | None = None
        done = 0

        def tell(have: int, total: int | None) -> None:
            nonlocal advance, done
            if total is None:
                return
            megabytes = have // 10**6
            if advance is None:
                goal = total // 10**6
                bar = progress(f"downloading {name}", goal, unit="MB", done=megabytes)
                advance, done = stack.enter_context(bar), megabytes
            if megabytes > done:
                advance(megabytes - done)
                done = megabytes

        yield tell
