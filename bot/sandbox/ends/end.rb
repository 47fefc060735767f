# Before a test script in Ruby: where it ends well, and nothing that it judges by was replaced by a changed file, the
# process ends with the code.
def self.@NAME@ = binding
Object.send(:remove_const, :TOPLEVEL_BINDING)
TOPLEVEL_BINDING = self.@NAME@ # without the variables of the script
@NAME@ = lambda do |changed, code|
  owner, script, state = Process.pid, File.realpath($0), {skips: 0, ran: {}}
  lines = File.readlines(script)
  File.delete(script) unless @STAYS@
  foreign = lambda { |path| path.nil? || path.start_with?("(eval") || changed.any? { |one| path.end_with?(one) } }
  judging = %i[== != === =~ ! eql? equal? nil? match? include? empty? any? all? none? <=> < > <= >= between? is_a? kind_of?
               instance_of? raise fail abort exit exit! throw each each_with_index each_pair map zip times]
  kinds = [BasicObject, Object, Kernel, Module, Comparable, Enumerable, Integer, Float, String, Symbol, Array, Hash,
           NilClass, TrueClass, FalseClass, Exception, Proc]
  method_of = lambda { |kind, name| kind.instance_method(name) if kind.method_defined?(name) || kind.private_method_defined?(name) }
  before = kinds.flat_map { |kind| judging.map { |name| [kind, name, method_of.(kind, name)] } }.select(&:last)

  # What undoes itself was there when it was set.
  by_foreign = lambda { caller_locations.any? { |one| foreign.(one.absolute_path || one.path) } }
  setting = Module.new do
    define_method(:method_added) do |name|
      state[:set] ||= kinds.include?(self) && judging.include?(name) && by_foreign.()
      super(name)
    end
    define_method(:prepend) do |*modules|
      named = modules.flat_map { |one| one.instance_methods + one.private_instance_methods } & judging
      state[:set] ||= kinds.include?(self) && !named.empty? && by_foreign.()
      super(*modules)
    end
  end
  kinds.each { |kind| kind.singleton_class.prepend(setting) }
  # An exception that says it is what is rescued.
  rescued = lambda do
    other = Class.new(StandardError).new
    ObjectSpace.each_object(Exception.singleton_class).any? do |kind|
      (place = kind.method(:===).source_location) && foreign.(place[0]) && ((kind === other) rescue true)
    end
  end
  replaced = lambda do
    state[:set] || rescued.() ||
      before.any? { |kind, name, was| (now = method_of.(kind, name)) != was && foreign.(now&.source_location&.first) }
  end
  # Methods by which minitest and test-unit judge; not where they are what the tree itself has.
  names = /\A(?:assert(?:_equal|_nil|_same|_match|_includes|_raises?|_in_delta|_empty|_kind_of|_instance_of|_operator|_predicate|_true|_false|_not_equal|_not_nil|_block|_respond_to|_output|_throws)?|refute\w*|must_\w+|wont_\w+|flunk|run|run_test|runnable_methods|runnables|run_one_method|passed\?|failures|result_code|report|record|add_failure|add_error)\z/
  tools = lambda do
    %w[Minitest::Test Test::Unit::TestCase].select { |name| Object.const_defined?(name) }
      .reject { |name| (Object.const_source_location(name)[0] || "").start_with?("#{Dir.pwd}/lib/", "#{Dir.pwd}/test/") }
      .map { |name| Object.const_get(name) }
  end
  overridden = lambda do
    kinds = tools.().flat_map { |base| ObjectSpace.each_object(base.singleton_class).to_a }
    kinds.any? do |kind|
      all = (kind.instance_methods + kind.private_instance_methods).grep(names).map { |name| kind.instance_method(name) }
      all += kind.instance_methods(false).grep(/\Atest_/).map { |name| kind.instance_method(name) }
      all += kind.methods.grep(names).map { |name| kind.method(name) }
      all.any? { |one| one.source_location && foreign.(one.source_location[0]) }
    end || (defined?(Minitest) && !tools.().empty? && Minitest.methods.grep(names).any? do |name|
      (place = Minitest.method(name).source_location) && foreign.(place[0])
    end)
  end
  # Minitest itself, and what is put before its methods.
  reopened = lambda do
    spaces = defined?(Minitest) && !tools.().empty? ? [Minitest, *Minitest.constants.map { |name| Minitest.const_get(name) }.grep(Module)] : []
    spaces.any? do |space|
      others = (space.ancestors + space.singleton_class.ancestors) - [Object, Kernel, BasicObject, Class, Module].flat_map { |one| [one, one.singleton_class] }
      own = others.flat_map { |one| (one.instance_methods(false) + one.private_instance_methods(false)).map { |name| one.instance_method(name) } }
      own.any? { |one| one.source_location && foreign.(one.source_location[0]) }
    end
  end
  # Tests of the script that a changed file had left out.
  left_out = lambda do
    named = tools.().any? { |base| base.name == "Minitest::Test" } ? lines.join.scan(/^\s*def (test_\w+)/).flatten : []
    return true unless (named - state[:ran].keys.map(&:last)).empty?
    tools.().any? do |base|
      base.name == "Minitest::Test" && ObjectSpace.each_object(base.singleton_class).any? do |kind|
        own = kind.instance_methods(false).grep(/\Atest_/).select { |name| kind.instance_method(name).source_location&.first == script }
        own.any? { |name| !state[:ran][[kind, name.to_s]] }
      end
    end
  end
  # A value that equals whatever it is compared with, or agrees otherwise: nothing agrees with both of two that differ.
  near, large, word = 3 + rand(90), 10**17 + rand(10**9), [*"a".."z"].sample(4).join
  pairs = [[1 + rand(9), -1], [10 + rand(90), -3], [rand, 7.5], ["a#{rand}", "b"], [:a, :b], [[1], [2]], [true, false]]
  pairs += [[near, near + 1, near + 10 + rand(9)], [word, "#{word}q", word.reverse]] # of likely ones alone
  numbers, texts, types, patterns = [pairs[0]], [pairs[3]], [[Integer, String]], [[/\A#{word}/, /#{large}\z/]]
  agrees = {
    :== => [pairs, ->(one, a) { one == a }], :!= => [pairs, ->(one, a) { !(one != a) }],
    :between? => [numbers, ->(one, a) { one.between?(a, a) }], :include? => [texts, ->(one, a) { one.include?(a) }],
    :start_with? => [texts, ->(one, a) { one.start_with?(a) }], :end_with? => [texts, ->(one, a) { one.end_with?(a) }],
    :is_a? => [types, ->(one, a) { one.is_a?(a) }], :kind_of? => [types, ->(one, a) { one.kind_of?(a) }],
    :- => [numbers, ->(one, a) { (one - a).abs.zero? }], :<=> => [pairs, ->(one, a) { (one <=> a) == 0 }],
  }
  agrees.merge!({ # of what the script calls
    :eql? => [pairs, ->(one, a) { one.eql?(a) }], :equal? => [pairs, ->(one, a) { one.equal?(a) }],
    :% => [[[large, large + 1]], ->(one, a) { one % a == 0 && one != 0 }],
    :/ => [[[large, large + 1]], ->(one, a) { one / a == 1 }],
    :match? => [patterns, ->(one, a) { one.match?(a) }], :=~ => [patterns, ->(one, a) { one =~ a }],
    :key? => [texts, ->(one, a) { one.key?(a) }],
    :count => [pairs, ->(one, a) { one.is_a?(Enumerable) && one.count(a) > 0 }],
    :any? => [[[1]], ->(one, _) { one.is_a?(Enumerable) && one.any? { false } }],
    :all? => [[[1]], ->(one, a) { one.is_a?(Array) && one.dup.push(a).all? { false } }],
  }.select { |name, _| lines.join.include?(name.to_s) })
  agreeing = lambda do
    ObjectSpace.each_object(Class).any? do |kind|
      own = agrees.select { |name, _| (one = method_of.(kind, name)) && one.source_location && foreign.(one.source_location[0]) }
      next if own.empty?
      values = ObjectSpace.each_object(kind).first(5)
      values << (kind.allocate rescue nil)
      values.compact.any? do |one|
        own.any? { |_, (some, agrees_with)| some.any? { |both| both.all? { |a| agrees_with.(one, a) } rescue false } }
      end
    end
  end

  # A process that a changed file forks, and lets go on with the script, tells nothing by how it ends.
  noting = Module.new do
    define_method(:_fork) do
      super().tap { |pid| state[:forked] = pid == 0 && caller_locations.any? { |one| foreign.(one.absolute_path || one.path) } }
    end
  end
  Process.singleton_class.prepend(noting) if Process.respond_to?(:_fork)
  tracing = Module.new do
    define_method(:new) do |*events, &block|
      state[:traced] ||= !(events - %i[class end]).empty? && caller_locations.any? { |one| foreign.(one.absolute_path || one.path) }
      super(*events, &block)
    end
    alias_method(:trace, :new) # which enables it as well: it costs the vote anyway
  end
  TracePoint.singleton_class.prepend(tracing)
  following = Module.new { define_method(:set_trace_func) { |block| state[:traced] ||= by_foreign.(); super(block) } }
  [Kernel, Kernel.singleton_class].each { |one| one.prepend(following) }
  walking = Module.new do # the script's text is among what is there
    define_method(:each_object) do |*kinds, &block|
      state[:traced] ||= !(kinds[0].is_a?(Module) && kinds[0] <= Module) && by_foreign.()
      super(*kinds, &block)
    end
    %i[reachable_objects_from reachable_objects_from_root dump dump_all].each do |name| # of the library objspace
      define_method(name) { |*given, **named| state[:traced] ||= by_foreign.(); super(*given, **named) }
    end
  end
  ObjectSpace.singleton_class.prepend(walking)
  # A block of the script's shows what its function knows, and the code of its tests what they compare with.
  showing = Module.new do
    define_method(:binding) { state[:traced] ||= by_foreign.() && source_location&.first == script; super() }
  end
  Proc.prepend(showing)
  reading = Module.new do
    %i[of disasm disassemble].each { |name| define_method(name) { |*given| state[:traced] ||= by_foreign.(); super(*given) } }
  end
  RubyVM::InstructionSequence.singleton_class.prepend(reading) if defined?(RubyVM::InstructionSequence)
  # `exit` leaves no place of its own where it is a method of a value: its line must name it.
  exits = lambda do |error|
    place = error.backtrace_locations&.first
    file = place && (place.absolute_path || place.path)
    line = file == script ? lines[place.lineno - 1] : (File.readlines(file)[place.lineno - 1] rescue nil)
    line.to_s.match?(/\bexit\b(?!\s*\(?\s*(?:[1-9]|false))|\bSystemExit\b/)
  end

  at_exit do
    error = $!
    places = error.is_a?(SystemExit) ? error.backtrace_locations.to_a.map { |one| one.absolute_path || one.path } : []
    if Process.pid != owner
      exit!(1) if state[:reached] == Process.pid || (state[:forked] && places.none?(&foreign))
      next
    end
    good = error.nil? || (error.is_a?(SystemExit) && error.status.zero? && places.none?(&foreign) && exits.(error))
    good &&= state[:reached] || places.include?(script)
    $stdout.flush rescue nil
    next unless good
    exit!(replaced.() || overridden.() || reopened.() || agreeing.() || left_out.() || state[:skips] > 0 || state[:traced] ? @OTHER@ : code)
  end

  lambda do
    state[:reached] = Process.pid
    tools.().each do |one|
      next unless one.name == "Minitest::Test"
      one.prepend(Module.new do
        define_method(:run) do |*given|
          state[:ran][[self.class, name]] = true
          super(*given).tap do |result|
            state[:skips] += result.failures.count do |failure|
              failure.is_a?(Minitest::Skip) && failure.backtrace.to_a.any? { |line| foreign.(line[/\A(.*?):\d+/, 1]) }
            end
          end
        end
      end)
    end
  end
end.call(@CHANGED@, @CODE@)
