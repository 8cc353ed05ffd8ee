"""PyTorch files made by hand, to say what `torch.save` never would.

Pickles are bytes of instructions: `push` a plain value, `call` a global with what was pushed.
"""

import io
import pickle
import struct
import zipfile

FORMS = ("zip", "legacy")


def push(value) -> bytes:
    """A plain value: number, text, or a container of them."""
    return pickle.dumps(value, 2)[2:-1]


def named(name: str) -> bytes:
    """A global, such as `"os system"`."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def call(name: str, *arguments: bytes) -> bytes:
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def storage(form: str, *, count=4, key="0", dtype="torch FloatStorage", view=None) -> bytes:
    """The persistent id of a storage; that of the legacy format may be a view of it."""
    plain = push("storage") + named(dtype) + push(key) + push("cpu") + push(count)
    return b"(" + plain + (push(view) if form == "legacy" else b"") + b"tQ"


def tensor(form: str, shape, strides, offset=0, **of_storage) -> bytes:
    rest = push(offset) + push(shape) + push(strides) + b"\x89" + call("collections OrderedDict")
    return call("torch._utils _rebuild_tensor_v2", storage(form, **of_storage), rest)


def file(form: str, body: bytes, storages=None) -> bytes:
    """A file of a pickle and of storages; if the pickle alone names one, it has 16 bytes."""
    if storages is None:
        storages = {"0": bytes(16)} if b"Storage\n" in body else {}
    return (zip_file if form == "zip" else legacy_file)(b"\x80\x02" + body + b".", storages)


def zip_file(program: bytes, storages) -> bytes:
    parts = {"a/data.pkl": program, "a/byteorder": b"little"}
    return archive([*parts.items(), *((f"a/data/{key}", storages[key]) for key in storages)])


def legacy_file(program: bytes, storages, *, little=True, itemsize=4) -> bytes:
    header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": little, "type_sizes": {"int": 4}})
    data = b"".join(
        struct.pack("<q", len(storages[key]) // itemsize) + storages[key] for key in storages
    )
    keys = pickle.dumps(list(storages), 2)
    return b"".join(pickle.dumps(each, 2) for each in header) + program + keys + data


def archive(entries, compression=zipfile.ZIP_STORED) -> bytes:
    """A ZIP archive of `(name, bytes)`, in their order."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in entries:
            # An entry of no date: the bytes are the same every day.
            made.writestr(zipfile.ZipInfo(name), data, compression)
    return file.getvalue()


def entries(data: bytes) -> dict[str, bytes]:
    """What is in an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as made:
        return {name: made.read(name) for name in made.namelist()}
