"""Checks deploy/Dockerfile, and carries out its steps without Docker: in a scratch copy of what its `COPY` lines name.

    dockerfile.py FOLDER --hadolint BINARY --binary IGUAZU    all but `apt-get` and `cargo build`, whose result is this binary
    dockerfile.py FOLDER --hadolint BINARY --long             with the release build

Then it looks at the root of the image: what is in it, and that a proxy and its probe run there with nothing else, as the
image's user where this is root. Problems are lines on stdout, and the exit code is 1. FOLDER must not exist.
"""

import argparse
import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/Dockerfile"
# What the root may hold beside libraries: the binary, what is trusted, who the user is, what things are and their licences.
KNOWN = ["etc/*", "usr/bin/iguazu", "usr/share/doc/*", "var/lib/dpkg/status.d/*", "var/lib/iguazu", "var/lib/iguazu-control"]

problems = []


def instructions():
    """(stage, instruction, arguments) of each; a heredoc is not understood, and there is none."""
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    stage, found = None, []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, arguments = line.strip().partition(" ")
        if word == "FROM":
            stage = arguments.split(" AS ")[1] if " AS " in arguments else "image"
        found.append((stage, word, arguments.strip()))
    return found


def of(stage, word):
    return [arguments for at, name, arguments in instructions() if (at, name) == (stage, word)]


def ignored(path):
    """Whether .dockerignore keeps it out of the build's context; of its patterns we use `*` and `!PATH`."""
    taken = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    return not taken & {path, *map(str, Path(path).parents)}


def check_text(hadolint):
    linted = subprocess.run([hadolint, "--failure-threshold", "style", "--no-color", str(FILE)], capture_output=True, text=True, check=False)
    if linted.returncode:
        problems.append(linted.stdout + linted.stderr)
    (packages,) = re.findall(r"apt-get install --yes --no-install-recommends (.*?) &&", " ".join(of("build", "RUN")))
    listed = re.search(r"^build_packages=\((.*?)^\)", (ROOT / "deploy/packages.sh").read_text(), re.M | re.S)[1]
    wanted = {line.split()[1] for line in re.findall(r'"(.*)"', listed)}
    if set(packages.split()) != wanted:
        problems.append(f"apt-get installs {sorted(packages.split())}, and deploy/packages.sh says {sorted(wanted)}")
    cargo = (ROOT / "Cargo.toml").read_text()
    needed = [int(part) for part in re.search(r'^rust-version = "(.*)"', cargo, re.M)[1].split(".")]
    rust = [int(part) for part in re.search(r"^ARG RUST_IMAGE=rust:([\d.]+)-slim-\w+$", FILE.read_text(), re.M)[1].split(".")]
    if rust < needed or len(rust) != 3:
        problems.append(f"Rust {rust} is not a whole version, or older than Cargo.toml's {needed}")
    if of("image", "ARG")[0] != "VERSION=" + re.search(r'^version = "(.*)"', cargo, re.M)[1]:
        problems.append("VERSION is not that of Cargo.toml")
    if of("image", "USER") != ["65532:65532"] or of("image", "STOPSIGNAL") != ["SIGTERM"] or of("image", "RUN"):
        problems.append("the image must have the user 65532:65532, end at SIGTERM, and run nothing")
    if json.loads(of("image", "ENTRYPOINT")[0]) != ["/usr/bin/iguazu"]:
        problems.append("the image's entry is not the binary")
    if any(word == "ADD" for _, word, _ in instructions()):
        problems.append("ADD unpacks and downloads; use COPY")


def carry_out(folder, binary):
    """The stage `build`, in order; its folder."""
    build = folder / "build"
    build.mkdir(parents=True)
    if of("build", "WORKDIR") != ["/build"] or json.loads(of("build", "SHELL")[0]) != ["/bin/bash", "-o", "pipefail", "-c"]:
        raise SystemExit("this script knows another folder or shell than the Dockerfile")
    for stage, word, arguments in instructions():
        if stage != "build":
            continue
        if word == "COPY":
            *sources, to = arguments.split()
            for source in sources:
                if ignored(source):
                    problems.append(f".dockerignore keeps {source} out")
                # As Docker: several, and what goes to a path with a slash at its end, go into that folder by their last name.
                copy(ROOT / source, build / to if len(sources) == 1 and not to.endswith("/") else build / to / Path(source).name)
        elif word == "RUN" and not arguments.startswith("apt-get"):
            if "cargo build" in arguments and binary:
                steps(build, "cargo metadata --locked --offline --no-deps --format-version 1 > /dev/null")
                (build / "target/release").mkdir(parents=True, exist_ok=True)
                shutil.copy2(binary, build / "target/release/iguazu")
            else:
                steps(build, arguments)
    return build


def copy(source, to):
    if source.is_dir():
        shutil.copytree(source, to, dirs_exist_ok=True)
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, to)


