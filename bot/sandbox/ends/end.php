
// After a test script in PHP: what ends it with the code, where its status is 0 and assertions still fail.
function @NAME@($status = 0, ...$_): void
{
    if (\is_string($status) || (int) $status !== 0) {
        exit($status);
    }
    if ((\debug_backtrace(0, 1)[0]['file'] ?? '') !== __FILE__) { // who finds its name calls it from elsewhere
        exit(@OTHER@);
    }
    foreach (\get_defined_functions()['user'] as $one) { // in the place of a function of PHP's
        $name = \substr(\strrchr("\\$one", '\\'), 1);
        $file = (new \ReflectionFunction($one))->getFileName();
        if ($name !== $one && \function_exists($name) && (new \ReflectionFunction($name))->isInternal() && $file !== __FILE__
            && \strpos($one, \strtolower(__NAMESPACE__) . '\\') === 0) {
            exit(@OTHER@);
        }
    }
    if (@ASSERTS@ && \ini_get('zend.assertions') !== '-1') {
        try {
            \assert(1 === 2);
            exit(@OTHER@);
        } catch (\Throwable $_) {
        }
    }
    exit(@CODE@);
}
@NAME@();
