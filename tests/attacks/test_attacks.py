"""No attack gains a point, in each setting that the grader runs in, or a gap says so.

The slow test runs with ``ATTACKS=full`` only: it takes minutes for each setting.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
from test_grader_programs import AS_A_USER, open_folder, public_python  # noqa: F401

from attacks.submissions import ALL, MESSENGERS, PLACES, SMUGGLERS

from grading import QUICK, ROOT, expected_of, read, sample, write_submission

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")

CASES = (QUICK["mlp.py"], "mlp_computes_its_logits", QUICK["utils.py"])
CAPABILITIES = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,"
    "+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap"
)
# How the grader is started, and whether gaps are expected.
SETTINGS = {
    "root": ((), False),
    "root in Docker": (
        (
            *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
            *("setpriv", f"--bounding-set={CAPABILITIES}", "--inh-caps=-all"),
        ),
        False,
    ),
    "an ordinary user": (AS_A_USER, False),
    # The system refuses new user namespaces to whom it has changed the root folder.
    "an ordinary user without namespaces": (
        (
            *("unshare", "--mount", "sh", "-c"),
            'mkdir -p "$0" && mount --rbind / "$0" && exec chroot "$0" "$@"',
            *("ROOT_FOLDER", *AS_A_USER),
        ),
        True,
    ),
}


def baseline(name):
    """The cases that a submission passes without any gain."""
    with_stand_ins = CASES[1]  # a wrong Linear costs its own points only
    if name in MESSENGERS:
        return {CASES[0], with_stand_ins}
    return {with_stand_ins} if name in SMUGGLERS else {with_stand_ins, CASES[2]}


def write_attack(folder, files, places):
    for name, text in files.items():
        for word, place in zip(PLACES, places):
            text = text.replace(word, str(place))
        files = files | {name: text}
    return write_submission(folder, files)


@pytest.mark.parametrize("name", sample(list(ALL), 4))
def test_a_sample_of_the_attacks_gains_nothing(name, expected, graded, tmp_path):
    """In the setting of the tests; those of a slow test are the others."""
    other = write_submission(tmp_path / "other", {})
    folder = write_attack(tmp_path / "submission", ALL[name], (ROOT, expected, other))
    files = {path.name: path.read_text() for path in folder.iterdir()}
    result = graded(files, *CASES, cpu=5, wall=10.0)
    gaps = result.results["extra_data"]["not_isolated"]
    assert result.passed <= baseline(name) or gaps, result.table


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS if os.environ.get("ATTACKS") == "full" else [])
def test_no_attack_gains_anything(setting, shared, public_python, open_folder):  # noqa: F811
    prefix, has_gaps = SETTINGS[setting]
    source, expected = open_folder / "source", open_folder / "source" / "expected"
    for name in ("grader", "training"):
        shutil.copytree(ROOT / name, source / name)
    (source / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "grading.py", source / "tests")
    shutil.copytree(expected_of(shared), expected)
    for name in ("mlp.py", "resnet18.py", "mlpmixer.py", "utils.py", "test.py"):  # as staff has it
        shutil.copy(ROOT / name, source)
    submissions = open_folder / "submissions"
    other = write_submission(submissions / "other", {})
    names = ["honest", *ALL, "honest again"]
    for number, name in enumerate(names):
        write_attack(submissions / str(number), ALL.get(name, {}), (source, expected, other))
    requests = [
        {
            "submission": str(submissions / str(number)),
            "expected": str(expected),
            "cases": CASES,
            "cpu": 3,
            "wall": 10.0,
        }
        for number in range(len(names))
    ]
    (open_folder / "requests.json").write_text(json.dumps(requests))
    for path in (open_folder / "source", submissions):
        subprocess.run(["chmod", "-R", "go-rwx", path], check=True)
        if "user" in setting:
            subprocess.run(["chown", "-R", "1234:1234", path], check=True)
    prefix = [word.replace("ROOT_FOLDER", str(open_folder / "root")) for word in prefix]
    run = subprocess.run(
        [*prefix, public_python, source / "tests" / "grading.py", open_folder / "requests.json"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join((str(source), sysconfig.get_path("purelib"))),
            "OMP_NUM_THREADS": "1",
            "JOBS": "1" if "Docker" in setting else "2",  # two would share /tmp there: a gap
        },
        cwd="/",
        capture_output=True,
        text=True,
    )
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):  # what a setting with gaps lets them leave
        subprocess.run(
            ["find", folder, "-maxdepth", "1", "-user", "1234", "-exec", "rm", "-rf", "{}", "+"]
        )
    assert run.returncode == 0, run.stderr
    results = dict(zip(names, map(read, json.loads(run.stdout)), strict=True))
    gaps = {gap for r in results.values() for gap in r.results["extra_data"]["not_isolated"]}
    assert bool(gaps) == has_gaps, gaps
    assert has_gaps == any("run as you" in gap for gap in gaps)
    gained = {n for n in ALL if not results[n].passed <= baseline(n)}
    assert not gained or has_gaps, gained
    harmed = {n for n in ALL if not results[n].passed >= baseline(n) - {CASES[1]}}
    assert not harmed, harmed
    for name in ("honest", "honest again"):
        assert results[name].passed == set(CASES)
    assert not any("smuggled" in results[name].text for name in SMUGGLERS)
    assert not [name for name in os.listdir("/tmp") if "message" in name or "smuggled" in name]
