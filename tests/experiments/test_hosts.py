"""Processes that share a run, as far as one alone can see; test_many_processes.py starts some."""

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import hosts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator", "a:1"], "--coordinator needs --distributed"),
        (["--process-id", "0"], "--process-id needs --distributed"),
        (["--distributed", "--process-count", "two"], "--process-count must be a whole number"),
        (
            ["--distributed", "--process-count", "2", "--process-id", "2"],
            "--process-id must be from 0 to 1, of 2; got 2",
        ),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(pj.InputError, match=message):
        hosts.join(arguments)


def test_processes_that_are_not_to_be_found(monkeypatch):
    """What JAX says of it is said with what to do."""

    def initialize(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(pj.InputError, match=r"coordinator_address should be .* --coordinator HOST"):
        hosts.join(["--distributed"])


def test_joining_takes_its_arguments_or_the_environments(monkeypatch):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: asked.append(given))
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    left = hosts.join(["--size", "8", "--distributed", "--coordinator", "a:1", "--epochs", "2"])
    assert left == ["--size", "8", "--epochs", "2"]
    assert asked == [("a:1", 4, 3)]


def test_other_arguments_are_left_alone():
    assert hosts.join(["--size", "8"]) == ["--size", "8"]


@pytest.mark.parametrize(("count", "processes"), [(7, 2), (3, 4), (8, 4), (1, 3)])
def test_every_problem_is_some_processes(monkeypatch, count, processes):
    """As many on each; put one after the other and cut, they are all of them in order."""
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    rows = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        rows.append(hosts.own_rows(count))
    assert len({len(each) for each in rows}) == 1
    np.testing.assert_array_equal(np.concatenate(rows)[:count], np.arange(count))


def test_commands_that_cannot_be_shared_say_so(cli):
    outcome = cli("compare", "a.png", "b.png", "--distributed")
    assert outcome.code == 2
    assert (
        "--distributed is for two-afc, image-mean, autoencoder, glo; not for compare" in outcome.err
    )
