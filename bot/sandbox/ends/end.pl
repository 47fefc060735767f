# Before a test script in Perl: what ends it with the code, where its status is 0 and nothing that it judges by was
# replaced by a changed file.
my $@NAME@; BEGIN {
    unlink $0 unless @STAYS@;
    require POSIX; require B;
    my ($owner, @changed) = ($$, @CHANGED@);
    my ($leave, $bad) = (\&POSIX::_exit, @OTHER@);
    my $foreign = sub {
        my $file = '/' . (eval { B::svref_2object($_[0])->START->file } || eval { B::svref_2object($_[0])->FILE } || '');
        return scalar grep { length($file) >= length && substr($file, -length) eq $_ } @changed;
    };
    my $judging = qr/^(?:is|isnt|ok|like|unlike|cmp_ok|is_deeply|isa_ok|can_ok|pass|fail|done_testing|plan|diag|subtest|eq_\w+)$/;
    my $replaced = sub {
        no strict 'refs';
        return 1 if !@FILTERS@ && defined &Filter::Util::Call::filter_read; # it may have changed the script's text
        for my $name (qw(die exit warn eval system)) { return 1 if defined &{"CORE::GLOBAL::$name"} && $foreign->(\&{"CORE::GLOBAL::$name"}) }
        if ($INC{'Test/Builder.pm'} && !-e 'lib/Test/Builder.pm') {
            for my $space ('Test::Builder::', 'Test::More::', 'Test2::API::Context::', 'Test2::Hub::') {
                for my $name (keys %{$space}) { return 1 if defined &{"$space$name"} && $foreign->(\&{"$space$name"}) }
            }
            for my $name (grep { $_ =~ $judging } keys %main::) { return 1 if defined &{"main::$name"} && $foreign->(\&{"main::$name"}) }
            return 1 unless Test::Builder->new->is_passing;
            return 1 if grep { !$_->{ok} } Test::Builder->new->details; # whatever was said since
        }
        return 0;
    };
    my $agreeing; $agreeing = sub {  # a value that equals whatever it is compared with
        no strict 'refs'; no warnings;
        my ($space, $depth) = @_;
        for my $inner (grep { /^\w+::$/ && $_ ne 'main::' } keys %{$space}) {
            my $package = substr("$space$inner", 6, -2);
            for my $operator ('==', 'eq', '!=', 'ne', '<=>', 'cmp', '-') {
                my $method = $INC{'overload.pm'} ? overload::Method($package, $operator) : undef;
                next unless $method && $foreign->($method);
                my ($one, @others) = (bless({}, $package), $operator =~ /[a-z]/ ? ('a' . rand, 'b' . rand) : (rand, -7 - rand));
                my $agrees = $operator =~ /^(?:==|eq)$/;
                return 1 if eval { 2 == grep { !$method->($one, $_, '') != $agrees } @others };
            }
            return 1 if $depth < 6 && $agreeing->("$space$inner", $depth + 1);
        }
        return 0;
    };
    $@NAME@ = sub {
        my ($reached, $status) = @_;
        $leave->($bad) if $reached && $$ != $owner;
        CORE::exit($status) if $status || $$ != $owner;
        my $other = $replaced->() || $agreeing->('main::', 0);
        local $| = 1; print '';
        $leave->($other ? $bad : @CODE@);
    };
    my $script = __FILE__;
    sub @NAME@ { $leave->($bad) if (caller)[1] ne $script; $@NAME@->(0, @_ ? $_[0] : 0) } # who finds its name is elsewhere
}
