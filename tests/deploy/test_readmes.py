"""What the pages tell to type is typed, in an empty root without a network: it works as written."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.phantom.files import write_good
from tests.support import REPOSITORY
from tests.support.clocks import HANGS_SECONDS
from tests.support.empty_root import EmptyRoot

PAGE = "deploy/systemd/README.md"
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MERCURE_UID = 1234
TOKEN = "t0k3n-that-nobody-sees"

# What systemd does with a transient unit, and with the relay's, as far as the page uses it.
SYSTEMD_RUN = """#!/bin/bash
while true; do
  case "$1" in
    --quiet|--pipe|--wait|--collect) shift ;;
    -p)
      case "$2" in User=*) user=${2#*=} ;; EnvironmentFile=*) file=${2#*=} ;; *) exit 64 ;; esac
      shift 2 ;;
    -*) exit 64 ;;
    *) break ;;
  esac
done
uid=$(id -u "$user")
exec env -i PATH="$PATH" $(cat "${file#-}") setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs "$@"
"""
SYSTEMCTL = """#!/bin/bash
unit=/etc/systemd/system/leglength-relay.service
value() { sed -n "s/^$1=//p" $unit; }
case "$*" in
  daemon-reload) test -f $unit ;;
  "enable --now leglength-relay")
    test -d "$(value ReadWritePaths)" || exit 226
    secrets=$(value EnvironmentFile)
    as=(-p User="$(value User)" -p EnvironmentFile="$secrets")
    systemd-run "${as[@]}" $(value ExecStart) > /tmp/relay.log 2>&1 &
    for _ in {1..3000}; do grep -q "relay: looks after" /tmp/relay.log && break; sleep 0.1; done
    kill -TERM $!
    wait $!
    echo "relay ended with $?"
    cat /tmp/relay.log ;;
  *) exit 64 ;;
esac
"""
EDITOR = f"""#!/bin/bash
test "$(stat -c %a "$1")" = 600 && echo INFLUXDB_TOKEN={TOKEN} > "$1"
"""
PASSWD = f"root:x:0:0:root:/root:/bin/bash\nmercure:x:{MERCURE_UID}:{MERCURE_UID}::/nonexistent:/bin/false\n"
GROUP = f"root:x:0:\nmercure:x:{MERCURE_UID}:\n"


def blocks(page: str) -> list[str]:
    """A page's blocks of commands, without the indentation of a list."""
    found = re.findall(r"^( *)```\n(.*?)^ *```$", (REPOSITORY / page).read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an index would give: the extra's requirements, and what builds a wheel of a checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "-c",
        "constraints.txt",
        "-w",
        str(folder),
        ".[cli]",
        "hatchling",
    ]
    done = subprocess.run(pip, cwd=REPOSITORY, capture_output=True, text=True, timeout=HANGS_SECONDS, check=False)
    if done.returncode:
        assert "No matching distribution found" in done.stderr, done.stderr
        pytest.skip("no package index")
    folder.chmod(0o755)
    return folder


