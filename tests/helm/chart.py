"""Checks the chart deploy/helm/iguazu: what Helm makes of it, and what we want of that.

    chart.py check --iguazu BINARY    without Helm: the recorded renders in tests/golden/helm
    chart.py render --helm BINARY     with Helm: lint, renders and refusals are as recorded; `--record` records them

`check` needs kubernetes-validate and PyYAML; `render` PyYAML. Problems are lines on stdout, and the exit code is 1.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/iguazu"
RULES = ROOT / "deploy/prometheus"
DASHBOARDS = ROOT / "deploy/grafana/dashboards"
GOLDEN = ROOT / "tests/golden/helm"
RUNBOOKS = "deploy/docs/runbooks.md#"
SCHEMAS = Path(__file__).parent / "schemas"
NAMES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
# The oldest that Chart.yaml allows, and the newest that the validator knows.
KUBERNETES = ["1.30.0", "1.37.0"]

# What must be refused: values, beside those of a file in ci/ if one is named, and words of the refusal.
REFUSED = [
    ("unknown key", "minimal", {"proxy": {"replica": 3}}, "additional properties 'replica' not allowed"),
    ("unknown setting", "minimal", {"proxy": {"settings": {"spool": {}}}}, "additional properties 'spool' not allowed"),
    ("words for a number", "autoscaling", {"proxy": {"autoscaling": {"maxReplicas": "ten"}}}, "got string, want integer"),
    ("more at least than at most", "autoscaling", {"proxy": {"autoscaling": {"minReplicas": 41}}}, "minReplicas is more than maxReplicas"),
    ("durable on a volume that goes with its pod", "production", {"proxy": {"spool": {"kind": "ephemeral"}}}, "promises what is on disk beyond the end of a pod"),
    ("ordered without a spool", "production",
     {"proxy": {"spool": {"kind": "none"}, "routes": {"events": {"payments.captured": {"reply": "enqueued"}}}}}, "`ordered = true` needs a disk"),
    ("no cluster", None, {"proxy": {"settings": {"http": {"unauthenticated": True}}}}, "proxy.settings.clusters: there is none"),
    ("a listener of one's own", "minimal", {"proxy": {"settings": {"http": {"listen": "127.0.0.1:1"}}}}, "proxy.settings.http.listen is the chart's"),
    ("a drain shorter than a read", "minimal", {"proxy": {"settings": {"http": {"drain_seconds": 9}}}}, "must be more than read_timeout_seconds"),
    ("events of two sources", "autoscaling", {"proxy": {"routes": {"events": {"e": {"cluster": "core", "topic": "t", "encoding": "raw_json"}}}}}, "beside existingConfigMap"),
    ("events beside a control plane", "control", {"proxy": {"routes": {"existingConfigMap": "ours"}}}, "come from the control plane"),
    ("a control plane without its key", "control", {"proxy": {"routes": {"control": {"public_key": ""}}}}, "proxy.routes.control.public_key: missing"),
    ("two nodes on SQLite", "control", {"control": {"store": "sqlite"}}, "several nodes need `store: postgres`"),
    ("Postgres nowhere", "control", {"control": {"postgres": {"url": ""}}}, "control.postgres.url: missing"),
    ("a password in the address", "control", {"control": {"postgres": {"url": "postgres://iguazu:secret@db/iguazu"}}}, "does not match pattern"),
    ("a control plane in clear", "autoscaling", {"control": {"tls": {"elsewhere": False}}}, "must not cross the network in clear"),
    ("a control plane that Prometheus cannot verify", "control", {"monitoring": {"serviceMonitor": {"tlsConfig": None}}}, "which no certificate names"),
    ("callers without Prometheus", "control", {"networkPolicy": {"monitoring": []}}, "Prometheus would be shut out"),
    ("a key that is no hash", "production", {"proxy": {"routes": {"senders": {"everything": {"key_hashes": ["secret"]}}}}}, "does not match pattern"),
    ("a tag that is no digest", "minimal", {"image": {"digest": "latest"}}, "does not match pattern"),
]

problems = []


def problem(where, what):
    problems.append(f"{where}: {what}")


# What the renders were made from. The rules of Prometheus are left out: they are compared by themselves.
def fingerprint():
    digest = hashlib.sha256()
    for path in sorted(path for path in CHART.rglob("*") if path.is_file() and not {"files", "README.md"} & set(path.relative_to(CHART).parts)):
        digest.update(f"{path.relative_to(CHART)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest() + "\n"


def rule_groups():
    documents = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [group for document in documents for group in document.get("groups") or []]


def values_table():
    """The table of README.md: every value that stands in values.yaml, its default and its comment."""
    rows, stack, comment = ["| Value | Default | |", "|---|---|---|"], [], []
    for line in (CHART / "values.yaml").read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.lstrip("# "))
            continue
        found = re.match(r"^( *)([A-Za-z]\w*):(.*)$", line)
        if found:
            depth, name, default = len(found[1]) // 2, found[2], found[3].strip()
            stack = stack[:depth] + [name]
            if default:
                rows.append(f"| `{'.'.join(stack)}` | `{default}` | {' '.join(comment).replace('|', chr(92) + '|')} |")
            elif comment:
                rows.append(f"| `{'.'.join(stack)}` | | {' '.join(comment).replace('|', chr(92) + '|')} |")
        comment = []
    return "\n".join(rows) + "\n"


def readme():
    head, mark, _ = (CHART / "README.md").read_text().partition("by `tests/helm/run.sh --record`. -->\n")
    return f"{head}{mark}\n{values_table()}"


# ---- with Helm


def helm(binary, *arguments, values=None):
    environment = {**os.environ, "HELM_CACHE_HOME": "/nonexistent", "HELM_CONFIG_HOME": "/nonexistent", "HELM_DATA_HOME": "/nonexistent"}
    return subprocess.run([binary, *arguments], capture_output=True, text=True, env=environment, input=values, check=False, timeout=120)


def render(binary, name, *more):
    values = ["-f", str(CHART / f"ci/{name}.yaml")] if name else []
    return helm(binary, "template", name or "bare", str(CHART), "--namespace", "events", "--kube-version", "1.36.0", *values, *more)


def reduced(name, text):
    """The render as it is recorded: rules and dashboards are compared with their files here, and left out."""
    documents = re.split(r"^---$", text, flags=re.M)
    for index, document in enumerate(documents):
        document = with_runbooks_of_here(name, document)
        parsed = yaml.safe_load(document)
        if parsed and parsed["kind"] == "PrometheusRule":
            if parsed["spec"]["groups"] != rule_groups():
                problem(name, "the groups of the PrometheusRule are not those of deploy/prometheus/*.yml")
            parsed["spec"]["groups"], left_out = [], "the groups of deploy/prometheus/*.yml"
        elif parsed and "-dashboard-" in parsed["metadata"]["name"]:
            ((file, content),) = parsed["data"].items()
            if json.loads(content) != json.loads((DASHBOARDS / file).read_text()):
                problem(name, f"the dashboard {file} is not that of deploy/grafana")
            parsed["data"], left_out = {file: "{}"}, "the dashboard"
        else:
            continue
        source = document.strip().splitlines()[0]
        documents[index] = f"\n{source}\n# Left out: {left_out}.\n{yaml.safe_dump(parsed, sort_keys=False, width=1000)}"
    return "---".join(documents)


def with_runbooks_of_here(name, document):
    """A document with the `runbook_url` of our own files, after a look that it was the address that the values say."""
    monitoring = yaml.safe_load((CHART / f"ci/{name}.yaml").read_text()).get("monitoring", {})
    runbooks = monitoring.get("prometheusRule", {}).get("runbookUrl")
    if runbooks and "kind: PrometheusRule" in document:
        if f"runbook_url: {RUNBOOKS}" in document or f"runbook_url: {runbooks}#" not in document:
            problem(name, f"the runbooks are not at {runbooks}")
        return document.replace(f"{runbooks}#", RUNBOOKS)
    return document


def with_helm(binary, record):
    for name in NAMES:
        linted = helm(binary, "lint", "--strict", str(CHART), "-f", str(CHART / f"ci/{name}.yaml"))
        if linted.returncode or "0 chart(s) failed" not in linted.stdout:
            problem(name, f"helm lint: {linted.stdout}{linted.stderr}")
        rendered = render(binary, name)
        if rendered.returncode:
            problem(name, f"helm template: {rendered.stderr}")
            continue
        compare(f"{name}.yaml", reduced(name, rendered.stdout), record)
    told = []
    for name in NAMES:
        installed = helm(binary, "install", name, str(CHART), "--dry-run=client", "--namespace", "events", "-f", str(CHART / f"ci/{name}.yaml"))
        told.append(f"---- {name}\n{installed.stdout.partition('NOTES:')[2].strip()}\n{'' if installed.returncode == 0 else installed.stderr}")
    compare("notes.txt", "".join(told), record)
    told = []
    for what, name, values, words in REFUSED:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(values, file)
            file.flush()
            refused = render(binary, name, "-f", file.name)
        message = " ".join(line.strip() for line in refused.stderr.splitlines() if "level=INFO" not in line).partition(" Use --debug")[0].strip()
        if not refused.returncode:
            problem(what, "is rendered and must be refused")
        elif words not in message:
            problem(what, f"is refused in other words than `{words}`: {message}")
        told.append(f"{what}:\n  {re.sub(r'^Error: |execution error at ', '', message)}\n")
    compare("refused.txt", "".join(told), record)
    if record:
        (CHART / "README.md").write_text(readme())
        (GOLDEN / "fingerprint").write_text(fingerprint())


def compare(name, text, record):
    golden = GOLDEN / name
    if record:
        golden.write_text(text)
    elif not golden.exists() or text != golden.read_text():
        problem(name, f"Helm makes other than {golden.relative_to(ROOT)}; if that is meant: tests/helm/run.sh --record")


# ---- without


def check(iguazu):
    if (GOLDEN / "fingerprint").read_text() != fingerprint():
        problem("tests/golden/helm", "the chart or its values have changed since; record again: tests/helm/run.sh --record")
    if (CHART / "README.md").read_text() != readme():
        problem("deploy/helm/iguazu/README.md", "its table is not that of values.yaml; make it again: tests/helm/run.sh --record")
    _, _, values = (CHART / "ci/events.yaml").read_text().partition("\n")
    if f"```yaml\n{values}```\n" not in (CHART / "README.md").read_text():
        problem("deploy/helm/iguazu/README.md", "the walk has other values than ci/events.yaml")
    if sorted(path.stem for path in GOLDEN.glob("*.yaml")) != NAMES:
        problem("tests/golden/helm", f"there must be one render for each of {NAMES}")
    for what, _, _, words in REFUSED:
        if not re.search(rf"^{re.escape(what)}:\n  .*{re.escape(words)}", (GOLDEN / "refused.txt").read_text(), re.M):
            problem("tests/golden/helm/refused.txt", f"`{what}` is not recorded as refused with `{words}`")
    check_schema()
    recorded = set(re.findall(r"^  (\S+\.json):", (GOLDEN / "autoscaling.yaml").read_text(), re.M))
    if recorded != {path.name for path in DASHBOARDS.glob("*.json")}:
        problem("tests/golden/helm/autoscaling.yaml", "has other dashboards than deploy/grafana; record again: tests/helm/run.sh --record")
    seen = set()
    for name in NAMES:
        objects = [found for found in yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text()) if found]
        for found in objects:
            seen.add(found["kind"])
            validate(name, found)
        Release(name, objects, yaml.safe_load((CHART / f"ci/{name}.yaml").read_text())).check(iguazu)
    wanted = {"ConfigMap", "Deployment", "StatefulSet", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
              "ServiceMonitor", "PrometheusRule", "ServiceAccount", "Job"}
    if wanted - seen:
        problem("tests/golden/helm", f"no render has {sorted(wanted - seen)}")


# Settings that are not to be written below `proxy.settings` or `control.settings`, since the chart writes them from values of its own.
OF_THE_CHART = {
    "proxy.settings": ["state_dir", "schemas_file", "admin", "spool", "routes", "events", "senders", "failed.folder"],
    "control.settings": [],
}


def check_schema():
    """values.schema.json has every setting of the reference where it lists settings one by one, and no other."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    proxy, control = (settings_of(title) for title in ("The proxy", "The management plane"))
    # The plane reaches clusters and registries by the words of the proxy.
    control |= {setting for setting in proxy if setting.startswith(("clusters.", "registries."))}
    for value, listed in (("proxy.settings", proxy), ("control.settings", control)):
        place = schema
        for part in value.split("."):
            place = place["properties"][part]
        ours = OF_THE_CHART[value]
        for setting in sorted(listed):
            is_ours = any(f"{setting}.".startswith(f"{one}.") for one in ours)
            if is_ours == allows(place, setting.split(".")):
                problem("values.schema.json", f"{value}: `{setting}` is {'the chart’s own, and can be set' if is_ours else 'a setting, and cannot be set'}")
        for setting in sorted(".".join(path) for path in leaves(place)):
            if not any(f"{one}.".startswith(f"{setting}.") for one in listed):
                problem("values.schema.json", f"{value}: `{setting}` is no setting")


