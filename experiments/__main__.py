"""The command line: `perceptual-jax <command>`, or `python -m experiments <command>`.

A command is a module with a frozen dataclass `Config`, `PRESETS` of it, and `run(config)`; it is
imported only when it is called, so that `--help` is immediate.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from types import ModuleType

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": ("experiments.demo", "which loss sees like a person? one report, in minutes"),
    "compare": ("experiments.compare", "distances between two images, or two folders of them"),
    "two-afc": ("experiments.two_afc", "which distance agrees with people about which is nearer"),
    "train-metric": ("experiments.train_metric", "a distance learned from what people said"),
    "image-mean": ("experiments.image_mean", "the mean of similar images under each distance"),
    "cluster": ("experiments.cluster", "which distance puts images of one kind together"),
    "style-transfer": ("experiments.style_transfer", "one picture's scene in another's manner"),
    "activations": ("experiments.activations", "one page to look at what a network sees"),
    "invert": ("experiments.invert", "what of an image each layer of a network still knows"),
    "autoencoder": ("experiments.autoencoder", "images through codes, trained under each distance"),
    "glo": ("experiments.glo", "a generator and a code an image, learned under each distance"),
    "super-resolution": (
        "experiments.super_resolution",
        "a network that enlarges pictures, under each loss",
    ),
    "upscale": ("experiments.upscale", "your pictures, enlarged by a network that was trained"),
    "fast-style": ("experiments.fast_style", "a network that draws in one style, in one pass"),
    "stylise": ("experiments.stylise", "your pictures in a style, by a network that was trained"),
    "inpaint": ("experiments.inpaint", "a network that fills holes, under each loss"),
    "fill": ("experiments.fill", "your picture without something, by a network that was trained"),
    "claims": ("experiments.claims", "what is claimed for perceptual losses, measured"),
    "report": ("experiments.report", "one page over all runs: search, sort, two side by side"),
    "list": ("experiments.catalogue", "the distances there are"),
    "weights": ("experiments.weights", "list, get and verify pretrained weights"),
}
"""`{command: (module, one line)}`."""

_ON_MANY_HOSTS = ("two-afc", "image-mean", "autoencoder", "glo")
"""The commands that several processes can share."""

_SPARE_MEMORY = {
    "more": ("microbatches",),
    "a smaller": (
        *(
            "images_at_once",
            "pairs_at_once",
            "tile",
            "minibatch",
            "memory",
            "side_by_side",
            "batch",
        ),
        *("further_batch", "autoencoder_batch", "crop", "images_per_set", "sets", "pictures"),
        *("max_images", "size", "width"),
    ),
}
"""Which options help where memory runs out: first those that change no result."""

_INSTALL = "pip install 'perceptual-jax[experiments]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      arguments: what follows `perceptual-jax`; by default the program's own.

    Returns:
      The exit code: 0; 2 for input that cannot be used; 130 if it was stopped.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        from perceptual_jax import __version__

        print(__version__)
        return 0
    if command not in COMMANDS:
        from perceptual_jax.errors import nearest

        return _fail(f"there is no command {command!r}{nearest(command, COMMANDS)}; see --help")
    try:
        module = importlib.import_module(COMMANDS[command][0])
    except ModuleNotFoundError as error:
        return _fail(f"{command} needs the package {error.name}: {_INSTALL}")
    return _run(command, module, rest)


def _run(command: str, module: ModuleType, arguments: list[str]) -> int:
    import jax

    from experiments.common import hosts
    from experiments.common.loop import Interrupted
    from experiments.common.run_folder import check_given
    from perceptual_jax.errors import InputError
    from perceptual_jax.weights import cache_folder

    # A second run of a command need not compile again.
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    config: object = None
    try:
        if "--distributed" in arguments and command not in _ON_MANY_HOSTS:
            raise InputError(f"--distributed is for {', '.join(_ON_MANY_HOSTS)}; not for {command}")
        arguments = hosts.join(arguments)
        config = _parse(command, module, arguments)
        if getattr(config, "resume", False):
            check_given(command, config, _given(module, config, arguments))
        module.run(config)
    except InputError as error:
        return _fail(str(error))
    except Interrupted as interruption:
        print(interruption, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (MemoryError, OSError, jax.errors.JaxRuntimeError) as error:
        if _is_of_memory(error):
            code = _fail(_out_of_memory(command, config, error))
            if hosts.several():  # The others wait for what this one cannot give.
                os._exit(code)
            return code
        if isinstance(error, OSError):
            return _fail(f"{error.filename or command}: {error.strerror or error}")
        if not hosts.several():
            raise
        hosts.leave(str(error).split("\n")[0])
    return 0


def _is_of_memory(error: Exception) -> bool:
    """Whether Python, the system or XLA, which exhausts other things too, ran out of memory."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    return isinstance(error, MemoryError) or (
        "RESOURCE_EXHAUSTED" in text and re.search("memory|alloc", text, re.IGNORECASE) is not None
    )


