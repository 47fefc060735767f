 private static $@NAME@ = [0, 0, 0];
    // PHP takes true for equal to whatever is true.
    private static function @NAME@Equals($expected, $actual, ...$more): void
    {
        self::$@NAME@[2] += (int) ($actual === true && !\in_array($expected, [true, 1, 1.0, '1'], true));
        self::assertEquals($expected, $actual, ...$more);
    }
    protected function assertPreConditions(): void
    {
        parent::assertPreConditions();
        self::$@NAME@[0]++;
    }
    protected function assertPostConditions(): void
    {
        parent::assertPostConditions();
        self::$@NAME@[1]++;
    }
    // Behind all tests of the class: ends it with the code, where each of them came to its end and is judged as it was.
    public static function tearDownAfterClass(): void
    {
        [$began, $ended, $loose] = self::$@NAME@;
        $well = $began > 0 && (@SKIPS@ || $began === $ended) && $loose === 0;
        if (@ASSERTS@ && \ini_get('zend.assertions') !== '-1') {
            try {
                \assert(1 === 2);
                $well = false;
            } catch (\Throwable $_) {
            }
        }
        foreach (\get_defined_functions()['user'] as $one) { // in the place of a function of PHP's
            $name = \substr(\strrchr("\\$one", '\\'), 1);
            $in_place = $name !== $one && \strpos($one, \strtolower(__NAMESPACE__) . '\\') === 0 && \function_exists($name);
            $well = $well && !($in_place && (new \ReflectionFunction($name))->isInternal());
        }
        $comparing = 'SebastianBergmann\Comparator\Factory';
        foreach (\class_exists($comparing, false) ? (array) $comparing::getInstance() : [] as $key => $value) {
            $well = $well && (@COMPARES@ || \substr($key, -17) !== 'customComparators' || !$value);
        }
        exit($well ? @CODE@ : @OTHER@);
    }