def test_the_relay_is_installed_as_its_page_says(tmp_path: Path, wheels: Path) -> None:
    root = EmptyRoot(
        tmp_path,
        [(REPOSITORY, "/checkout", "ro"), (wheels, "/wheels", "ro")],
        {
            "/etc/passwd": PASSWD, "/etc/group": GROUP, "/stand-ins/systemd-run": SYSTEMD_RUN,
            "/stand-ins/systemctl": SYSTEMCTL, "/stand-ins/editor": EDITOR, "/etc/systemd/system/other": "",
        },
    )  # fmt: skip
    install, try_it, *_ = blocks(PAGE)
    commands = [*install.splitlines(), *try_it.splitlines()]
    script = "cd /checkout\n" + "\n".join(f'{command}\necho "<$?>"' for command in commands) + "\n"
    (wheel,) = re.findall(r"`\./(leglength_monitoring\S+\.whl)\[cli\]`", (REPOSITORY / PAGE).read_text())
    script += f"cd /wheels && /opt/leglength-monitoring/bin/pip install --dry-run './{wheel}[cli]' && echo by wheel\n"
    script += "stat -c '%U %a %n' /opt/mercure/persistence/leglength/monitoring.db /etc/leglength/secrets.env\n"
    environment = {
        "PATH": f"/stand-ins:{Path(sys.base_prefix) / 'bin'}:{SYSTEM}", "EDITOR": "/stand-ins/editor", "HOME": "/root",
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LANG": "C.UTF-8",
    }  # fmt: skip
    done = root.run(script, environment)
    told = done.stdout + done.stderr
    codes = [int(code) for code in re.findall(r"^<(\d+)>", done.stdout, re.MULTILINE)]
    assert len(codes) == len(commands), told
    # No backend answers without a network: `check` and `drain` are not done, and all the rest is.
    expected = [1 if command.startswith("as_relay /") else 0 for command in commands]
    assert codes == expected, told
    assert "ok      store: /opt/mercure/persistence/leglength" in told
    assert "is not set" not in told
    assert "no store" not in told
    assert "by wheel" in told
    assert "relay ended with 0" in told
    assert "mercure 600 /opt/mercure/persistence/leglength/monitoring.db" in told
    assert "root 600 /etc/leglength/secrets.env" in told
    assert "Traceback" not in told
    assert TOKEN not in told + "".join(blocks(PAGE))


