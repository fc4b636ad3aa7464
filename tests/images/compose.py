"""Checks deploy/compose.yaml without Docker, and prints it as JSON with its anchors resolved.

    compose.py --iguazu BINARY --schema check-jsonschema [--compose BINARY]

`--compose` is Docker's own plugin, whose `config` must take it too. Problems are lines on stderr, and the exit code is 1.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/compose.yaml"
# Those that end when they are done.
ONCE = {"first-run", "registry-volume"}
# Nothing waits for them.
UNWATCHED = ONCE | {"registry", "prometheus", "alertmanager", "grafana"}

problems = []


def seconds(text):
    found = re.fullmatch(r"(\d+)s", text)
    return int(found[1])


def check_text(arguments):
    told = subprocess.run([arguments.schema, "--builtin-schema", "vendor.compose-spec", str(FILE)], capture_output=True, text=True, check=False)
    if told.returncode:
        problems.append(told.stdout + told.stderr)
    if arguments.compose:
        told = subprocess.run([arguments.compose, "--file", str(FILE), "config", "--quiet"], capture_output=True, text=True, check=False)
        if told.returncode or told.stderr:
            problems.append(f"docker compose config: {told.stderr}")


def check_services(compose):
    pom = (ROOT / "tests/kafka/pom.xml").read_text()
    tested = {
        "apache/kafka": re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>(.*?)</version>", pom)[1],
        "apicurio/apicurio-registry": re.search(r"<artifactId>apicurio-registry-app</artifactId>\s*<version>(.*?)</version>", pom)[1],
        "iguazu": re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1],
    }
    used = set()
    for name, service in compose["services"].items():
        image, _, tag = service["image"].partition(":")
        if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag) or tested.get(image, tag) != tag:
            problems.append(f"{name}: {service['image']} is not a whole version, or another than the tests run ({tested.get(image)})")
        for port in service.get("ports", []):
            if not port.startswith("127.0.0.1:"):
                problems.append(f"{name}: port {port} is open to the network")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("."):
                used.add(source)
            elif not (FILE.parent / source).exists() or not volume.endswith(":ro"):
                problems.append(f"{name}: {source} is not there, or may be written")
        for secret in service.get("secrets", []):
            if secret not in compose["secrets"]:
                problems.append(f"{name}: there is no secret {secret}")
        for other in service.get("depends_on", []):
            if other not in compose["services"]:
                problems.append(f"{name}: waits for {other}, which is not there")
        if ("healthcheck" in service) == (name in UNWATCHED):
            problems.append(f"{name}: has a health check, or none, and the other was expected")
        if name not in ONCE and service.get("restart") != "unless-stopped":
            problems.append(f"{name}: stays down when it ends")
        if any("PASSWORD" in key and not key.endswith("__FILE") for key in service.get("environment", {})):
            problems.append(f"{name}: has a password in its environment")
    if used != set(compose["volumes"]):
        problems.append(f"volumes {sorted(used)} are used, and {sorted(compose['volumes'])} are there")
    for name in ("proxy", "control"):
        service = compose["services"][name]
        if not service["read_only"] or service["cap_drop"] != ["ALL"]:
            problems.append(f"{name}: may do more than it needs")
        config = (ROOT / "deploy/compose/config" / Path(service["command"][1]).name).read_text()
        drain = re.search(r"^drain_seconds = (\d+)", config, re.M)
        # And `drain_delay_seconds`.
        if seconds(service["stop_grace_period"]) <= (int(drain[1]) if drain else 30) + 5:
            problems.append(f"{name}: is killed while it drains")


def check_configs(iguazu):
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        subprocess.run([ROOT / "deploy/compose/secrets.sh", at / "secrets"], check=True)
        for name in os.listdir(at / "secrets"):
            (at / "secrets" / name).chmod(0o400)
        for file in (ROOT / "deploy/compose/config").iterdir():
            (at / file.name).write_text(file.read_text().replace("/run/secrets", f"{at}/secrets").replace("/etc/iguazu/", f"{at}/").replace("/var/lib/", f"{at}/"))
        # The other source of event types, as the file shows it.
        ours = (at / "iguazu.toml").read_text()
        other = re.search(r"(?m)^#\[routes\]\n(?:#.*\n)+", ours)[0].replace("#", "")
        (at / "other.toml").write_text(re.sub(r"(?ms)^#\[routes\].*", lambda _: other, ours))
        (at / "proxy-token").write_text("a-token")
        (at / "proxy-token").chmod(0o400)
        told = subprocess.run([iguazu, "check", at / "other.toml"], capture_output=True, text=True, check=False)
        if told.returncode or "event types and senders come from the control plane at http://control:8090" not in told.stdout:
            problems.append(f"iguazu check with routes of the control plane: {told.stdout}{told.stderr}")
        for name in ("iguazu.toml", "iguazu-control.toml"):
            told = subprocess.run([iguazu, "check", at / name], capture_output=True, text=True, check=False)
            # What stays on one machine is not encrypted.
            if told.returncode or re.search("warning: (?!clusters.core.sasl: without `tls`)", told.stdout):
                problems.append(f"iguazu check {name}: {told.stdout}{told.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iguazu", required=True)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--compose")
    arguments = parser.parse_args()
    compose = yaml.safe_load(FILE.read_text())
    check_text(arguments)
    check_services(compose)
    check_configs(arguments.iguazu)
    json.dump(compose, sys.stdout)
    print("\n".join(problems), end="", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
