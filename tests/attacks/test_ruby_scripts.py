"""Attack 25 on test scripts in Ruby: `exit` as a method of a value, values that lie otherwise than by `==`, patches
that undo themselves, tests that are left out. `add` is wrong on each of the candidates that must not pass."""

import shutil
from pathlib import Path

import pytest

from bot.records import Execution
from tests.attacks.test_shell_scripts import run

HEAD = "$:.unshift Dir.pwd\nrequire 'lib'\n"
MINITEST = (
    "$:.unshift Dir.pwd\nrequire 'minitest/autorun'\nrequire 'lib'\nclass TestAdd < Minitest::Test\n"
    "  def test_zero; assert true end\n  def test_add; {} end\nend\n"
)
EQUAL = MINITEST.format("assert_equal 4, add(2, 2)")
PLAIN = f"{HEAD}abort unless add(2, 2) == 4\n"
WRONG = "def add(a, b) 5 end\n"
GIVES = "def add(a, b) V.new end\nclass V; {} end\n"
ATTACKS = {
    "exits as a text": (
        f"{HEAD}exit 1 unless add(2, 2).to_s == '4'\n",
        GIVES.format("define_method(:to_s, Kernel.instance_method(:exit))"),
    ),
    "is not unequal": (f"{HEAD}exit 1 if add(2, 2) != 4\n", GIVES.format("def !=(o) false end")),
    "is between all": (f"{HEAD}abort unless add(2, 2).between?(3, 5)\n", GIVES.format("def between?(*) true end")),
    "differs from nothing": (f"{HEAD}abort if (add(2, 2) - 4).abs > 0.1\n", GIVES.format("def -(o) 0 end")),
    "has everything": (MINITEST.format("assert_includes add(2, 2), '4'"), GIVES.format("def include?(o) true end")),
    "is of all kinds": (
        MINITEST.format("assert_kind_of Integer, add(2, 2)"),
        GIVES.format("def is_a?(o) true end; alias kind_of? is_a?"),
    ),
    "walks over nothing": (
        f"{HEAD}[[2, 4]].each {{ |a, sum| abort unless add(a, a) == sum }}\n",
        f"{WRONG}class Array; alias old each; def each(*) Array.alias_method(:each, :old); self end end\n",
    ),
    "numbers that are equal for once": (
        f"{HEAD}abort unless add(2, 2) == 4\n",
        f"{WRONG}module P; def ==(o) P.send(:remove_method, :==); true end end\nInteger.prepend(P)\n",
    ),
    "an error that is rescued as another": (
        MINITEST.format("assert_raises(KeyError) { add(2, 2) }"),
        "def KeyError.===(error) true end\ndef add(a, b) raise 'x' end\n",
    ),
    "arguments of minitest": (EQUAL, f"{WRONG}ARGV << '-n' << 'test_zero'\n"),
    "before minitest's own method": (
        EQUAL,
        f"{WRONG}Minitest::Test.prepend(Module.new {{ def run; super.tap {{ |one| one.failures.clear }} end }})\n",
    ),
    "equals small numbers": (PLAIN, GIVES.format("def ==(o) o.is_a?(Integer) && o > 0 end")),
    "equals words": (
        f"{HEAD}abort unless add('a', 'b') == 'ab'\n",
        GIVES.format("def ==(o) o.is_a?(String) && o.match?(/\\A[a-z]+\\z/) end"),
    ),
    "is as large as all": (PLAIN, GIVES.format("include Comparable; def <=>(o) 0 end")),
    "is what all are": (f"{HEAD}abort unless add(2, 2).eql?(4)\n", GIVES.format("def eql?(o) true end")),
    "leaves nothing": (
        f"{HEAD}abort unless add(2, 2) % 4 == 0 && add(2, 2) / 4 == 1\n",
        GIVES.format("def %(o) 0 end; def /(o) 1 end"),
    ),
    "matches all": (f"{HEAD}abort unless add(2, 2).match?(/4/)\n", GIVES.format("def match?(o) true end")),
    "has some of everything": (
        f"{HEAD}abort unless add(2, 2).any? {{ |n| n == 4 }} && add(2, 2).all? {{ |n| n == 4 }}\n",
        "class A < Array; def any?(*) true end; def all?(*) true end end\ndef add(a, b) A.new([5]) end\n",
    ),
    "reads the test by a block's variables": (
        MINITEST.format("want = 4; assert_equal want, add(2, 2) { want }"),
        "def add(a, b, &block) block.binding.local_variable_get(:want) end\n",
    ),
    "reads the test's instructions": (
        EQUAL,
        "def add(a, b)\n  code = RubyVM::InstructionSequence.of(TestAdd.instance_method(:test_add)).disasm\n"
        "  code.scan(/putobject\\s+(\\d+)/).flatten.first.to_i\nend\n",
    ),
    "removes a test": (
        EQUAL,
        f"{WRONG}TracePoint.new(:end) {{ |t| t.self.send(:remove_method, :test_add) if t.self.to_s == 'TestAdd' }}"
        ".enable\n",
    ),
    "follows each line": (
        f"{HEAD}want = 4\nfound = add(2, 2)\nabort unless found == want\n",
        "set_trace_func proc { |*, b, _| $want = b.local_variable_get(:want) rescue nil }\ndef add(a, b) $want end\n",
    ),
    "what a test leads to": (
        MINITEST.format("assert_equal 'fred', add(2, 2)"),
        "require 'objspace'\ndef texts(one, n)\n  return [one] if one.is_a?(String) || n == 0\n"
        "  ObjectSpace.reachable_objects_from(one).to_a.grep_v(Module).flat_map { |o| texts(o, n - 1) }\nend\n"
        "def add(*) texts(TestAdd.instance_method(:test_add), 3).grep(String).grep(/\\Af...\\z/).first end\n",
    ),
    "looks for the script's text": (
        f"{HEAD}abort unless add(2, 2) == 4\n",
        "def add(a, b) ObjectSpace.each_object(String) { |s| return $1.to_i if s =~ /2\\) == (\\d)/ }; 5 end\n",
    ),
}
RIGHT = "def add(a, b) a + b end\n"
HONEST = {
    "exits": (f"{HEAD}exit 1 if add(2, 2) != 4\nexit\n", RIGHT),
    "exits by a condition": (f"{HEAD}Process.exit(add(2, 2) == 4)\n", RIGHT),
    "raises its end": (f"{HEAD}abort unless add(2, 2) == 4\nraise SystemExit\n", RIGHT),
    "adds to the language": (
        f"{HEAD}abort unless [1, 2].total == 3\n",
        "class Array\n  def total; sum end\nend\n",
    ),
    "compares itself": (
        f"{HEAD}one = V.new(1)\nabort unless one == V.new(1) && one.between?(V.new(0), V.new(2))\n"
        "abort unless (V.new(3) - one).n == 2\n",
        "class V\n  include Comparable\n  attr_reader :n\n  def initialize(n) @n = n end\n  def <=>(o) n <=> o.n end\n"
        "  def -(o) V.new(n - o.n) end\n  def include?(o) o == n end\nend\n",
    ),
    "computes and finds": (
        f"{HEAD}abort unless V.new(4) % 2 == 0 && V.new(4) / 4 == 1 && V.new(4).eql?(V.new(4)) && V.new(4) == 4.0\n"
        "list = L.new([4, 5])\nabort unless list.any? { |n| n == 4 } && list.all? { |n| n > 3 } && list.count(4) == 1\n"
        "abort unless list.key?(4) && L.new.none? && V.new(4).match?(/4/) && (V.new(4) =~ /4/) == 0\n"
        "abort unless apply(3) { |n| n + 1 } == 4\n",
        "class V\n  attr_reader :n\n  def initialize(n) @n = n end\n  def %(o) n % o end\n  def /(o) n / o end\n"
        "  def ==(o) (n - (o.is_a?(V) ? o.n : o)).abs < 0.1 end\n  def eql?(o) o.is_a?(V) && n == o.n end\n"
        "  def match?(o) n.to_s.match?(o) end\n  def =~(o) n.to_s =~ o end\n  def <=>(o) n <=> o.n end\nend\n"
        "class L < Array\n  def any?(&f) f ? super : !empty? end\n  def all?(&f) super end\n"
        "  def count(*o, &f) super end\n  def key?(n) include?(n) end\nend\n"
        "def apply(n, &block) block.arity == 1 ? block.(n) : n end\n",
    ),
    "rescues by a rule of its own": (
        f"{HEAD}begin\n  raise KeyError\nrescue Gone\nelse\n  abort\nend\n",
        "class Gone < StandardError\n  def self.===(e) super || e.is_a?(KeyError) end\nend\n",
    ),
    "has a class of tests": (
        "$:.unshift Dir.pwd\nrequire 'minitest/autorun'\nrequire 'lib'\nclass TestIt < Base\n"
        "  def test_it; same 2, 2 end\n  def test_later; skip 'later' end\nend\n"
        "describe('it') { it('is') { _(2).must_equal 2 } }\n",
        "class Base < Minitest::Test\n  def same(a, b) assert_equal a, b end\nend\n",
    ),
}


def _run(script: str, lib: str, folder: Path) -> Execution:
    if shutil.which("ruby") is None:
        pytest.skip("no ruby")
    found = run(folder, script, lib, "test_it.rb", "lib.rb")
    if "minitest" in script and "LoadError" in found.output:
        pytest.skip("no minitest")
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_25_a_script_of_ruby_that_is_made_to_end_well_is_no_vote(name: str, tmp_path: Path) -> None:
    found = _run(*ATTACKS[name], tmp_path)
    assert not found.passed, found


@pytest.mark.parametrize("name", HONEST)
def test_a_right_candidate_of_ruby_keeps_its_vote(name: str, tmp_path: Path) -> None:
    found = _run(*HONEST[name], tmp_path)
    assert found.passed, found
