
// After a test script in PHP: what ends it with the code, where its status is 0 and assertions still fail.
function @NAME@($status = 0, ...$_): void
{
    if (\is_string($status) || (int) $status !== 0) {
        exit($status);
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
