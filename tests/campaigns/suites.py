"""Runs a module of CPython's own tests in the current folder and prints what became of each test, one line each.

suites.py MODULE...: "failed ID", "error ID", "skipped ID", "passed ID", sorted."""
import io, os, sys, tempfile, unittest
from test import support

support.use_resources = ["largefile"]
tempfile.tempdir = os.getcwd()
os.environ["TMPDIR"] = os.getcwd()


class Result(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.outcomes = {}

    def note(self, test, outcome):
        if self.outcomes.get(test.id()) not in ("failed", "error"):
            self.outcomes[test.id()] = outcome

    def addSuccess(self, test):
        self.note(test, "passed")

    def addFailure(self, test, error):
        self.note(test, "failed")
        super().addFailure(test, error)

    def addError(self, test, error):
        self.note(test, "error")
        super().addError(test, error)

    def addSkip(self, test, reason):
        self.note(test, "skipped")

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.note(test, "failed")
            super().addSubTest(test, subtest, error)

    def addExpectedFailure(self, test, error):
        self.note(test, "passed")

    def addUnexpectedSuccess(self, test):
        self.note(test, "failed")


result = Result()
real = os.dup(1)
for name in sys.argv[1:]:
    suite = unittest.defaultTestLoader.loadTestsFromName("test." + name)
    # its tests measure times, which a busy machine does not keep, and touch no file
    suite = unittest.TestSuite(test for test in suite if "TimerfdTests" not in repr(test))
    try:
        suite.run(result)
    except BaseException as error:  # the end of the interpreter is an outcome, too
        result.outcomes["test.%s" % name] = "ended by %r" % error
lines = sorted("%s %s" % (outcome, test) for test, outcome in result.outcomes.items())
os.write(real, ("\n".join(lines) + "\n").encode())
if os.environ.get("SUITES_WHY"):
    for test, text in result.failures + result.errors:
        sys.stderr.write("== %s\n%s\n" % (test, text[-1500:]))
