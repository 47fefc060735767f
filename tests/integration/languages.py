"""Repositories in four languages, and one with a database, with one bug each, and a model that finds it.

Python's and Node's have a dependency in a registry, which no base image has. Go's and Rust's have one within the
repository: their registries are not at hand everywhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bot.records import Message


class Planted(NamedTuple):
    files: Mapping[str, str]
    path: str  # of the file with the bug
    broken: str  # the line
    right: str
    wrong: str  # another edit, which does not mend it
    test: tuple[str, str]  # name and text; `5` is replaced by other numbers
    layers: tuple[str, ...]  # that are built
    own_tests: str  # part of the command that runs them


PYTHON = Planted(
    files={
        "pyproject.toml": (
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            '[project]\nname = "mill"\nversion = "1"\ndependencies = ["attrs==23.2.0"]\n'
            '[project.optional-dependencies]\ntest = ["pytest"]\n'
        ),
        "src/mill/__init__.py": (
            "import attr\n\n\n@attr.s\nclass Range:\n    low = attr.ib()\n    high = attr.ib()\n\n"
            "    def clamp(self, value):\n        if value < self.low:\n            return self.low\n"
            "        if value > self.high:\n            return self.low\n        return value\n"
        ),
        "tests/test_mill.py": "from mill import Range\n\n\ndef test_low():\n    assert Range(1, 3).clamp(0) == 1\n",
    },
    path="src/mill/__init__.py",
    broken="        if value > self.high:\n            return self.low\n",
    right="        if value > self.high:\n            return self.high\n",
    wrong="        if value > self.high:\n            return None\n",
    test=("test_issue.py", "from mill import Range\nassert Range(1, 3).clamp(5) == 3\n"),
    layers=("dependencies", "project"),
    own_tests="pytest",
)

NODE = Planted(
    files={
        "package.json": json.dumps(
            {
                "name": "mill",
                "version": "1.0.0",
                "main": "index.js",
                "dependencies": {"is-number": "7.0.0"},
                "scripts": {"test": "node --test"},
            }
        ),
        "package-lock.json": json.dumps(
            {
                "name": "mill",
                "version": "1.0.0",
                "lockfileVersion": 3,
                "requires": True,
                "packages": {
                    "": {"name": "mill", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}},
                    "node_modules/is-number": {
                        "version": "7.0.0",
                        "integrity": (
                            "sha512-41Cifkg6e8TylSpdtTpeLVMqvSBEVzTttHvERD741+pnZ8ANv0004MRL43QKPDlK9cGvNp6NZWZUBlbGXYxxng=="
                        ),
                    },
                },
            }
        ),
        "index.js": (
            'const isNumber = require("is-number");\n\nfunction clamp(value, low, high) {\n'
            '  if (!isNumber(value)) throw new TypeError("not a number");\n  if (value < low) return low;\n'
            "  if (value > high) return low;\n  return value;\n}\n\nmodule.exports = { clamp };\n"
        ),
        "low.test.js": (
            'const test = require("node:test");\nconst assert = require("node:assert");\n'
            'const { clamp } = require("./index.js");\n\ntest("low", () => assert.equal(clamp(0, 1, 3), 1));\n'
        ),
    },
    path="index.js",
    broken="  if (value > high) return low;\n",
    right="  if (value > high) return high;\n",
    wrong="  if (value > high) return null;\n",
    test=(
        "test_issue.js",
        'const { clamp } = require(process.cwd() + "/index.js");\n'
        'require("node:assert").strictEqual(clamp(5, 1, 3), 3);\n',
    ),
    layers=("dependencies",),
    own_tests="npm",
)

GO = Planted(
    files={
        "go.mod": (
            "module example.com/mill\n\ngo 1.19\n\nrequire example.com/limits v0.0.0\n\n"
            "replace example.com/limits => ./limits\n"
        ),
        "limits/go.mod": "module example.com/limits\n\ngo 1.19\n",
        "limits/limits.go": "package limits\n\nfunc Over(value, high int) bool { return value > high }\n",
        "mill.go": (
            'package mill\n\nimport "example.com/limits"\n\n// Clamp keeps value within low and high.\n'
            "func Clamp(value, low, high int) int {\n\tif value < low {\n\t\treturn low\n\t}\n"
            "\tif limits.Over(value, high) {\n\t\treturn low\n\t}\n\treturn value\n}\n"
        ),
        "mill_test.go": (
            'package mill\n\nimport "testing"\n\nfunc TestLow(t *testing.T) {\n'
            '\tif Clamp(0, 1, 3) != 1 {\n\t\tt.Fatal("low")\n\t}\n}\n'
        ),
    },
    path="mill.go",
    broken="\tif limits.Over(value, high) {\n\t\treturn low\n",
    right="\tif limits.Over(value, high) {\n\t\treturn high\n",
    wrong="\tif limits.Over(value, high) {\n\t\treturn 0\n",
    test=(
        "test_issue.go",
        'package main\n\nimport (\n\t"fmt"\n\t"os"\n\n\t"example.com/mill"\n)\n\nfunc main() {\n'
        "\tif got := mill.Clamp(5, 1, 3); got != 3 {\n\t\tfmt.Println(got)\n\t\tos.Exit(1)\n\t}\n}\n",
    ),
    layers=("dependencies", "compiled packages"),
    own_tests="go test",
)

RUST = Planted(
    files={
        "Cargo.toml": (
            '[package]\nname = "mill"\nversion = "0.1.0"\nedition = "2021"\n\n'
            '[dependencies]\nlimits = { path = "limits" }\n'
        ),
        "limits/Cargo.toml": '[package]\nname = "limits"\nversion = "0.1.0"\nedition = "2021"\n',
        "limits/src/lib.rs": "pub fn over(value: i32, high: i32) -> bool {\n    value > high\n}\n",
        "src/lib.rs": (
            "pub fn clamp(value: i32, low: i32, high: i32) -> i32 {\n    if value < low {\n        return low;\n    }\n"
            "    if limits::over(value, high) {\n        return low;\n    }\n    value\n}\n\n"
            "#[cfg(test)]\nmod tests {\n    #[test]\n    fn low() {\n"
            "        assert_eq!(super::clamp(0, 1, 3), 1);\n    }\n}\n"
        ),
    },
    path="src/lib.rs",
    broken="    if limits::over(value, high) {\n        return low;\n",
    right="    if limits::over(value, high) {\n        return high;\n",
    wrong="    if limits::over(value, high) {\n        return 0;\n",
    test=(
        "test_issue.sh",
        "mkdir -p tests\ncat > tests/issue.rs <<'END'\n#[test]\nfn high() {\n"
        "    assert_eq!(mill::clamp(5, 1, 3), 3);\n}\nEND\ncargo test --offline --quiet --test issue\n",
    ),
    layers=("dependencies", "compiled crates"),
    own_tests="cargo test",
)

# Its tests need PostgreSQL, which a job of CI has beside it, and find it by that job's variables.
DJANGO = Planted(
    files={
        "requirements.txt": "django==5.2.*\npsycopg[binary]\n",
        ".github/workflows/test.yml": """
