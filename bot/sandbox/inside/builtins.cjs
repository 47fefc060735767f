// What a test script of Node.js rests on stays what it was; executed by `runner.cjs`, never by itself.
//
// A candidate may replace `Array.prototype.includes`, `process.exit` or `fs.readFileSync`, for a moment or for good, so
// that a check holds whatever it returns. So each function of the language, of `process` and of Node's modules whose name
// is in the script becomes a property that notices who sets it: the script and files that nobody changed may, as mocks
// and polyfills do; a changed file, code without a file, and nobody may not. What can't become such a property is compared.
"use strict";
const { apply, defineProperty, getPrototypeOf, ownKeys } = Reflect;
const describe = Reflect.getOwnPropertyDescriptor;

// Called by the language itself, without their names being said.
const ALWAYS = ["then", "exec", "toString", "valueOf"];
const LOADING = ["_load", "_resolveFilename", "require"]; // by which the script gets Node's own modules later
const NEVER = ["next", "constructor", "prototype", "__proto__", "console", "globalThis", "global", "undefined", "exitCode", "domain"];
const CLOCKS = /^(?:set|clear)(?:Timeout|Interval|Immediate)$|^Date$|^performance$|^queueMicrotask$|^nextTick$|^hrtime$/;
const KINDS = [
  "Array", "String", "Number", "Boolean", "BigInt", "Symbol", "RegExp", "Function", "Object", "Map", "Set", "WeakMap",
  "WeakSet", "Promise", "Date", "Error", "JSON", "Math", "Reflect", "ArrayBuffer", "DataView", "Uint8Array", "Buffer", "Iterator",
];
const FOR_CHILDREN = ["NODE_OPTIONS", "NODE_PATH", "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV"];

// Whether the script may replace it by a definition, which is noticed of nobody: `mock.method(Math, "random")`.
const mocks = (source, name) => source.includes(`"${name}"`) || source.includes(`'${name}'`) || source.includes(`\`${name}\``);