def steps(folder, line):
    # As in the image: what the caller's environment says of Cargo's target is not known there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARGO_TARGET")}
    ran = subprocess.run(["/bin/bash", "-o", "pipefail", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"RUN {line}\nended with {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")


def assemble(folder, build):
    """The image's root, as its `COPY` lines make it."""
    image = folder / "image"
    for arguments in of("image", "COPY"):
        *flags, source, to = arguments.split()
        if "--from=build" not in flags or not source.startswith("/build/"):
            problems.append(f"COPY {arguments}: from elsewhere than the build")
        source, to = build / source.removeprefix("/build/"), image / to.lstrip("/")
        shutil.copytree(source, to, dirs_exist_ok=True)
        owner = next((flag.removeprefix("--chown=") for flag in flags if flag.startswith("--chown=")), None)
        if owner and os.geteuid() == 0:
            for path in source.iterdir():
                os.chown(to / path.name, *map(int, owner.split(":")))
    return image


def check_root(image):
    libraries = {str(Path(line).relative_to("/")) for line in (image.parent / "build/libraries").read_text().splitlines()}
    for path in sorted(image.rglob("*")):
        name = str(path.relative_to(image))
        if path.is_symlink():
            problems.append(f"/{name} is a link: what it leads to may not be there")
        elif path.is_file() and name not in libraries and not any(fnmatch.fnmatch(name, known) for known in KNOWN):
            problems.append(f"/{name} is in the image, and nobody knows what for")
        if path.is_file() and path.stat().st_mode & 0o6000:
            problems.append(f"/{name} is run with another's rights")
    packages = {path.name for path in (image / "var/lib/dpkg/status.d").iterdir()}
    if not {"libc6", "zlib1g"} <= packages or not any(name.startswith("libssl3") for name in packages):
        problems.append(f"scanners find only {sorted(packages)}")


def run_in(image, *arguments, **options):
    if os.geteuid() == 0:
        user = ["chroot", "--userspec=65532:65532", str(image)]
    else:
        user = ["unshare", "--user", "--map-root-user", "--root", str(image)]
    environment = dict(setting.split("=", 1) for setting in of("image", "ENV"))
    # The proxy must not outlive this script.
    command = ["setpriv", "--pdeathsig", "KILL", *user, "/usr/bin/iguazu", *arguments]
    return subprocess.Popen(command, env={**environment, "PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def check_runs(image):
    version = run_in(image, "--version").communicate(timeout=60)
    if not version[0].startswith("iguazu "):
        problems.append(f"--version: {version}")
        return
    state = "/var/lib/iguazu"
    (image / "etc/iguazu").mkdir()
    # Nobody is at port 1, so that the proxy starts degraded; TLS without `ca_file` reads the authorities.
    (image / "etc/iguazu/iguazu.toml").write_text(
        f'state_dir = "{state}/state"\nstartup_wait_seconds = 0\n[http]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
        '[clusters.core]\nbrokers = ["127.0.0.1:1"]\ntls = true\nregistry = "main"\n[registries.main]\nurls = ["https://127.0.0.1:1"]\n'
        f'[spool]\nfolder = "{state}/spool"\n[events.e]\ncluster = "core"\ntopic = "t"\nencoding = "raw_json"\n'
    )
    proxy = run_in(image, "proxy", "/etc/iguazu/iguazu.toml", "--ready-file", f"{state}/ready", "--log-level", "error")
    try:
        told = image / state.lstrip("/") / "ready"
        until = time.monotonic() + 60
        while not (told.exists() and told.read_text().strip()):
            if proxy.poll() is not None or time.monotonic() > until:
                proxy.kill()
                problems.append(f"the proxy does not run in the image: {proxy.communicate()}")
                return
            time.sleep(0.05)
        admin = json.loads(told.read_text())["admin"]
        for path, code in (("live", 0), ("nothing", 1)):
            probe = run_in(image, "probe", f"http://{admin}/{path}", "--timeout", "30")
            answer = probe.communicate(timeout=60)
            if probe.returncode != code:
                problems.append(f"probe of /{path} ended with {probe.returncode}: {answer}")
    finally:
        proxy.send_signal(signal.SIGTERM)
        out, err = proxy.communicate(timeout=90)
    if proxy.returncode:
        problems.append(f"the proxy ended with {proxy.returncode}: {out}{err}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hadolint", required=True)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--binary", type=Path)
    how.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    check_text(arguments.hadolint)
    build = carry_out(arguments.folder, arguments.binary)
    image = assemble(arguments.folder, build)
    check_root(image)
    size = sum(path.stat().st_size for path in image.rglob("*") if path.is_file())
    if arguments.long and size > 64_000_000:
        problems.append(f"the image has {size} bytes")
    check_runs(image)
    print("\n".join(problems) if problems else f"ok, {size} bytes")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