def settings_of(title):
    """The settings that a part of the reference lists, which is made from the code: `http.listen`, `clusters.NAME.brokers`."""
    _, _, section = (ROOT / "deploy/docs/settings.md").read_text().partition(f"\n## {title}\n")
    listed, table = set(), ""
    for line in section.partition("\n## ")[0].splitlines():
        if heading := re.match(r"### `\[(.*)\]`", line):
            table = heading[1] + "."
        elif row := re.match(r"\| `([a-z_.]+)` \|", line):
            listed.add(table + row[1])
    if not listed:
        problem("deploy/docs/settings.md", f"lists no settings below `{title}`")
    return listed


def allows(schema, path):
    for part in path:
        known = schema.get("properties", {})
        if part in known:
            schema = known[part]
        else:
            other = schema.get("additionalProperties", True)
            if not isinstance(other, dict):
                return other
            schema = other
    return True


def leaves(schema, path=()):
    known = schema.get("properties", {})
    for part, inner in known.items():
        yield from leaves(inner, (*path, part))
    if isinstance(schema.get("additionalProperties"), dict) and path:
        yield from leaves(schema["additionalProperties"], (*path, "NAME"))
    elif not known:
        yield path


def validate(name, found):
    import jsonschema
    import kubernetes_validate

    where = f"{name}: {found['kind']} {found['metadata']['name']}"
    if found["apiVersion"] == "monitoring.coreos.com/v1":
        if found["kind"] == "PrometheusRule":
            found["spec"]["groups"] += rule_groups()
        schema = SCHEMAS / f"{found['kind'].lower()}.json"
        if not schema.exists():
            return problem(where, f"there is no {schema.relative_to(ROOT)}")
        for error in jsonschema.Draft7Validator(json.loads(schema.read_text())).iter_errors(found):
            problem(where, f"{error.json_path}: {error.message}")
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            message = getattr(error, "message", str(error))
            problem(where, f"Kubernetes {version} refuses it: {getattr(error, 'json_path', '')} {message}")


