#!/usr/bin/env python3
"""What `cmake --install` lays down works from where it lies, a GPU's module included: the program finds it, the library
finds it, and so they do after the whole tree was moved. Builds for other folders are configured, not built: the folder
that the loader knows is the one that libraries go to.

usage: test_install.py CMAKE BUILD-FOLDER FAKE-MODULE BINDIR LIBDIR   (from the repository root; standard library only)"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

CMAKE, BUILD, FAKE, BIN, LIB = sys.argv[1:6]
SANITIZED = "WICK_SANITIZED" in os.environ
folder = tempfile.mkdtemp(prefix="wick_install_")
env = {k: v for k, v in os.environ.items() if not k.startswith(("WICK_", "XDG_", "LD_", "DESTDIR"))}
passed = failed = 0


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {str(detail)[-1500:]}")


def run(*args):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env, timeout=300)
    return p.returncode, p.stdout


def row(prefix):
    """What the doctor says of the kind cuda."""
    rc, out = run(os.path.join(prefix, BIN, "wick"), "doctor")
    found = [l for l in out.splitlines() if l.startswith("cuda")]
    check("doctor runs", rc in (0, 1) and len(found) >= 1, f"{rc} {out}")
    return found[0] if found else ""


def by_library(prefix):
    """What libwick.so says of it, from a process that is no program of ours."""
    code = """
import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
said = []
fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda ud, d: said.append(ctypes.string_at(d, 8 + 256 + 96 + 64 + 256)))
lib.wick_x_devices(None, 0, fn, None, None)
print(said)
"""
    return run(sys.executable, "-c", code, os.path.join(prefix, LIB, "libwick.so"))[1]


def installed():
    prefix = os.path.join(folder, "a", "usr")
    rc, out = run(CMAKE, "--install", BUILD, "--prefix", prefix)
    check("install", rc == 0, out)
    if rc:
        return
    module = os.path.join(prefix, LIB, "wick", "libwick_cuda.so")
    files = [os.path.join(at, f) for at, _, names in os.walk(prefix) for f in names if "cuda" in f]
    if os.path.exists(os.path.join(BUILD, "bin", "libwick_cuda.so")):
        check("the module is where it belongs, alone", files == [module], files)
        check("the module is found", "no module for cuda" not in row(prefix), row(prefix))
        for f in files:
            os.remove(f)
    else:
        check("no module", not files, files)
        print("the module itself is left out: this build has none")
    check("none is found where there is none", "no module for cuda" in row(prefix), row(prefix))
    os.makedirs(os.path.dirname(module), exist_ok=True)
    shutil.copy(FAKE, module)
    moved = os.path.join(folder, "b", "opt", "wick")
    for where in (prefix, moved):
        if where == moved:
            os.makedirs(os.path.dirname(moved))
            os.rename(prefix, moved)
        check(f"the program finds it in {where}", "fake device 0" in row(where), row(where))
        if SANITIZED:
            print("the library is left out: an instrumented one is not loaded into python")
        else:
            check(f"the library finds it in {where}", "fake device 0" in by_library(where), by_library(where))
    link = os.path.join(folder, "bin", "wick")
    os.makedirs(os.path.dirname(link))
    os.symlink(os.path.join(moved, BIN, "wick"), link)
    check("a link to the program finds it", "fake device 0" in run(link, "doctor")[1])


def configured(name, *options):
    """The loader's folder is where this build would install libraries to."""
    build = os.path.join(folder, name)
    rc, out = run(CMAKE, "-S", ".", "-B", build, "-DWICK_TESTS=OFF", "-DWICK_CUDA=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
                  "-DCMAKE_BUILD_TYPE=Release", *options)
    check(f"{name}: configures", rc == 0, out)
    if rc:
        return
    commands = json.load(open(os.path.join(build, "compile_commands.json"), encoding="utf-8"))
    loader = [c["command"] for c in commands if c["file"].endswith("gpu/loader/loader.c")]
    known = re.search(r'WK_LIBDIR=\\?"?\\?"([^"\\]+)', loader[0])[1]
    cache = open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8").read()
    place = {k: re.search(rf"^CMAKE_INSTALL_{k}:\w+=(.*)$", cache, re.M)[1] for k in ("PREFIX", "BINDIR", "LIBDIR")}
    full = {k: os.path.join(place["PREFIX"], place[k]) for k in ("BINDIR", "LIBDIR")}
    want, got = os.path.normpath(full["LIBDIR"]), os.path.normpath(os.path.join(full["BINDIR"], "..", known))
    check(f"{name}: {want}", got == want, f"{known} from {full['BINDIR']} is {got}")
    return want


def main():
    installed()
    plain = configured("usr", "-DCMAKE_INSTALL_PREFIX=/usr")
    if os.path.exists("/etc/debian_version"):
        check("Debian's folder", re.fullmatch("/usr/lib/[a-z0-9_]+-linux-gnu[a-z0-9]*", plain or ""), plain)
    else:
        print(f"not a Debian: /usr means {plain}")
    configured("lib64", "-DCMAKE_INSTALL_PREFIX=/opt/wick", "-DCMAKE_INSTALL_LIBDIR=lib64")
    configured("libexec", "-DCMAKE_INSTALL_PREFIX=/opt/wick", "-DCMAKE_INSTALL_BINDIR=libexec/wick")
    configured("apart", "-DCMAKE_INSTALL_PREFIX=/opt/wick", "-DCMAKE_INSTALL_LIBDIR=/srv/lib")
    shutil.rmtree(folder)
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
