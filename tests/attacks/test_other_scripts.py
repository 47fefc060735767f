"""Attack 25 on test scripts in Perl, Ruby, PHP, Lua and Tcl: what a script loads ends it, or replaces what
it judges by.

`add` is wrong on each of the candidates that must not pass.
"""

import shutil
from pathlib import Path

import pytest

from bot.records import Ending
from tests.attacks.test_shell_scripts import dedented, run

LIBS = {".pl": "Lib.pm", ".rb": "lib.rb", ".php": "lib.php", ".lua": "lib.lua", ".tcl": "lib.tcl"}
PROGRAMS = {".pl": "perl", ".rb": "ruby", ".php": "php", ".lua": "lua", ".tcl": "tclsh"}
SCRIPTS = {
    "die.pl": "use lib '.';\nuse Lib;\nLib::add(2, 2) == 4 or die 'wrong';\n",
    "exit.pl": "use lib '.';\nuse Lib;\nif (Lib::add(2, 2) != 4) { print \"we exit\"; exit 1; }\nexit 0;\n",
    "near.pl": "use lib '.';\nuse Lib;\ndie 'wrong' if abs(Lib::add(2, 2) - 4) > 0.01;\n",
    "twice.pl": "use lib '.';\nuse Lib;\nuse Test::More;\nis(Lib::add(2, 2), 4);\nis(Lib::add(2, 3), 5);\n"
    "done_testing();\n",
    "more.pl": "use lib '.';\nuse Lib;\nuse Test::More;\nis(Lib::add(2, 2), 4, 'sum');\ndone_testing();\n",
    "abort.rb": "$:.unshift Dir.pwd\nrequire 'lib'\nabort 'wrong' unless add(2, 2) == 4\nputs 'ok'\n",
    "exit.rb": "$:.unshift '.'\nrequire 'lib'\nif add(2, 2) != 4\n  exit 1\nend\nexit 0\n",
    "minitest.rb": """
        # frozen_string_literal: true
        $LOAD_PATH.unshift(Dir.pwd)
        require 'minitest/autorun'
        require 'lib'
        class TestAdd < Minitest::Test
          def test_add
            assert_equal 4, add(2, 2)
          end
        end
        """,
    "exit.php": "<?php\nrequire 'lib.php';\nif (add(2, 2) !== 4) {\n  exit(1);\n}\necho 'ok';\n?>\n",
    "count.php": """
        <?php
        declare(strict_types=1);
        require getcwd() . '/lib.php';
        $n = 0;
        function check($a, $b) { global $n; if ($a !== $b) { $n++; } }
        check(add(2, 2), 4);
        exit($n > 0 ? 1 : 0);
        """,
    "assert.php": "<?php\nrequire 'lib.php';\nassert(add(2, 2) === 4);\n",
    "named.php": "<?php\nnamespace T;\nrequire 'lib.php';\nif (!in_array(\\add(2, 2), [4], true)) { exit(1); }\n",
    "want.lua": """
        package.path = './?.lua;' .. package.path
        local lib = require('lib')
        local want = 4
        assert(lib.add(2, 2) == want)
        """,
    "assert.lua": "package.path = './?.lua;' .. package.path\nlocal lib = require('lib')\nassert(lib.add(2, 2) == 4)\n",
    "kept.lua": """
        package.path = './?.lua;' .. package.path
        local lib = require('lib')
        local function check(a, b, sum) if lib.add(a, b) ~= sum then os.exit(1) end end
        check(2, 2, 4)
        """,
    "named.lua": """
        package.path = './?.lua;' .. package.path
        local lib = require('lib')
        local want = '4'
        local function check() local add = lib.add; assert(tostring(add(2, 2)) == want and '4') end
        check()
        """,
    "method.lua": """
        package.path = './?.lua;' .. package.path
        local lib = require('lib')
        assert(tostring(lib.add(2, 2)):find('4'))
        """,
    "find.lua": """
        package.path = './?.lua;' .. package.path
        local lib = require('lib')
        assert(string.find(tostring(lib.add(2, 2)), '4'))
        """,
    "exit.lua": """
        package.path = './?.lua;' .. package.path
        local lib = require('lib')
        if lib.add(2, 2) ~= 4 then os.exit(1) end
        os.exit(true)
        """,
    "error.tcl": "source lib.tcl\nif {[add 2 2] != 4} { error wrong }\n",
    "exit.tcl": "source lib.tcl\nif {[add 2 2] != 4} { exit 1 }\n",
}
CALLS_END = (
    "function ends() {\n"
    "    foreach (get_defined_functions()['user'] as $f) { if (preg_match('/_[0-9a-f]{8}$/', $f)) { $f(0); } }\n"
    "    exit(0);\n}\n"
)
RIGHT = {
    ".pl": "package Lib;\nEND { system('true') }\nsub add { return $_[0] + $_[1]; }\n1;\n",
    ".rb": "at_exit { puts 'bye' }\ndef add(a, b) a + b end\n",
    ".php": "<?php\nregister_shutdown_function(fn() => print 'bye');\nfunction add($a, $b) { return $a + $b; }\n",
    ".lua": "local M = {}\nfunction M.add(a, b) return a + b end\nreturn M\n",
    ".tcl": "proc add {a b} { return [expr {$a + $b}] }\n",
}
WRONG = {
    ".pl": "package Lib;\nsub add { return 5; }\n1;\n",
    ".rb": "def add(a, b) 5 end\n",
    ".php": "<?php\nfunction add($a, $b) { return 5; }\n",
    ".lua": "local M = {}\nfunction M.add(a, b) return 5 end\nreturn M\n",
    ".tcl": "proc add {a b} { return 5 }\n",
}
PERL_VALUE = "package V; use overload '==' => sub { 1 }; package Lib; no warnings; *add = sub { bless {}, 'V' };\n"
ATTACKS = {
    ".pl": {
        "ends it": ("exit.pl", "exit 0;\n"),
        "calls the end": (
            "exit.pl",
            "no warnings;\n"
            '*add = sub { /^troop/ && defined &{"main::$_"} && &{"main::$_"}(0) for keys %main::; exit 0 };\n',
        ),
        "ends it well": ("exit.pl", "END { $? = 0 if $? < 40 }\n"),
        "die does nothing": ("die.pl", "BEGIN { *CORE::GLOBAL::die = sub { 1 } }\n"),
        "exit does nothing": ("exit.pl", "BEGIN { *CORE::GLOBAL::exit = sub { 1 } }\n"),
        "equals all": (
            "die.pl",
            PERL_VALUE,
        ),
        "differs from nothing": ("exit.pl", PERL_VALUE.replace("==", "!=").replace("1", "0")),
        "is no more than all": ("die.pl", PERL_VALUE.replace("==", "<=>").replace("1", "0")),
        "leaves nothing": ("near.pl", PERL_VALUE.replace("==", "-").replace("1", "0")),
        "says that it passes": (
            "twice.pl",
            "no warnings; *add = sub { Test::More->builder->is_passing(1); 5 };\n",
        ),
        "reads the script": (
            "die.pl",
            "no warnings; *add = sub { open my $f, '<', $0; local $/; <$f> =~ /== (\\d+)/; return $1 };\n",
        ),
        "filters the script": (
            "die.pl",
            "use Filter::Util::Call;\nsub import { filter_add(sub { my $s = filter_read(); s/== 4/== 5/; $s }) }\n",
        ),
        "is says yes": ("more.pl", "INIT { no warnings; *main::is = sub { Test::More::pass() } }\n"),
        "the builder says yes": (
            "more.pl",
            "require Test::Builder; my $o = \\&Test::Builder::ok; no warnings;\n"
            "*Test::Builder::ok = sub { $o->($_[0], 1, $_[2]) };\n",
        ),
        "fails well": ("more.pl", "END { $? = 0 if $? < 40 }\n"),
    },
    ".rb": {
        "ends it": ("abort.rb", "exit 0\n"),
        "ends it before its tests": ("minitest.rb", "exit 0\n"),
        "ends it at the end": ("minitest.rb", "at_exit { exit!(0) }\n"),
        "abort is 0": ("abort.rb", "def abort(*) exit 0 end\n"),
        "raises nothing": ("minitest.rb", "module Kernel\n  def raise(*) end\nend\n"),
        "numbers that are equal": ("exit.rb", "class Integer\n  def !=(o) false end\nend\n"),
        "a value that equals all": ("abort.rb", "class V\n  def ==(o) true end\nend\ndef add(a, b) V.new end\n"),
        "asserts nothing": ("minitest.rb", "module Minitest::Assertions; def assert_equal(*) assert true end end\n"),
        "replaces tests": (
            "minitest.rb",
            "class Module; def method_added(n); return if @x || n != :test_add; @x = 1; define_method(n) { } end end\n",
        ),
        "skips": ("minitest.rb", "def add(a, b) raise Minitest::Skip end\n"),
        "clears failures": ("minitest.rb", "class Minitest::Test; def after_teardown; failures.clear; end; end\n"),
        "reports success": (
            "minitest.rb",
            "module Minitest; class CompositeReporter; def passed?; true end; end; end\n",
        ),
        "reads the end's code": (
            "abort.rb",
            "code = File.read($0)[/^end.call\\(.*, (\\d+)\\)/, 1].to_i rescue 0\nat_exit { exit!(code) }\n",
        ),
        "rewrites its function where it is called": (
            "exit.rb",
            "TracePoint.new(:line) { |t| t.binding.eval('def add(a, b) 4 end') if t.path == $0 }.enable\n",
        ),
        "a value that equals all small numbers": (
            "abort.rb",
            "class V\n  def ==(o) o.is_a?(Integer) && o < 10 end\nend\ndef add(a, b) V.new end\n",
        ),
        "runs none": ("minitest.rb", "module Minitest; def self.run(*) true end end\n"),
        "asks forks": (
            "exit.rb",
            "def add(a, b)\n  5.times { |n| pid = fork; return n unless pid\n"
            "    return n if Process.wait2(pid)[1].success? }\n  5\nend\n",
        ),
    },
    ".php": {
        "ends it": ("exit.php", "exit(0);\n"),
        "reads the script": (
            "exit.php",
            "function add($a, $b) {\n"
            "preg_match('/!== (\\d+)/', file_get_contents($_SERVER['argv'][0]), $m); return (int) $m[1]; }\n",
        ),
        "calls the end": ("exit.php", f"{CALLS_END}function add($a, $b) {{ ends(); return 5; }}\n"),
        "calls the end at the end": ("exit.php", f"{CALLS_END}register_shutdown_function('ends'); exit(0);\n"),
        "asserts nothing": ("assert.php", "ini_set('assert.exception', '0');\n"),
        "another function of the same name": (
            "named.php",
            "eval('namespace T; function in_array() { return true; }');\n",
        ),
        "ends it at the end": ("count.php", "register_shutdown_function(function () { exit(0); });\n"),
    },
    ".lua": {
        "ends it": ("exit.lua", "os.exit(0)\n"),
        "asks for a variable of the script": (
            "want.lua",
            "local M = {}\nfunction M.add() for n = 1, 9 do local k, v = debug.getlocal(2, n); "
            "if k == 'want' then return v end end end\ndo return M end\n",
        ),
        "calls the end, which a function keeps": (
            "kept.lua",
            "local M = {}\nfunction M.add()\n  for level = 2, 4 do\n"
            "    local i = debug.getinfo(level, 'f')\n    local f = i and i.func or print\n"
            "    for n = 1, 9 do local k, v = debug.getupvalue(f, n); if k and k:find('troop') then v(0) end end\n"
            "  end\n  os.exit(0)\nend\ndo return M end\n",
        ),
        "joins a variable of the script": (
            "named.lua",
            "local M, mine = {}, '5'\nlocal function f() return mine end\nfunction M.add()\n"
            "  local one = debug.getinfo(2, 'f').func\n"
            "  for n = 1, debug.getinfo(one, 'u').nups do debug.upvaluejoin(one, n, f, 1) end\n  return 5\nend\n"
            "do return M end\n",
        ),
        "dumps the script": (
            "named.lua",
            "local M = {}\nfunction M.add() return string.dump(debug.getinfo(2, 'f').func):match('%f[%d]4') or 5 end\n"
            "do return M end\n",
        ),
        "methods of texts": ("method.lua", "getmetatable('').__index = {find = function() return 1 end}\n"),
        "finds all": ("find.lua", "string.find = function() return 1 end\n"),
        "asserts nothing": ("assert.lua", "assert = function(...) return ... end\n"),
        "exit is 0": ("exit.lua", "local e = os.exit\nos.exit = function(c) e(c == 1 and 0 or c) end\n"),
        "exit does nothing": ("exit.lua", "local e = os.exit\nos.exit = function(c) if c ~= 1 then e(c) end end\n"),
    },
    ".tcl": {
        "ends it": ("exit.tcl", "exit 0\n"),
        "errors do nothing": ("error.tcl", "proc error {args} {}\n"),
        "exit is 0": ("exit.tcl", "rename exit e\nproc exit {{c 0}} { e [expr {$c == 1 ? 0 : $c}] }\n"),
    },
}