def test_the_module_is_installed_and_used_as_the_first_page_says(tmp_path: Path, wheels: Path) -> None:
    """By a user without a name and a home, on a root that nobody can write to."""
    page = (REPOSITORY / "README.md").read_text()
    assert "`pip install .` from a checkout" in page
    assert "`'.[cli]'`" in page
    (natural,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "(docs/api.md#the-id-based-way)" in page
    _, _, section = (REPOSITORY / "docs/api.md").read_text().partition("## The id-based way\n")
    (by_id, *_) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert "monitor.start_session(" in by_id
    (settings,) = (
        text for text in re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "process" in text
    )
    host = f"""
import json, logging, time
settings, logger = json.load(open("task.json"))["process"]["settings"], logging.getLogger()
series_id, image, started, scores, dicom_path, detect = "1.2.3", None, time.time(), [0.9], None, lambda image: image
{natural}
monitor = MonitorManager(settings, logger)
{by_id}
monitor.close(0)
"""
    examples = {f"/host/{path.name}": path.read_text() for path in (REPOSITORY / "examples").glob("*.py")}
    root = EmptyRoot(
        tmp_path,
        [(REPOSITORY, "/checkout", "ro"), (wheels, "/wheels", "ro")],
        {**examples, "/host/host.py": host, "/host/task.json": settings},
        is_read_only=True,
    )
    script = f"""set -e
python3 -m venv /tmp/v; export PATH=/tmp/v/bin:$PATH
cd /checkout; pip install -q '.[cli]'; cd /host
python host.py
for example in {" ".join(examples)}; do (cd /tmp && python $example); done
leglength-monitor status --json --config task.json
"""
    environment = {
        "PATH": f"{Path(sys.base_prefix) / 'bin'}:{SYSTEM}", "INFLUXDB_TOKEN": TOKEN, "LANG": "C.UTF-8",
        "MODULE_PERSISTENCE_DIR": "/tmp/persistence",
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    done = root.run(script, environment, user="4321:4321")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Traceback" not in told
    assert TOKEN not in told
    status = json.loads(done.stdout[done.stdout.index("\n{\n") :] if "\n{\n" in done.stdout else done.stdout)
    assert status["sessions"]["completed"] >= 2
    assert status["outbox"]["influxdb"]["pending"] > 0


def docker_run(command: str) -> dict[str, list[str]]:
    """The options of a `docker run`, by name; the image is under ""."""
    options: dict[str, list[str]] = {}
    words = iter(shlex.split(command.replace("\\\n", " "))[2:])
    for word in words:
        if word in {"--rm", "--read-only"}:
            options[word] = []
        elif word.startswith("-"):
            options.setdefault(word, []).append(next(words))
        else:
            options.setdefault("", []).append(word)
    return options


def test_the_application_runs_as_mercures_page_starts_it(tmp_path: Path) -> None:
    """Read-only, no network, a user that no passwd knows, no home: of the image, what the Dockerfile copies there."""
    (block,) = blocks("deploy/mercure/README.md")
    prepare, command = block.split("\n", 1)
    options = docker_run(command)
    assert options["--network"] == ["none"]
    assert options["--tmpfs"] == ["/tmp"]
    assert options[""] == ["leglength:0.1.0"]
    assert "--read-only" in options
    work, app = tmp_path / "work", tmp_path / "app"
    work.mkdir()
    subprocess.run(prepare, shell=True, cwd=work, check=True)
    write_good(work / "in", 1, np.random.default_rng(1))
    module = json.loads((REPOSITORY / "deploy/mercure/module.json").read_text())["leglength"]
    (work / "in/task.json").write_text(json.dumps({"process": {"settings": module["settings"]}}))
    for folder in ("out", "persistence"):
        if os.geteuid() == 0:
            os.chown(work / folder, 4321, 4321)
    app.mkdir()
    for sources, target in re.findall(r"^COPY (.+) (\S+)$", dockerfile(), re.MULTILINE):
        for source in map(REPOSITORY.joinpath, sources.split()):
            if source.is_dir():
                shutil.copytree(source, app / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, app / target)
    binds = [(app, "/app", "ro"), (Path(sys.prefix), sys.prefix, "ro")]
    for volume in options["-v"]:
        what, where, *mode = volume.split(":")
        binds.append((work / Path(what).name, where, mode[0] if mode else "rw"))
    environment = dict(pair.split("=", 1) for pair in options["-e"])
    environment |= {"PATH": f"{Path(sys.prefix) / 'bin'}:{SYSTEM}", "PYTHONDONTWRITEBYTECODE": "1"}
    (entry,) = re.findall(r'^ENTRYPOINT \["(\S+)", "(\S+)"\]$', dockerfile(), re.MULTILINE)
    root = EmptyRoot(tmp_path, binds, is_read_only=True)
    looks = "touch /app/x /usr/x /x"
    done = root.run(f'{" ".join(entry)}\necho "<$?>"\n{looks}', environment, user="4321:4321")
    told = done.stdout + done.stderr
    assert "<0>" in done.stdout, told
    assert "Traceback" not in told
    assert (work / "out/result.json").exists(), told
    assert list((work / "out").glob("*.dcm")), told
    assert told.count("Read-only file system") == 3
    store = work / "persistence/monitoring.db"
    assert (store.stat().st_uid, stat.S_IMODE(store.stat().st_mode)) == (4321, 0o600)
    sessions = json.loads((work / "out/result.json").read_text())["monitoring"]["sessions"]
    assert [session["status"] for session in sessions] == ["completed"]


def dockerfile() -> str:
    return (REPOSITORY / "deploy/mercure/Dockerfile").read_text()


def test_the_image_installs_what_is_required_before_any_code_is_copied(tmp_path: Path) -> None:
    steps = re.findall(r"^(COPY|RUN) (.+?)(?<!\\)$", dockerfile(), re.MULTILINE | re.DOTALL)
    (copied, install), code = steps[:2], steps[2:]
    assert copied == ("COPY", "pyproject.toml constraints.txt ./")
    assert "-r requirements.txt" in install[1]
    assert any("monitoring" in what for _, what in code)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    listing = install[1].partition("&&")[0].replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(listing, shell=True, cwd=tmp_path, check=True)
    listed = (tmp_path / "requirements.txt").read_text().splitlines()
    assert {"msgspec", "urllib3", "typer", "numpy", "highdicom", "onnxruntime", "nvidia-ml-py"} <= {
        re.split("[>=<]", line)[0] for line in listed
    }
    assert all(re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line) for line in listed)


def test_no_page_installs_from_an_index_where_nothing_is_published() -> None:
    pages = ["README.md", *(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("deploy/*/README.md"))]
    for page in pages:
        text = (REPOSITORY / page).read_text()
        assert not re.search(r"pip install '?leglength", text), page
        assert not re.search(r"<<<.*TOKEN|echo .*TOKEN", text), page