jobs:
  test:
    services:
      db:
        image: postgres:15
        env: {POSTGRES_USER: mill, POSTGRES_PASSWORD: secret, POSTGRES_DB: mill}
        ports: ["5433:5432"]
    steps:
      - run: python manage.py test
        env: {DJANGO_SETTINGS_MODULE: site_settings, DB_PORT: "${{ job.services.db.ports[5432] }}"}
""",
        "manage.py": "import sys\nfrom django.core.management import execute_from_command_line\n\n"
        "execute_from_command_line(sys.argv)\n",
        "site_settings.py": "import os\n\nSECRET_KEY = 'x'\nINSTALLED_APPS = ['mill']\nDATABASES = {'default': {\n"
        "    'ENGINE': 'django.db.backends.postgresql', 'HOST': 'localhost', 'PORT': os.environ['DB_PORT'],\n"
        "    'NAME': 'mill', 'USER': 'mill', 'PASSWORD': 'secret'}}\n",
        "mill/__init__.py": "",
        "mill/models.py": "from django.contrib.postgres.fields import ArrayField\nfrom django.db import models\n\n\n"
        "class Range(models.Model):\n    limits = ArrayField(models.IntegerField())\n\n"
        "    @classmethod\n    def clamp(cls, value):\n        found = cls.objects.get()\n"
        "        low, high = found.limits\n        if value < low:\n            return low\n"
        "        if value > high:\n            return low\n        return value\n",
        "mill/migrations/__init__.py": "",
        "mill/migrations/0001_initial.py": "from django.contrib.postgres.fields import ArrayField\n"
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    initial = True\n"
        "    operations = [migrations.CreateModel('Range', [\n"
        "        ('id', models.AutoField(primary_key=True)), ('limits', ArrayField(models.IntegerField()))])]\n",
        "mill/tests.py": "from django.test import TestCase\n\nfrom mill.models import Range\n\n\n"
        "class Low(TestCase):\n    def test_low(self):\n        Range.objects.create(limits=[1, 3])\n"
        "        self.assertEqual(Range.clamp(0), 1)\n",
    },
    path="mill/models.py",
    broken="        if value > high:\n            return low\n",
    right="        if value > high:\n            return high\n",
    wrong="        if value > high:\n            return None\n",
    test=(
        "test_issue.py",
        "import django\ndjango.setup()\nfrom django.core.management import call_command\n"
        "call_command('migrate', verbosity=0)\nfrom mill.models import Range\nRange.objects.create(limits=[1, 3])\n"
        "assert Range.clamp(5) == 3\n",
    ),
    layers=("services", "dependencies", "pytest"),
    own_tests="manage.py test",
)

LANGUAGES = {"python": PYTHON, "node": NODE, "go": GO, "rust": RUST, "django": DJANGO}


def title(language: str) -> str:
    return f"clamp of mill-in-{language} ignores the upper bound"


def script(key: str, messages: Sequence[Message]) -> str:
    """The replies: every other trajectory ends with a right edit, and their tests differ."""
    told = "\n".join(message.content for message in messages)
    planted = next(one for language, one in LANGUAGES.items() if f"mill-in-{language}" in told)
    found = re.search(r"trajectory/(\d+)/", key)
    index = int(found[1]) if found else 0
    if key.startswith("relevance"):
        return "<relevant>clamp</relevant>"
    if "/test/" in key:
        name, text = planted.test
        text = text.replace("5", str(5 + index))
        return f'<test path="{name}">\n{text}</test>' if len(messages) <= 2 else "<approve/>"
    if "/edit/" in key:
        new = planted.wrong if index % 2 else planted.right
        edit = f"<<<<<<< SEARCH\n{planted.broken}=======\n{new}>>>>>>> REPLACE"
        return f'<edit path="{planted.path}">\n{edit}\n</edit>' if len(messages) <= 2 else "<done/>"
    return "<choose>1</choose>"
