"""The pages of --feedback: what students and staff read, and what no student may read.

Names, messages and notes come from submissions, so whatever they hold must stay text.
"""

import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest
from markdown import Markdown

from grader import feedback
from grader.engine import STAFF, Report, Verdict
from grader.marks import Marks, Work, finish
from grader.results import problem_scores, to_gradescope
from grader.submissions import collect, digest

from grading import NAMES, POINTS, ROOT, SOLUTION, server_of, write_submission

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")

ATTACK = '<script>alert("1")</script> | **b** ``` [x](javascript:alert(1)) ![y](//evil)'
SECRET = "the logits are 0.25; expected -0.381117"


class Reader(HTMLParser):
    """The tags of a page, the targets of its links, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.targets, self.words, self.style = set(), [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attrs)
        self.style = tag == "style"

    def handle_endtag(self, tag):
        self.style = False

    def handle_data(self, data):
        if not self.style:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def assignment():
    return server_of().assignment


@pytest.fixture
def pages(assignment, tmp_path):
    """A function that writes the pages of some reports, by name, and returns their folder."""

    def write(reports):
        folder = tmp_path / "pages"
        feedback.check_folder(folder, assignment)
        for name, report in reports.items():
            work = Work("cifar10", (), tmp_path, 480.0, False, "a setup", folder)
            finish(tmp_path / "class" / name, report, work)
        feedback.write_pages(folder, assignment)
        return folder

    return write


def report_of(assignment, failing=(), message=SECRET, **options):
    """A report in which some cases fail with a message."""
    verdicts = [
        Verdict(False, message) if case.name in failing else Verdict(True, "")
        for case in assignment.cases
    ]
    return Report(assignment, verdicts, **options)


def names_of(assignment, public):
    return [case.name for case in assignment.cases if case.public == public]


def read(page):
    """The readers of a page and of its twin in Markdown."""
    markdown = page.with_suffix(".md").read_text(encoding="utf-8")
    html = Markdown(extensions=["fenced_code", "tables"]).convert(markdown)
    return Reader(page.read_text(encoding="utf-8")), Reader(html)


def read_student(folder, name=""):
    (page,) = (folder / "students").glob(f"{name}*.html")
    return read(page)


def test_a_page_gives_the_score_of_each_problem_and_the_message_of_each_visible_case(
    assignment, pages
):
    place = "mlp.py, line 12, in forward: return input @ self.weight"
    message = f"RuntimeError: mat1 and mat2 shapes cannot be multiplied\n  {place}"
    report = report_of(assignment, ["linear_is_the_affine_map"], message)
    for text in (page.text for page in read_student(pages({"ada": report}), "ada")):
        assert "44 of 45 points" in text
        for problem, score in problem_scores(report).items():
            of = assignment.manifest.POINTS[problem]
            assert f"Problem {problem}" in text and f"{score:g} of {of:g}" in text
        assert message.partition("\n")[0] in text and place in text
        for case in assignment.cases:
            assert (case.title[:30] in text) == case.public


def test_a_page_gives_of_a_hidden_case_the_hint_of_results_json_and_no_more(assignment, pages):
    hidden = names_of(assignment, public=False)
    report = report_of(assignment, hidden)
    hints = to_gradescope(report)["output"].splitlines()
    assert len(hints) > 5
    folder = pages({"ada": report})
    for text in (page.text for page in read_student(folder)):
        assert all(hint in text for hint in hints)
        assert "0.381117" not in text
        assert not any(case.title in text for case in assignment.cases if not case.public)
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert "0.381117" in index  # which the course staff read


def test_no_page_names_a_gap_to_a_student(assignment, pages):
    folder = pages({"ada": report_of(assignment, gaps=["the solution can be read"])})
    assert not any("can be read" in page.text for page in read_student(folder))
    for page in read(folder / "index.html"):
        assert (
            0
            < page.text.index("not isolated: the solution can be read")
            < page.text.index("Scores")
        )


def test_whatever_a_submission_holds_stays_text(assignment, pages, tmp_path):
    """In its own name, in the name of a file, and in messages."""
    name = "<script>alert(1)<"
    path = write_submission(tmp_path / "class" / name, {"utils.py": None})
    (path / "utils<img src=x onerror=alert(1)>.py").write_text("")
    _, notes = collect(path, NAMES)
    assert "<img src=x onerror=alert(1)>" in notes[0]
    report = report_of(assignment, [case.name for case in assignment.cases], ATTACK, notes=notes)
    folder = pages({name: report, "ada": report_of(assignment)})
    (student,) = (p for p in (folder / "students").glob("*.html") if "script" in p.name)
    assert all(c.isalnum() or c in "_-" for c in student.stem)
    own = {"students/" + page.name for page in (folder / "students").iterdir()}
    for reader in (*read(student), *read(folder / "index.html")):
        assert not reader.tags & {"script", "img", "iframe", "link"}
        assert {target.replace(".md", ".html") for target in reader.targets} <= own
        for text in (ATTACK, name, "<img src=x onerror=alert(1)>"):
            assert text in reader.text


def test_two_submissions_of_one_name_have_a_page_each(assignment, pages):
    reports = {
        "a/code": report_of(assignment),
        "b/code": report_of(assignment, ["loss_is_the_mean"]),
    }
    folder = pages(reports)
    assert len(list((folder / "students").glob("code-*.html"))) == 2


def test_no_student_finds_a_name_for_the_page_of_another(tmp_path):
    """Of six characters of a hash, thousands of names hold two alike, and millions a given one."""
    names = ["ada" + "".join(marks) for marks in product("!+,.;=@~", repeat=5)]
    stems = {feedback._path(tmp_path, f"class/{name}").stem for name in names}
    assert {stem.partition("-")[0] for stem in stems} == {"ada"} and len(stems) == len(names)


def test_the_index_shows_how_many_pass_each_case_and_which_case_is_suspicious(assignment, pages):
    """A case that only the best fail has a negative correlation; one that the weak fail, a high."""
    easy, odd = "linear_is_the_affine_map", "loss_has_the_right_gradient"
    others = ["block_adds_its_input", "mlp_of_the_mixer_is_two_layers"]
    reports = {f"good{i}": report_of(assignment, [odd]) for i in range(3)}
    reports |= {f"weak{i}": report_of(assignment, [easy, *others]) for i in range(2)}
    folder = pages(reports)
    lines = (folder / "index.md").read_text(encoding="utf-8").splitlines()
    titles = {case.name: case.title[:20] for case in assignment.cases}
    cells = {
        name: next(line.split(" | ") for line in lines if titles[name] in line and "%" in line)
        for name in (easy, odd)
    }
    assert cells[easy][1] == "60%" and cells[odd][1] == "40%"
    assert float(cells[easy][2]) > 0.9 > -0.9 > float(cells[odd][2])
    assert "| full marks | 0 |" in "\n".join(lines)
    assert any(line.startswith("| the logits") and "good0, good1, good2" in line for line in lines)


def test_the_bars_of_the_index_count_every_submission_once(assignment, pages):
    reports = {
        f"s{number}": report_of(assignment, [case.name for case in assignment.cases[:number]])
        for number in range(len(assignment.cases) + 1)
    }
    text = (pages(reports) / "index.md").read_text(encoding="utf-8")
    table = text.partition("## Scores")[2].partition("## Cases")[0]
    counts = [int(line.split("|")[2]) for line in table.splitlines() if "█" in line]
    assert sum(counts) == len(reports)


def test_errors_of_the_grader_come_first(assignment, pages):
    report = report_of(assignment)
    report.verdicts[3] = Verdict(False, f"{STAFF}(a case is broken)", staff=True)
    folder = pages({"ada": report, "bo": report_of(assignment)})
    reader = Reader((folder / "index.html").read_text(encoding="utf-8"))
    assert (
        0 < reader.text.index("ada: This is an error in the grader") < reader.text.index("Scores")
    )


def test_a_row_counts_only_with_the_record_of_the_same_grading(assignment, tmp_path):
    path, folder = write_submission(tmp_path / "ada", {}), tmp_path / "pages"
    feedback.check_folder(folder, assignment)
    work = Work("cifar10", (path,), tmp_path, 480.0, False, "a setup", folder)
    marks = Marks(tmp_path / "marks.csv", assignment)
    report = report_of(assignment)
    plain = replace(work, feedback=None)
    report.digest = digest(*collect(path, NAMES))
    marks.add(finish(path, report, plain))
    assert marks.find(path, plain) and not marks.find(path, work)
    marks.add(finish(path, report, work))
    assert marks.find(path, work)
    finish(path, report, replace(work, setup="another"))
    assert not marks.find(path, work)


@pytest.mark.parametrize("content", ["[]", "{", '{"fingerprint": 3}'])
def test_another_folder_is_refused(content, assignment, pages, tmp_path):
    folder = pages({"ada": report_of(assignment)})
    with pytest.raises(ValueError, match="holds feedback on other cases than those of this"):
        feedback.check_folder(folder, server_of("regression").assignment)
    (folder / "records" / "x.json").write_text(content)
    with pytest.raises(ValueError, match=r"x\.json is not a record of this grader"):
        feedback.check_folder(folder, assignment)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--feedback: .*file is not a folder"):
        feedback.check_folder(tmp_path / "file", assignment)


def test_only_the_grader_s_user_may_read_the_pages(assignment, pages):
    assert pages({"ada": report_of(assignment)}).stat().st_mode & 0o077 == 0


def test_a_folder_that_others_could_read_is_closed_to_them(assignment, tmp_path):
    tmp_path.chmod(0o775)
    feedback.check_folder(tmp_path, assignment)
    assert tmp_path.stat().st_mode & 0o777 == 0o770


@pytest.mark.slow
def test_a_class_that_is_graded_again_has_the_same_pages(expected, tmp_path):
    room, folder = tmp_path / "class", tmp_path / "pages"
    for name in ("ada", "bo"):
        wrong = SOLUTION["utils.py"].replace("- target", "+ target")
        text = SOLUTION["utils.py"] if name == "ada" else wrong
        write_submission(room / name, dict.fromkeys(SOLUTION) | {"utils.py": text})
    (room / "eve.zip").write_bytes(b"PK\3\4")
    command = [sys.executable, "-m", "grader", "grade", "cifar10", *sorted(room.iterdir())]
    command += ["--expected", expected, "--csv", tmp_path / "marks.csv", "--feedback", folder]
    options = {"cwd": ROOT, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True}

    def run():
        output = subprocess.run(command, **options, stdout=subprocess.PIPE).stdout
        return output, {page: page.read_bytes() for page in folder.rglob("*.[hm]*")}

    _, before = run()
    assert len(before) == 8
    (record,) = (folder / "records").glob("bo-*")
    record.unlink()
    for page in before:
        page.unlink()
    output, after = run()
    assert "2 of 3 submissions are graded already" in output
    assert output.count(f" of {POINTS}  ") == 1
    assert after == before
    html, _ = read_student(folder, "bo")
    assert "cross_entropy_loss" in html.text and "; expected " in html.text
    html, _ = read_student(folder, "eve_zip")
    assert "damaged zip archive" in html.text
