"""Archives as bytes, and as files of this machine."""
import hashlib
import io
import tarfile
import zipfile

from tests.datasets.served import archive


def tar(files, mode="w", *more):
    """A tar of {path: bytes}. `more`: (TarInfo, content) put in after the first file."""
    entries = []
    for name, content in files.items():
        entries.append((tarfile.TarInfo(name), content))
        entries[-1][0].size = len(content)
    entries[1:1] = more
    with tarfile.open(fileobj=(file := io.BytesIO()), mode=mode) as made:
        for info, content in entries:
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(files, *more):
    """A zip of {path: bytes}. `more`: (ZipInfo, content) put in last."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as made:
        for info, content in (*((zipfile.ZipInfo(name), content) for name, content in files.items()), *more):
            made.writestr(info, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def placed(path, content, known=False):
    """Write an archive of that content to `path`; the entry of the settings that names it, with its MD5 where it is known."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return archive(str(path), name=path.name, md5=hashlib.md5(content).hexdigest() if known else None, size=None)
