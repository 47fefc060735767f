// Runs a script under Node.js and proves that it reached its end, as `runner.py` does for Python; Node.js 12 and later.
//
//     node runner.cjs REPORT_FD CHANGED_FILE PATH SCRIPT      (key and nonce come on standard input)
//
// Candidate code shares this process, so an exit code of 0 proves nothing. The proof, `NONCE CODE COUNT`, is written
// when the process ends by itself or the script ends it: not where a changed file, or code that nobody of the script
// called, does; where an exception was swallowed by a listener; or where the script's assertions were never reached,
// since it waited for ever. Both words are in this function alone. All that is needed later is bound before the script runs.
"use strict";
(() => {
  const fs = require("fs");
  const { writeSync, openSync, closeSync, fstatSync, readSync, ftruncateSync } = fs;
  const { apply, construct, defineProperty, ownKeys } = Reflect;
  const [, , reportText, changedFile, , script] = process.argv;
  const report = Number(reportText);
  const buffer = Buffer.alloc(64);
  let got = 0;
  for (let n = 1; got < 64 && n > 0; got += n) n = readSync(0, buffer, got, 64 - got, null);
  const key = buffer.toString("latin1", 0, 32);
  const nonce = buffer.toString("latin1", 32, 64);
  buffer.fill(0);
  try { ftruncateSync(0); } catch (_) { /* a pipe, which is empty by now */ }
  closeSync(0);
  openSync("/dev/null", "r"); // takes the place of standard input

  const changed = Object.create(null);
  let mistrusted = false; // without a candidate there is nobody to mistrust
  for (const line of fs.readFileSync(changedFile, "utf8").split("\n")) {
    const name = line.replace(/\t.*$/, "");
    if (!name) continue;
    mistrusted = true;
    changed[name] = true;
    try { changed[fs.realpathSync(name)] = true; } catch (_) { /* it is deleted */ }
  }
  const places = [script, fs.realpathSync(script)];
  process.argv = [process.argv[0], script];
  const said = { lines: 0, ended: false, failed: false, asserted: 0, kept: 0, within: false };
  const tell = (text) => writeSync(report, `\n${key} ${said.lines++} ${text}\n`);
  // Methods of arrays and texts may be replaced by then: none is looked up.
  const slice = String.prototype.slice;
  const begins = (text, word) => apply(slice, text, [0, word.length]) === word;
  const plain = (name) => {
    if (typeof name !== "string") return "";
    return begins(name, "file://") ? apply(slice, name, [7]) : name;
  };

  // -- who calls ----------------------------------------------------------------------------------------------------
  const RealError = Error;
  const capture = RealError.captureStackTrace;
  let users = RealError.prepareStackTrace;
  let fileOf;
  let isEval;
  let lineOf;
  let columnOf;
  RealError.prepareStackTrace = (_, sites) => {
    const kind = Object.getPrototypeOf(sites[0]);
    ({ getFileName: fileOf, isEval, getLineNumber: lineOf, getColumnNumber: columnOf } = kind);
  };
  void new RealError().stack;
  let asking = false;
  const frames = (_, sites) => {
    const found = { length: sites.length };
    for (let n = 0; n < sites.length; n += 1) {
      const [line, column] = [apply(lineOf, sites[n], []), apply(columnOf, sites[n], [])];
      found[n] = { name: plain(apply(fileOf, sites[n], [])), evaluated: apply(isEval, sites[n], []), line, column };
    }
    return found;
  };
  defineProperty(RealError, "prepareStackTrace", {
    get: () => (asking ? frames : users), set: (value) => { users = value; }, enumerable: false, configurable: false,
  });
  defineProperty(globalThis, "Error", { value: RealError, writable: false, configurable: false });
  const callers = () => {
    const limit = RealError.stackTraceLimit;
    const holder = {};
    asking = true;
    try {
      RealError.stackTraceLimit = Infinity;
      capture(holder);
      return holder.stack;
    } finally {
      asking = false;
      RealError.stackTraceLimit = limit;
    }
  };
  const [place, target] = places;
  const some = (stack, is) => {
    for (let n = 0; n < stack.length; n += 1) if (is(stack[n])) return true;
    return false;
  };
  const byCandidate = (stack) => some(stack, ({ name, evaluated }) => evaluated || changed[name] === true);
  const byScript = (stack) => some(stack, ({ name }) => name === place || name === target);
  // Whether the script is the nearest caller: it ends itself in a callback that the candidate calls, too.
  const isNearest = (stack) => {
    for (let n = 0; n < stack.length; n += 1) {
      const { name, evaluated } = stack[n];
      if (evaluated || changed[name] === true) return false;
      if (name === place || name === target) return true;
    }
    return false;
  };
  const own = __filename;
  const beside = own.replace("runner", "builtins");
  const besideToo = own.replace("runner", "unread");
  const isForeign = ({ name }) => name !== own;
  const watched = (owner, names, minds = () => true) => {
    for (const name of names) {
      const real = owner && owner[name];
      if (typeof real !== "function") continue;
      const instead = function () {
        if (minds(arguments) && byCandidate(callers()) && !byOthers()) tell(`void ${name}`);
        return new.target ? construct(real, arguments) : apply(real, this, arguments);
      };
      for (const kept of ownKeys(real)) {
        try { defineProperty(instead, kept, Object.getOwnPropertyDescriptor(real, kept)); } catch (_) { /* fixed */ }
      }
      try { owner[name] = instead; } catch (_) { /* it can't be replaced, by anybody */ }
    }
  };

  // -- what is judged by, and the script itself --------------------------------------------------------------------
  const source = fs.readFileSync(script, "utf8");
  const started = Date.now();
  const { realpathSync, statSync, readFileSync: read } = fs;
  const isOld = (name) => {
    try { return statSync(name).ctimeMs < started; } catch (_) { return false; }
  };
  // Whether nobody but the script and unchanged files is on the way here; who imports a file does not do what it does.
  const byOthers = () => {
    const stack = callers();
    let someone = false;
    for (let n = 0; n < stack.length; n += 1) {
      const { name, evaluated } = stack[n];
      if (evaluated || changed[name] === true) return false;
      if (begins(name, "node:internal/modules/") && someone) return true;
      if (begins(name, "node:internal/bootstrap/")) return true; // Node itself loads a part of it
      if (name === "" || ours(stack[n]) || begins(name, "node:")) continue;
      if (name !== place && name !== target && !isOld(name)) return false;
      someone = true;
    }
    return someone;
  };
  const ours = ({ name }) => name === own || name === beside || name === besideToo;
  const nearest = (stack) => {
    let n = 0;
    while (n < stack.length && ours(stack[n])) n += 1;
    return n < stack.length ? stack[n].name : "";
  };
  // `itself`: not where Node's loader does it for a candidate that imports a file.
  const asked = (itself) => {
    const stack = callers();
    return byCandidate(stack) && !(itself && begins(nearest(stack), "node:internal/modules/"));
  };
  // For parts of Node that some versions lack, and of which others say that they are new: no matter of the script's.
  const quietly = (run) => {
    const warn = process.emitWarning;
    process.emitWarning = () => {};
    try { return run(); } catch (_) { return undefined; } finally { process.emitWarning = warn; }
  };
  const helper = mistrusted ? require(besideToo)(source, place, { byCandidate: asked, changed, tell, quietly }) : () => "";
  const toMemory = ([path]) => {
    try { return /\/mem$/.test(realpathSync(String(path))); } catch (_) { return false; }
  };
  for (const one of [fs, fs.promises]) {
    watched(one, ["open", "openSync", "readFile", "readFileSync", "createReadStream"], toMemory);
  }

  // -- who exits ----------------------------------------------------------------------------------------------------
  // `process.exit` leaves no frame of a candidate's where it is a method of a value: `{ valueOf: process.exit }`. So the
  // nearest file must call by its name what exits.
  const { indexOf } = String.prototype;
  const EXIT = /^(?:[\w$]+\s*\??\.\s*)*(?:reallyExit|exit)\b/;
  const WORD = /^[\w$]+/;
  for (const one of [EXIT, WORD]) one.exec = RegExp.prototype.exec;
  const others = Object.create(null); // names by which the script has it
  const NAMED = /([\w$]+)\s*=\s*process\s*\.\s*(?:exit|reallyExit)\b|\bexit\s*(?::|as)\s*([\w$]+)/g;
  for (const [, one, other] of source.matchAll(NAMED)) others[one || other] = true;
  const prefixes = [0, '"use strict";'.length, '"use strict";//'.length, 'import "data:text/javascript,troopBegins()";'.length];
  const exitsAt = (text, { line, column }) => {
    let from = 0;
    for (let n = 1; n < line; n += 1) from = apply(indexOf, text, ["\n", from]) + 1;
    for (let n = 0; n < (line === 1 ? prefixes.length : 1); n += 1) {
      const at = from + column - 1 - prefixes[n];
      const rest = at < from ? "" : apply(slice, text, [at, at + 200]);
      const word = WORD.exec(rest);
      if (EXIT.exec(rest) || (word && others[word[0]] === true)) return true;
    }
    return false;
  };
  const namesExit = (stack) => {
    for (let n = 0; n < stack.length; n += 1) {
      const { name } = stack[n];
      if (name === "" || ours(stack[n]) || begins(name, "node:") || begins(name, "internal/")) continue;
      if (name === place || name === target) return exitsAt(source, stack[n]);
      try { return exitsAt(read(name, "utf8"), stack[n]); } catch (_) { return false; }
    }
    return false;
  };

  // -- the end --------------------------------------------------------------------------------------------------------
  const end = (code) => {
    if (said.ended) return tell("void ended before");
    said.ended = true;
    const number = code & 0xff; // of nothing, 0
    if (number === 0) look();
    if (number === 0 && said.kept > 0) tell("void a failure was swallowed");
    const cut = number === 0 && (said.failed || (asserts && said.asserted === 0));
    tell("end");
    writeSync(report, `\n${nonce} ${cut ? "cut" : number} ${said.lines}\n`);
  };
  const failures = { __proto__: null, uncaughtException: 1, uncaughtExceptionMonitor: 1, unhandledRejection: 1 };
  const emit = process.emit;
  const emitting = function (event, code) {
    if (failures[event] === 1 && mistrusted) said.failed = true;
    const before = process.exitCode || code; // a listener may make it 0
    const answer = apply(emit, this, arguments);
    if (event === "exit" && !some(callers(), isForeign)) end(before || process.exitCode);
    return answer;
  };
  // Packages that clean up at the end set these, in strict code: that throws nothing, and changes nothing.
  const staying = (value) => ({ get: () => value, set() {}, enumerable: true, configurable: false });
  defineProperty(process, "emit", staying(emitting));
  const reallyExit = process.reallyExit;
  defineProperty(process, "reallyExit", staying((code) => {
    const stack = callers();
    if (code || said.ended) end(code);
    // In a callback that the candidate calls: once an assertion held in such a one, where the script has assertions.
    else if (isNearest(stack) && namesExit(stack) && (said.within || !asserts || !byCandidate(stack))) end(0);
    apply(reallyExit, process, [code]);
  }));
  watched(process, ["setUncaughtExceptionCaptureCallback", "addUncaughtExceptionCaptureCallback", "binding"]);
  // Not where `require` loads an addon that was there before.
  watched(process, ["dlopen"], ([, file]) => !(isOld(file) && begins(nearest(callers()), "node:internal/modules/")));
  watched(process, ["_debugProcess", "abort"]);
  watched(require("v8"), ["getHeapSnapshot", "writeHeapSnapshot", "setHeapSnapshotNearHeapLimit"]);
  watched(require("v8"), ["setFlagsFromString"], ([flag]) => /native/.test(String(flag))); // by which code is read
  try { watched(require("inspector"), ["open", "Session"]); } catch (_) { /* Node.js without it */ }
  // By which any memory is read, and any code runs.
  const ffi = quietly(() => require("node:ffi"));
  watched(ffi, ffi ? ownKeys(ffi) : []);
  watched(quietly(() => require("node:sqlite").DatabaseSync.prototype), ["loadExtension"]);
  const Loader = require("module");
  watched(Loader, ["register", "registerHooks"]);
  // Declared as for jest or mocha, where neither is there: Node's own runner has functions of these names.
  const declares = /^[ \t]*(?:describe|it|test|suite)(?:\.\w+)*\(/m.test(source)
    && !/["'`](?:@jest\/globals|vitest|mocha|bun:test|tape?|ava)["'`]|\b(?:function|const|let|var)\s+(?:describe|it|test|suite)\b/.test(source);
  const ofNode = /["'`]node:test["'`]/.test(source);
  const tests = ofNode || declares ? quietly(() => require("node:test")) : undefined;
  if (tests) {
    if (!ofNode) {
      for (const name of ["describe", "it", "test", "suite", "before", "after", "beforeEach", "afterEach"]) {
        if (!(name in globalThis)) globalThis[name] = tests[name];
      }
    }
    // A candidate may skip the script's tests by a hook or by the one that runs, and take the place of its assertions.
    watched(tests, ["before", "beforeEach", "after", "afterEach", "getTestContext"]);
    const { assert } = tests;
    watched(assert, ["register"]);
    if (assert) defineProperty(tests, "assert", { value: assert, writable: false }); // once a new one each time
  }
  // Behind all that is replaced here, which would be taken for a candidate's.
  const replaced = mistrusted ? require(beside)(source, byOthers, (name) => tell(`void replaced ${name}`)) : () => "";
  const look = () => {
    const name = replaced() || helper();
    if (name) tell(`void replaced ${name}`);
  };
  Loader.syncBuiltinESMExports();

  // -- assertions -----------------------------------------------------------------------------------------------------
  const assert = require("assert");
  const called = /\bassert(?:\.strict)?\.\w+\s*\(/.test(source) && !/\bassert(?:\.strict)?\s*\(/.test(source);
  const asserts = called && /["'`](?:node:)?assert(?:\/strict)?["'`]/.test(source);
  const exits = /\bexit\b/.test(source);
  // A failure that a changed file is told of first, which then calls on: one that never holds later was swallowed.
  const broken = Object.create(null);
  const asserting = (real, self, args) => {
    const line = () => {
      const stack = callers();
      let n = 0;
      while (n < stack.length && stack[n].name !== place && stack[n].name !== target) n += 1;
      return { stack, at: n < stack.length ? stack[n].line : 0 };
    };
    try {
      const answer = apply(real, self, args);
      if (exits && !said.within) said.within = byCandidate(callers());
      if (said.kept > 0) {
        const { at } = line();
        if (broken[at] === true) { broken[at] = false; said.kept -= 1; }
      }
      return answer;
    } catch (error) {
      const { stack, at } = line();
      if (byCandidate(stack) && broken[at] !== true) { broken[at] = true; said.kept += 1; }
      throw error;
    }
  };
  const asserted = (real) => new Proxy(real, {
    apply: (_, self, args) => {
      said.asserted += 1;
      look();
      return asserting(real, self, args);
    },
  });
  // Of `new Assert()` each assertion is one of its own, whatever its class has by then.
  const made = (real) => {
    const kept = Object.create(null);
    for (const name of ownKeys(real.prototype)) if (name !== "constructor") kept[name] = asserted(real.prototype[name]);
    const making = (_, args, target) => {
      const one = construct(real, args, target);
      const strict = args.length === 0 || !args[0] || args[0].strict !== false;
      for (const name in kept) {
        const value = kept[(strict && STRICT[name]) || name];
        defineProperty(one, name, { value, enumerable: true, writable: false, configurable: false });
      }
      return one;
    };
    return new Proxy(real, { construct: making });
  };
  const STRICT = {
    __proto__: null, equal: "strictEqual", notEqual: "notStrictEqual", deepEqual: "deepStrictEqual",
    notDeepEqual: "notDeepStrictEqual",
  };
  for (const one of new Set([assert, assert.strict])) {
    for (const name of ownKeys(one)) {
      const there = Object.getOwnPropertyDescriptor(one, name);
      if (typeof there.value !== "function" || !there.configurable) continue;
      const real = there.value;
      const unchanged = name === "strict" || name === "AssertionError";
      const value = unchanged ? real : name === "Assert" ? made(real) : asserted(real);
      // What `ok` says of a failure, it reads where it is called; `match` looks whether it is itself. Node itself looks
      // at `ok` when it is required.
      const get = () => {
        const stack = callers();
        look();
        let n = 0;
        while (n < stack.length && !isForeign(stack[n])) n += 1;
        const caller = n < stack.length ? stack[n] : { name: "" };
        if (name === "match") return begins(caller.name, "node:") ? real : value;
        if (byScript({ 0: caller, length: 1 })) {
          said.asserted += 1;
          said.within = said.within || byCandidate(stack);
        }
        return real;
      };
      const way = name === "ok" || name === "match" ? { get } : { value, writable: false };
      defineProperty(one, name, { ...way, enumerable: there.enumerable, configurable: false });
    }
  }

  Loader.syncBuiltinESMExports();
  tell("begin");
  require("module").runMain(script);
})();
