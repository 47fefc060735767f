// Before all that a file of JavaScript tests imports: notes what its tests judge by, removes the file, and gives the
// file a function that tells at its end whether each test came to its end, and is judged as it was.
((fs) => {
  "use strict";
  const { apply, defineProperty, getOwnPropertyDescriptor: describe, getPrototypeOf, ownKeys } = Reflect;
  const { readdirSync, readFileSync, statSync, unlinkSync } = fs;
  const leave = process.reallyExit;
  const { is } = Object;
  const cwd = process.cwd();
  const kinds = [
    "Array", "String", "Number", "Boolean", "BigInt", "Symbol", "RegExp", "Function", "Object", "Map", "Set", "WeakMap",
    "Promise", "Error", "JSON", "Math", "Reflect",
  ];
  const tools = ["expect", "test", "it", "describe", "suite", "context", "assert", "chai", "should"];
  const excused = new Set(@EXCUSED@); // names that the file sets or mocks itself

  const remove = (folder, depth) => {
    let entries = [];
    try { entries = readdirSync(folder, { withFileTypes: true }); } catch (_) { /* it is not to be read */ }
    for (const entry of entries) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        if (depth > 0 && path !== cwd && entry.name !== "node_modules" && entry.name !== ".git") remove(path, depth - 1);
      } else if (entry.isFile()) {
        try {
          if (statSync(path).size < 1e6 && readFileSync(path, "utf8").includes("@KEY@")) unlinkSync(path);
        } catch (_) { /* it is another's */ }
      }
    }
  };
  remove(process.env.TMPDIR || "/tmp", 6);
  remove(cwd, 9);
  try { unlinkSync("@PLACE@"); } catch (_) { /* it was moved */ }

  const noted = [];
  const seen = new Set();
  const note = (owner, depth, names) => {
    if (owner === null || (typeof owner !== "object" && typeof owner !== "function") || seen.has(owner)) return;
    seen.add(owner);
    for (const name of names || ownKeys(owner)) {
      const was = describe(owner, name);
      if (was === undefined || excused.has(name) || name === "state") continue;
      noted.push({ owner, name, was });
      if (depth > 0 && "value" in was) note(was.value, depth - 1);
    }
  };
  for (const name of kinds) {
    if (excused.has(name)) continue;
    note(globalThis[name], 0);
    if (globalThis[name]) note(globalThis[name].prototype, 0);
  }
  const language = noted.length;
  note(globalThis, 0, tools);
  const { expect = globalThis[Symbol.for("expect-global")] } = globalThis;
  note(expect, 1);
  for (const one of [@REQUIRED@]) note(one, 2);
  note(globalThis[Symbol.for("$$jest-matchers-object")], 2);
  try {
    for (let one = expect(0); one && one !== Object.prototype; one = getPrototypeOf(one)) note(one, 0);
  } catch (_) { /* there is none yet */ }

  const same = (now, was) => now && is(now.value, was.value) && now.get === was.get && now.set === was.set;
  const patched = () => "Zone" in globalThis || "__core-js_shared__" in globalThis; // by libraries, the language itself
  let broken = false;
  const look = () => {
    for (let n = patched() ? language : 0; n < noted.length && !broken; n += 1) {
      const { owner, name, was } = noted[n];
      if (!same(describe(owner, name), was)) broken = true;
    }
  };
  // Nobody but the file registers assertions for tests of Node's own, or asks which test runs; nor reads memory.
  const refused = (owner, names) => { for (const name of names) owner[name] = () => { broken = true; }; };
  const builtin = (name) => {
    const { emitWarning } = process;
    process.emitWarning = () => {};
    try { return process.getBuiltinModule(name); } catch (_) { return undefined; } finally { process.emitWarning = emitWarning; }
  };
  const ffi = builtin("node:ffi");
  if (ffi) refused(ffi, ownKeys(ffi));
  const tests = @OFNODE@ && builtin("node:test");
  if (tests && tests.assert) {
    const { assert } = tests; // once a new one each time
    refused(assert, ["register"]);
    defineProperty(tests, "assert", { value: assert });
    if (tests.getTestContext) refused(tests, ["getTestContext"]);
  }
  if (ffi || tests) builtin("module").syncBuiltinESMExports();

  // What a value says of itself is no comparison.
  const agrees = (value, depth) => {
    if (value === null || (typeof value !== "object" && typeof value !== "function")) return false;
    if (typeof value.asymmetricMatch === "function") return true;
    if (depth === 0) return false;
    for (const name of ownKeys(value).slice(0, 99)) {
      const one = describe(value, name);
      if (one && "value" in one && agrees(one.value, depth - 1)) return true;
    }
    return false;
  };
  let begun = 0;
  let ended = 0;
  const counted = (run) => {
    const end = (answer) => { look(); ended += 1; return answer; };
    const begin = (self, given) => { begun += 1; return apply(run, self, given); };
    if (run.length > 0) { // it may end by a call
      const called = function () {
        const left = (error) => { ended -= 1; throw error; };
        ended += 1;
        let answer;
        try { answer = begin(this, arguments); } catch (error) { left(error); }
        if (answer === null || typeof answer !== "object" || typeof answer.then !== "function") return answer;
        return (async () => { try { return await answer; } catch (error) { return left(error); } })();
      };
      return defineProperty(called, "length", { value: run.length }) && called;
    }
    return function () {
      const answer = begin(this, arguments);
      if (answer === null || typeof answer !== "object" || typeof answer.then !== "function") return end(answer);
      return (async () => end(await answer))();
    };
  };
  const does = {
    test: (declare) => (...given) => {
      look();
      const at = given.findIndex((one) => typeof one === "function");
      if (at >= 0) given[at] = counted(given[at]);
      return declare(...given);
    },
    value: (value) => { look(); if (agrees(value, 4)) broken = true; return value; },
    expected: (value) => { look(); return value; },
    end: () => {
      look();
      const well = !broken && begun === @TESTS@ && ended === @TESTS@;
      @END@
    },
  };
  const value = (key, what, given) => (key === "@KEY@" ? does[what](given) : undefined);
  defineProperty(globalThis, "@NAME@", { value });
})