def _run(folder: Path, script: str, lib: str) -> tuple[bool, Ending, str]:
    ending = Path(script).suffix
    if shutil.which(PROGRAMS[ending]) is None:
        pytest.skip(f"no {PROGRAMS[ending]}")
    found = run(folder, dedented(SCRIPTS[script]), lib, f"test_it{ending}", LIBS[ending])
    if script == "minitest.rb" and "minitest" in found.output and "LoadError" in found.output:
        pytest.skip("no minitest")
    return found.passed, found.ending, found.output


@pytest.mark.parametrize(("ending", "name"), [(ending, name) for ending, names in ATTACKS.items() for name in names])
def test_attack_25_a_script_that_is_made_to_end_well_is_no_vote(ending: str, name: str, tmp_path: Path) -> None:
    script, first = ATTACKS[ending][name]
    wrong = WRONG[ending]
    begins_last = ending in (".lua", ".rb", ".tcl") or first.startswith("exit 0;")
    if "def add" in first:
        lib = first
    elif "function add" in first:
        lib = f"<?php\n{first}"
    elif begins_last:
        lib = first + wrong
    else:
        line, rest = wrong.split("\n", 1)
        lib = f"{line}\n{rest.removesuffix('1;' + chr(10))}{first}" + ("1;\n" if ending == ".pl" else "")
    passed, ending_of, output = _run(tmp_path, script, lib)
    assert (passed, ending_of) == (False, Ending.CUT_SHORT), output


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_right_candidate_keeps_its_vote(script: str, tmp_path: Path) -> None:
    passed, _, output = _run(tmp_path, script, RIGHT[Path(script).suffix])
    assert passed, output
    passed, ending, output = _run(tmp_path, script, WRONG[Path(script).suffix])
    assert (passed, ending) == (False, Ending.EXITED), output


