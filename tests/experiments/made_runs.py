"""Folders of runs, made up in a moment, as commands write them."""

import json

import numpy as np

import perceptual_jax as pj

HOSTILE = "\"><img src=x onerror=document.title='owned'><script>document.title='owned'</script>&'"


def write_run(
    runs,
    command,
    name,
    *,
    started="2026-01-02T03:04:05+00:00",
    options=None,
    results=None,
    pictures=("grid.png",),
    report=True,
    colour=(0.2, 0.5, 0.8),
    size=(32, 48),
):
    """A run's folder; what is None is not written."""
    folder = runs / command / name
    folder.mkdir(parents=True)
    config = {"distances": ["l2"], "seed": 0, "out": str(runs), "name": name, "resume": False}
    about = {
        "command": command,
        "config": config | (options or {}),
        "started": started,
        "versions": {"jax": "0.10.2"},
        "devices": ["cpu"],
        "weights": {"vgg16": {"source": "somewhere", "sha256": "ab" * 32}},
    }
    (folder / "config.json").write_text(json.dumps(about))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    if report:
        (folder / "report.html").write_text("<title>a report</title>")
    for picture in pictures:
        (folder / picture).parent.mkdir(exist_ok=True)
        pj.images.write(folder / picture, np.full((*size, 3), colour))
    return folder


def image_mean(runs, name, sharpness, **others):
    """A finished run of image-mean of that sharpness."""
    results = {"sharpness": {"l2": {"cat": 0.1}, "vgg16": {"cat": sharpness}}}
    return write_run(runs, "image-mean", name, results=results, **others)
