 private static $@NAME@ = [0, 0];
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
        [$began, $ended] = self::$@NAME@;
        $well = $began > 0 && (@SKIPS@ || $began === $ended);
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