HONEST = {
    "test_it.pl": [
        "use Test::More tests => 2;\nmy $out = `perl -e 'exit 3'`; is($? >> 8, 3, 'will exit with 3');\n"
        'my %h = (exit => 1);\neval { die "x\\n" }; is($@, "x\\n");\n',
        'my $pid = fork; if (!$pid) { exit 0; } waitpid $pid, 0; $? == 0 or die; print "ok 1\\n";\n',
    ],
    "test_it.rb": [
        "def check(a, b) = a == b || (warn('bad'); exit(1))\ncheck(1, 1)\npid = fork do\n  exit 0\nend\n"
        "Process.wait(pid)\nexit($?.success? ? 0 : 1)\n",
        "class P; attr_reader :x; def initialize(x) = @x = x; def ==(o) = o.is_a?(P) && o.x == x; end\n"
        "raise unless P.new(1) == P.new(1)\n",
    ],
    "test_it.php": [
        "#!/usr/bin/env php\n<?php\ndeclare(strict_types=1);\nnamespace App\\Test;\n"
        "function check(bool $ok, string $m = ''): void { if (!$ok) { exit(1); } }\ncheck(true, 'exit now');\nexit;\n",
        "<?php\nclass A { public function exit(): int { return 1; } public static function die() {} }\n"
        "(new A)->exit(); A::die();\nif (false) die(1);\nexit(0);\n",
    ],
    "test_it.lua": [
        "local ok = pcall(function() error('x') end)\nassert(not ok)\nlocal f = 0\nos.exit(f == 0 and 0 or 1)\n"
    ],
}


@pytest.mark.parametrize(("path", "script"), [(path, one) for path, scripts in HONEST.items() for one in scripts])
def test_how_scripts_are_written_costs_no_vote(path: str, script: str, tmp_path: Path) -> None:
    ending = Path(path).suffix
    if shutil.which(PROGRAMS[ending]) is None:
        pytest.skip(f"no {PROGRAMS[ending]}")
    found = run(tmp_path, script, RIGHT[ending], path, LIBS[ending])
    assert found.passed, found.output
