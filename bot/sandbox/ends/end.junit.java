
    static final boolean[] @NAME@ = new boolean[@TESTS@ + 1]; // which tests began; at the end, whether one was left early

    static void @NAME@Left(Throwable left) {
        String own = @OWNER@.class.getName();
        boolean skipped = left.getClass().getName().matches(".*(TestAborted|AssumptionViolated)Exception");
        for (StackTraceElement one : left.getStackTrace()) {
            String name = one.getClassName();
            if (name.startsWith("org.junit.") || name.startsWith("org.opentest4j.")) continue;
            if (skipped && (name.equals(own) || name.startsWith(own + "$"))) return; // by an assumption of the class's own
            break;
        }
        @NAME@[@TESTS@] = true;
    }

    @@AFTER@
    public static void @NAME@End() {
        boolean well = !@NAME@[@TESTS@];
        for (int n = 0; n < @TESTS@; n++) well &= @NAME@[n];
        @LEAVE@
    }
