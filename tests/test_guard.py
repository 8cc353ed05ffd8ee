"""The tests' own guard: none of them reaches beyond this machine."""

import socket
import urllib.request

import pytest


def test_other_machines_cannot_be_reached():
    guard = pytest.raises(BaseException, match="is not this machine")
    with guard, socket.socket() as client:
        client.connect(("192.0.2.1", 80))  # An address of none, kept for documentation.
    with guard:
        socket.getaddrinfo("publisher.invalid", 443)
    with guard, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"", ("192.0.2.1", 53))
    with guard:
        urllib.request.urlopen("https://publisher.invalid/")


def test_this_machine_can():
    server = socket.create_server(("127.0.0.1", 0))
    with server:
        address = ("localhost", server.getsockname()[1])
        with socket.create_connection(address) as client:
            assert client.getpeername()[0] == "127.0.0.1"