class Release:
    """One render and our own rules for it."""

    def __init__(self, name, objects, values):
        self.name, self.objects, self.values = name, objects, values

    def of(self, *kinds):
        return [found for found in self.objects if found["kind"] in kinds]

    def problem(self, found, what):
        problem(f"{self.name}: {found['kind']} {found['metadata']['name']}", what)

    def check(self, iguazu):
        names = [(found["kind"], found["metadata"]["name"]) for found in self.objects]
        for twice in {name for name in names if names.count(name) > 1}:
            problem(self.name, f"{twice} is there twice")
        workloads = self.of("Deployment", "StatefulSet", "Job")
        for workload in workloads:
            self.check_pod(workload, workload["spec"]["template"]["spec"])
        for workload in self.of("Deployment", "StatefulSet"):
            self.check_workload(workload)
        self.check_selectors(workloads)
        self.check_process_settings()
        self.check_callers()
        self.check_drains()
        self.check_references()
        self.check_configs(iguazu)

    def check_pod(self, workload, pod):
        security = pod["securityContext"]
        if not (security["runAsNonRoot"] and security["runAsUser"] >= 1000 and security["seccompProfile"]["type"] == "RuntimeDefault"):
            self.problem(workload, f"pod security: {security}")
        if pod.get("automountServiceAccountToken") is not False:
            self.problem(workload, "mounts a token of Kubernetes that nobody needs")
        for kind in ("hostNetwork", "hostPID", "hostIPC", "hostPath"):
            if kind in json.dumps(pod):
                self.problem(workload, f"has {kind}")
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for container in pod["containers"] + pod.get("initContainers", []):
            own = container["securityContext"]
            if own != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
                self.problem(workload, f"container security: {own}")
            resources = container["resources"]
            if not (resources["requests"].get("cpu") and resources["requests"].get("memory") and resources["limits"].get("memory")):
                self.problem(workload, f"resources: {resources}")
            mounted = [mount["name"] for mount in container["volumeMounts"]]
            if set(mounted) != volumes or len(mounted) != len(set(mounted)):
                self.problem(workload, f"volumes {sorted(volumes)}, mounted {sorted(mounted)}")
            if any("subPath" in mount for mount in container["volumeMounts"]):
                self.problem(workload, "a subPath is never updated, so that nothing there would be read again")
            if re.search(r":(latest)?$", container["image"]) or not re.search(r":|@sha256:", container["image"]):
                self.problem(workload, f"image {container['image']} names no version")
        for volume in pod["volumes"]:
            if "secret" in volume and volume["secret"]["defaultMode"] & 0o007:
                self.problem(workload, f"everybody may read {volume['name']}")
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                self.problem(workload, f"{volume['name']} has no limit")

    def check_workload(self, workload):
        spec = workload["spec"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if container[probe]["httpGet"]["port"] not in ports:
                self.problem(workload, f"{probe} asks a port that is not there")
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = self.setting(workload, "drain_seconds", 20) + self.setting(workload, "drain_delay_seconds", 5)
        grace = pod["terminationGracePeriodSeconds"]
        if grace <= pause + drain:
            self.problem(workload, f"{grace} s to end, and {pause} + {drain} s are needed")
        # Whoever asks must have seen that it is not ready before it takes nothing any more.
        startup = container["startupProbe"]
        if startup["periodSeconds"] * startup["failureThreshold"] <= self.setting(workload, "startup_wait_seconds", 20):
            self.problem(workload, "is ended before it may start degraded")
        if not re.fullmatch(r"[0-9a-f]{64}", spec["template"]["metadata"]["annotations"]["checksum/process"]):
            self.problem(workload, "does not roll when its settings change")

    def setting(self, workload, name, default):
        """What the configuration of a workload says; those of the control plane are constants of its own (`control::node`)."""
        names = [volume.get("configMap", {}).get("name") for volume in workload["spec"]["template"]["spec"]["volumes"]]
        text = "".join(found["data"].get("iguazu.toml", "") for found in self.of("ConfigMap") if found["metadata"]["name"] in names)
        found = re.search(rf"^{name} = (\d+)$", text, re.M)
        return int(found[1]) if found else default

    def check_selectors(self, workloads):
        labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads]
        meets = lambda selector, have: selector.items() <= have.items()
        selectors = []
        for found in self.objects:
            spec = found.get("spec", {})
            for selector in (spec.get("selector"), spec.get("podSelector")):
                if selector and found["kind"] != "ServiceMonitor":
                    selectors.append((found, selector.get("matchLabels", selector)))
        for found, selector in selectors:
            chosen = sum(meets(selector, have) for have in labels)
            if chosen != 1:
                self.problem(found, f"chooses {chosen} kinds of pods")
        for workload in self.of("Deployment", "StatefulSet"):
            spec = workload["spec"]
            own = spec["selector"]["matchLabels"]
            if not meets(own, spec["template"]["metadata"]["labels"]):
                self.problem(workload, "does not choose its own pods")
            for spread in spec["template"]["spec"]["topologySpreadConstraints"]:
                if spread["labelSelector"]["matchLabels"] != own:
                    self.problem(workload, "spreads over other pods than its own")
            for kind in ("PodDisruptionBudget", "NetworkPolicy"):
                if not any(meets(self.selector(found), own) for found in self.of(kind)):
                    self.problem(workload, f"has no {kind}")
        for monitor in self.of("ServiceMonitor"):
            chosen = [service for service in self.of("Service") if meets(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])]
            ports = [port["name"] for service in chosen for port in service["spec"]["ports"]]
            if ports != [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]]:
                self.problem(monitor, f"chooses services with ports {ports}")

    def check_process_settings(self):
        """They reach a pod by a roll and in no other way: a proxy takes a changed file up while it runs."""
        for found in self.of("ConfigMap"):
            if "iguazu.toml" not in found["data"]:
                continue
            kept = found["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
            if not (found.get("immutable") and kept and re.search("-proxy-[0-9a-f]{10}$", found["metadata"]["name"])):
                self.problem(found, f"is changed below pods that run, or goes while they do")

    def check_callers(self):
        """Whoever needs a control plane that is not open to everybody is let in: callers, Prometheus, and proxies that follow it."""
        wanted = self.values.get("networkPolicy", {})
        follows = self.values.get("proxy", {}).get("routes", {}).get("source") == "control"
        proxies = [workload for workload in self.of("Deployment", "StatefulSet") if workload["metadata"]["name"].endswith("-proxy")]
        for policy in self.of("NetworkPolicy"):
            if not policy["metadata"]["name"].endswith("-control"):
                continue
            (rule,) = policy["spec"]["ingress"]
            peers = rule.get("from")
            if not wanted.get("callers"):
                if peers is not None:
                    self.problem(policy, f"shuts out whoever is not {peers}, and nobody asked for that")
                continue
            expected = wanted["callers"] + wanted.get("monitoring", [])
            expected += [{"podSelector": proxy["spec"]["selector"]} for proxy in proxies if follows]
            if peers != expected:
                self.problem(policy, f"lets in {peers}, and not {expected}")

    def check_drains(self):
        """What a Job leaves behind is deleted with its claim: it must take the failed log, too."""
        for job in self.of("Job"):
            containers = {container["name"]: container["args"] for container in job["spec"]["template"]["spec"]["containers"]}
            if set(containers) != {"drain", "redrive"} or job["spec"]["template"]["spec"]["restartPolicy"] != "OnFailure":
                self.problem(job, f"does not empty a claim: {containers}")
                continue
            spool, failed = (arguments[arguments.index("--folder") + 1] for arguments in (containers["drain"], containers["redrive"]))
            if failed != f"{spool}/failed":
                self.problem(job, f"the failed log is below the spool ({spool}), and {failed} is taken")

    @staticmethod
    def selector(found):
        spec = found["spec"]
        return (spec.get("selector") or spec.get("podSelector"))["matchLabels"]

    def check_references(self):
        there = {(found["kind"], found["metadata"]["name"]) for found in self.objects}
        given = {self.values.get("proxy", {}).get("routes", {}).get("existingConfigMap")}
        for workload in self.of("Deployment", "StatefulSet", "Job"):
            pod = workload["spec"]["template"]["spec"]
            if ("ServiceAccount", pod["serviceAccountName"]) not in there:
                self.problem(workload, "its service account is not there")
            for volume in pod["volumes"]:
                name = volume.get("configMap", {}).get("name")
                if name and ("ConfigMap", name) not in there and name not in given:
                    self.problem(workload, f"there is no ConfigMap {name}")
            service = workload["spec"].get("serviceName")
            if service and ("Service", service) not in there:
                self.problem(workload, f"there is no Service {service}")
        for scaler in self.of("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) not in there:
                self.problem(scaler, "what it scales is not there")
            for workload in self.of(target["kind"]):
                if workload["metadata"]["name"] == target["name"] and "replicas" in workload["spec"]:
                    self.problem(workload, "says how many there are, and so does the autoscaler")
            down = scaler["spec"]["behavior"]["scaleDown"]
            if down["stabilizationWindowSeconds"] < 300 or [policy["type"] for policy in down["policies"]] != ["Percent"]:
                self.problem(scaler, f"scales down in haste: {down}")

    def check_configs(self, iguazu):
        """Every configuration passes `iguazu check` without a warning, at the paths where its pod has its files."""
        for workload in self.of("Deployment", "StatefulSet", "Job"):
            pod = workload["spec"]["template"]["spec"]
            # All containers of a pod have all its volumes (check_pod), and each names the one configuration.
            container = pod["containers"][0]
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            (path,) = {argument for one in pod["containers"] for argument in one["args"] if argument.startswith("/etc/")}
            with tempfile.TemporaryDirectory() as root:
                place = lambda inside: Path(root + inside)
                for volume in pod["volumes"]:
                    config_map = volume.get("configMap", {}).get("name")
                    data = next((found["data"] for found in self.of("ConfigMap") if found["metadata"]["name"] == config_map), None)
                    if config_map and data is None:
                        data = {"events.toml": '[events.e]\ncluster = "core"\ntopic = "t"\nencoding = "raw_json"\n'}
                    place(mounts[volume["name"]]).mkdir(parents=True, exist_ok=True)
                    for file, text in (data or {}).items():
                        moved = re.sub(r'"(/(?:etc|run|var/lib)/[^"]*)"', lambda found: f'"{root}{found[1]}"', text)
                        place(f"{mounts[volume['name']]}/{file}").write_text(moved)
                        for secret in re.findall(r'"(/run/secrets/[^"]*)"', text):
                            if not any(secret.startswith(f"{at}/") for name, at in mounts.items() if name.startswith("secret-")):
                                self.problem(workload, f"{secret} is in no Secret that is mounted")
                            place(secret).parent.mkdir(parents=True, exist_ok=True)
                            place(secret).write_text("secret\n")
                            place(secret).chmod(0o600)
                told = subprocess.run([iguazu, "check", f"{root}{path}"], capture_output=True, text=True, check=False, timeout=30)
                if told.returncode or "warning:" in told.stdout:
                    self.problem(workload, "iguazu check: " + (told.stdout + told.stderr).replace(root, ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check").add_argument("--iguazu", required=True)
    rendering = commands.add_parser("render")
    rendering.add_argument("--helm", required=True)
    rendering.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "check":
        check(arguments.iguazu)
    else:
        with_helm(arguments.helm, arguments.record)
    print("\n".join(problems) if problems else "ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
