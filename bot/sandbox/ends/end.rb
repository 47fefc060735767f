# Before a test script in Ruby: where it ends well, and nothing that it judges by was replaced by a changed file, the
# process ends with the code.
def self.@NAME@ = binding
Object.send(:remove_const, :TOPLEVEL_BINDING)
TOPLEVEL_BINDING = self.@NAME@ # without the variables of the script
@NAME@ = lambda do |changed, code|
  owner, script, state = Process.pid, File.realpath($0), {skips: 0}
  File.delete(script) unless @STAYS@
  foreign = lambda { |path| path.nil? || path.start_with?("(eval") || changed.any? { |one| path.end_with?(one) } }
  judging = %i[== != === =~ ! eql? equal? nil? match? include? empty? any? all? none? <=> < > <= >= between? is_a? kind_of?
               instance_of? raise fail abort exit exit! throw]
  kinds = [BasicObject, Object, Kernel, Module, Comparable, Enumerable, Integer, Float, String, Symbol, Array, Hash,
           NilClass, TrueClass, FalseClass, Exception, Proc]
  method_of = lambda { |kind, name| kind.instance_method(name) if kind.method_defined?(name) || kind.private_method_defined?(name) }
  before = kinds.flat_map { |kind| judging.map { |name| [kind, name, method_of.(kind, name)] } }.select(&:last)

  replaced = lambda do
    before.any? { |kind, name, was| (now = method_of.(kind, name)) != was && foreign.(now&.source_location&.first) }
  end
  # Methods by which minitest and test-unit judge; not where they are what the tree itself has.
  names = /\A(?:assert(?:_equal|_nil|_same|_match|_includes|_raises?|_in_delta|_empty|_kind_of|_instance_of|_operator|_predicate|_true|_false|_not_equal|_not_nil|_block|_respond_to|_output|_throws)?|refute\w*|must_\w+|wont_\w+|flunk|run|run_test|runnable_methods|runnables|run_one_method|passed\?|failures|result_code|report|record|add_failure|add_error)\z/
  tools = lambda do
    found = %w[Minitest::Test Test::Unit::TestCase].filter_map { |name| Object.const_get(name) if Object.const_defined?(name) }
    found.reject { |one| (one.instance_method(:run).source_location || [""])[0].start_with?("#{Dir.pwd}/lib", "#{Dir.pwd}/test") }
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
      own = (space.instance_methods + space.private_instance_methods).map { |name| space.instance_method(name) }
      own += space.singleton_methods.map { |name| space.method(name) }
      own.any? { |one| ![Object, Kernel, BasicObject].include?(one.owner) && one.source_location && foreign.(one.source_location[0]) }
    end
  end
  # A value that equals whatever it is compared with: nothing equals both of two that differ.
  pairs = [[1 + rand(9), -1], [10 + rand(90), -3], [rand, 7.5], ["a#{rand}", "b"], [:a, :b], [[1], [2]], [true, false]]
  agreeing = lambda do
    kinds = ObjectSpace.each_object(Class).select do |kind|
      (one = method_of.(kind, :==)) && one.source_location && foreign.(one.source_location[0])
    end
    kinds.any? do |kind|
      values = ObjectSpace.each_object(kind).first(5)
      values << (kind.allocate rescue nil)
      values.compact.any? { |one| pairs.any? { |a, b| (one == a && one == b) rescue false } }
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

  at_exit do
    error = $!
    places = error.is_a?(SystemExit) ? error.backtrace_locations.to_a.map { |one| one.absolute_path || one.path } : []
    if Process.pid != owner
      exit!(1) if state[:reached] == Process.pid || (state[:forked] && places.none?(&foreign))
      next
    end
    good = error.nil? || (error.is_a?(SystemExit) && error.status.zero? && places.none?(&foreign))
    good &&= state[:reached] || places.include?(script)
    $stdout.flush rescue nil
    next unless good
    exit!(replaced.() || overridden.() || reopened.() || agreeing.() || state[:skips] > 0 || state[:traced] ? @OTHER@ : code)
  end

  lambda do
    state[:reached] = Process.pid
    tools.().each do |one|
      next unless one.name == "Minitest::Test"
      one.prepend(Module.new do
        define_method(:run) do |*given|
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
