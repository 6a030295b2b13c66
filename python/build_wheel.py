"""Packs dla/*.py and the built libdla.so into a wheel; a PEP 517 backend of the standard library alone.

`make wheel`, `pip wheel ./python` and `pip install ./python` all come here. The library is taken from $DLA_LIBRARY, or from ../build,
where `make build` leaves it. It links with the system's libjpeg, libpng and so on, so the wheel is for machines like the one it
was made on, and is tagged so (linux_x86_64, not manylinux).
"""

import base64
import hashlib
import os
import pathlib
import re
import sys
import sysconfig
import zipfile

HERE = pathlib.Path(__file__).resolve().parent


def project_version():
    text = (HERE.parent / "CMakeLists.txt").read_text()
    return re.search(r"project\(dla VERSION ([0-9.]+)", text).group(1)


def library_path():
    path = pathlib.Path(os.environ.get("DLA_LIBRARY", HERE.parent / "build" / "libdla.so"))
    if not path.exists():
        raise SystemExit(f"dla: no {path}: build the library first (make build), or say where it is in DLA_LIBRARY")
    return path.resolve()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    version = project_version()
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
    info = f"dla-{version}.dist-info"
    files = {f"dla/{path.name}": path.read_bytes() for path in sorted((HERE / "dla").iterdir()) if path.suffix in (".py", ".typed")}
    files["dla/libdla.so"] = library_path().read_bytes()
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: dla\nVersion: {version}\n"
        "Summary: Deep Layer Aggregation networks: NumPy in, NumPy out\nLicense: Apache-2.0\n"
        "Requires-Python: >=3.9\nRequires-Dist: numpy\nDescription-Content-Type: text/markdown\n\n"
    ).encode() + (HERE / "README.md").read_bytes()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: dla\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    files[f"{info}/LICENSE"] = (HERE.parent / "LICENSE").read_bytes()

    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()

    wheel = f"dla-{version}-{tag}.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))   # equal inputs, equal wheel
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return wheel


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    print(folder / build_wheel(folder))