def _out_of_memory(command: str, config: object, error: Exception) -> str:
    """What ran out, and the options of this command that help."""
    from perceptual_jax.errors import shortened

    found = str(error).split("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
    reason = f" ({shortened(found)})" if found else ""
    ways = []
    for how, names in _SPARE_MEMORY.items():
        # What is no number goes by the same name elsewhere: the pictures that `upscale` is given.
        flags = [
            f"--{name.replace('_', '-')}"
            for name in names
            if isinstance(getattr(config, name, ()), (int, float, type(None)))
        ]
        if flags:
            ways.append(f"{how} " + " or ".join(filter(None, [", ".join(flags[:-1]), flags[-1]])))
    remedy = f"try {'; or '.join(ways)}" if ways else "give smaller pictures, or more memory"
    if hasattr(config, "resume"):
        remedy += "; what a run has saved is kept, to go on from by --resume with more memory"
    return f"{command} ran out of memory{reason}: {remedy}"


def _parse(command: str, module: ModuleType, arguments: Sequence[str]) -> object:
    """The command's configuration: its preset's, with what the arguments change."""
    import tyro

    from perceptual_jax.errors import choice

    presets = module.PRESETS
    name = "default"
    if len(presets) > 1:
        parser = argparse.ArgumentParser(
            prog=f"perceptual-jax {command}", add_help=False, allow_abbrev=False
        )
        parser.add_argument("--preset", default=name)
        known, arguments = parser.parse_known_args(arguments)
        name = choice("--preset", known.preset, presets)
    description = (module.__doc__ or "").strip()
    if len(presets) > 1:
        description += f"\n\n--preset {{{','.join(presets)}}} changes the defaults shown:\n"
        description += _differences(presets)
    if command in _ON_MANY_HOSTS:
        description += (
            "\n\n--distributed shares the run with other processes, all started alike; where JAX "
            "does not find them by itself, with --coordinator HOST:PORT, --process-count N and "
            "--process-id I."
        )
    return tyro.cli(
        type(presets[name]),
        prog=f"perceptual-jax {command}",
        description=description,
        default=presets[name],
        args=arguments,
    )


def _differences(presets: Mapping[str, object]) -> str:
    """What each preset changes: a paragraph each, indented, so that its lines stay as they are."""
    from perceptual_jax.errors import shortened

    paragraphs = []
    for name, preset in presets.items():
        changed = _changed(preset, presets["default"]).items()
        said = ", ".join(f"{field}={shortened(repr(value), 40)}" for field, value in changed)
        if said:
            paragraphs.append(
                textwrap.fill(
                    f"{name}: {said}",
                    80,
                    initial_indent=" " * 4,
                    subsequent_indent=" " * 8,
                    break_on_hyphens=False,
                )
            )
    return "\n".join(paragraphs)


def _changed(config: object, default: object) -> dict[str, object]:
    """The fields of a configuration that are not as the default preset has them."""
    return {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
        if getattr(config, field.name) != getattr(default, field.name)
    }


def _given(module: ModuleType, config: object, arguments: Sequence[str]) -> set[str]:
    """The fields that arguments name; of a preset, those that it changes."""
    flags = {
        argument[2:].split("=")[0].replace("-", "_").removeprefix("no_")
        for argument in arguments
        if argument.startswith("--")
    }
    fields = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    if "preset" in flags:
        flags |= {*_changed(config, module.PRESETS["default"])}
    return flags & fields


def _usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: perceptual-jax COMMAND [options]",
            "",
            "Perceptual distances for JAX, and the experiments that tell which to choose.",
            "",
            *lines,
            "",
            "perceptual-jax COMMAND --help shows its options with their defaults.",
        ]
    )


def _fail(message: str) -> int:
    print(f"perceptual-jax: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