const owners = (source, words, load) => {
  const found = new Set();
  const add = (value) => {
    if (value === null || (typeof value !== "object" && typeof value !== "function") || value === globalThis) return;
    found.add(value);
    if (typeof value === "function" && value.prototype) found.add(value.prototype);
  };
  for (const name of KINDS) add(globalThis[name]);
  for (const name of words) {
    if (!describe(globalThis, name) || NEVER.includes(name)) continue;
    add(globalThis[name]);
    for (const word of words) { // classes within it: `Intl.NumberFormat`
      const found = /^[A-Z]/.test(word) && globalThis[name] && describe(globalThis[name], word);
      if (found && typeof found.value === "function") add(found.value);
    }
  }
  const iterators = [[][Symbol.iterator](), new Map().entries(), new Set().entries(), ""[Symbol.iterator](), "".matchAll(/x/g)];
  if (iterators[0].map) iterators.push(iterators[0].map(String)); // before Node.js 22 they have no such methods
  for (const empty of iterators) add(getPrototypeOf(empty));
  add(getPrototypeOf(Uint8Array));
  add(getPrototypeOf(function* () {}).prototype);
  add(getPrototypeOf(async function* () {}).prototype);
  add(process);
  const Module = require("module");
  const { isBuiltin = (name) => Module.builtinModules.includes(name) } = Module; // Node.js 18.6 and later
  add(Module);
  for (const [, name] of source.matchAll(/["'`]((?:node:)?[\w/]+)["'`]/g)) {
    if (!isBuiltin(name) || /^(?:node:)?(?:assert|module|console|process)\b/.test(name)) continue;
    const exported = load(name);
    add(exported);
    for (const word of words) if (typeof exported[word] === "function") add(exported[word]);
  }
  return found;
};

// `byOthers`: whether whoever calls now is none of the candidate's; `told`: called where it is.
module.exports = (source, byOthers, told) => {
  const words = new Set(source.match(/[A-Za-z_$][\w$]*/g));
  for (const name of [...ALWAYS, ...LOADING]) words.add(name);
  const { prototype: common } = Object;
  const compared = [];
  const compare = (owner, name) => { compared[compared.length] = { owner, name, was: describe(owner, name) }; };

  // Libraries copy what a property is like, as execa does with `then`: what is held is shown as what it was.
  const held = new WeakMap();
  const { get: find, set: put } = WeakMap.prototype;
  const shown = (found) => {
    const was = found && found.get && apply(find, held, [found.get]);
    return was ? { ...was, value: found.get() } : found;
  };
  const shownAll = (all) => {
    for (const key of ownKeys(all)) all[key] = shown(all[key]);
    return all;
  };
  const one = "getOwnPropertyDescriptor";
  for (const [owner, name, show] of [[Object, one, shown], [Reflect, one, shown], [Object, `${one}s`, shownAll]]) {
    const real = owner[name];
    const instead = function () { return show(apply(real, this, arguments)); };
    for (const kept of ["name", "length"]) defineProperty(instead, kept, describe(real, kept));
    defineProperty(owner, name, { ...describe(owner, name), value: instead });
  }

  const hold = (owner, name) => {
    const was = describe(owner, name);
    if (was === undefined || !was.configurable) return;
    let value = "value" in was ? was.value : undefined;
    const fixed = "value" in was ? undefined : was.get;
    const get = function () { return fixed === undefined ? value : apply(fixed, this, []); };
    get.originalValue = value; // where libraries look for what a getter stands for
    if (fixed === undefined) apply(put, held, [get, was]);
    const set = function (other) {
      if (this !== owner && this !== undefined) { // an object that inherits it gets its own
        defineProperty(this, name, { value: other, writable: true, enumerable: true, configurable: true });
      } else if (byOthers()) {
        if (fixed === undefined) value = other;
        else if (was.set) apply(was.set, this, [other]);
      } else {
        told(String(name));
      }
    };
    defineProperty(owner, name, { get, set, enumerable: was.enumerable, configurable: false });
  };

  const faked = /[tT]imers\b|[cC]lock\b/.test(source);
  const kept = (name) => typeof name === "string" && words.has(name) && !NEVER.includes(name) && !mocks(source, name);
  const names = (owner) => ownKeys(owner).filter((name) => kept(name) && !(faked && CLOCKS.test(name)));
  for (const owner of owners(source, words, require)) {
    for (const name of names(owner)) hold(owner, name);
    for (const name of ownKeys(owner)) if (typeof name === "symbol" || name === "next") compare(owner, name);
    if (typeof owner === "function" && !describe(owner, Symbol.hasInstance)) compare(owner, Symbol.hasInstance);
  }
  for (const name of names(globalThis)) if (KINDS.includes(name) || typeof globalThis[name] === "function") hold(globalThis, name);
  hold(globalThis, "process");
  // What whatever has no such part of its own would have, but for methods, and what timers call.
  for (const name of words) if (describe(common, name) === undefined) compare(common, name);
  const [timer, immediate] = [setTimeout(() => {}, 0), setImmediate(() => {})];
  compare(getPrototypeOf(timer), "_onTimeout");
  compare(getPrototypeOf(immediate), "_onImmediate");
  clearTimeout(timer);
  clearImmediate(immediate);
  if (words.has("stringify")) {
    for (const { prototype } of [Number, String, Boolean, Array]) compare(prototype, "toJSON");
  }
  const variables = words.has("child_process") ? FOR_CHILDREN.filter((name) => !words.has(name)) : [];
  const { env } = process;
  const before = variables.map((name) => env[name]);
  return () => {
    for (let n = 0; n < compared.length; n += 1) {
      const { owner, name, was } = compared[n];
      const now = describe(owner, name);
      if (owner === common && now !== undefined && typeof now.value === "function" && was === undefined) continue;
      if ((now === undefined) !== (was === undefined)) return String(name);
      if (now !== undefined && (now.value !== was.value || now.get !== was.get)) return String(name);
    }
    for (let n = 0; n < variables.length; n += 1) if (env[variables[n]] !== before[n]) return variables[n];
    return "";
  };
};
