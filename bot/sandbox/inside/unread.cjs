// A candidate does not read the test script that judges it; executed by `runner.cjs`, never by itself.
//
// The script's file is removed before anything that it imports runs, unless it names itself to be read or started once
// more. Functions of the script that a candidate gets hold of (`f.caller`) show it no check.
"use strict";
const { apply, construct, defineProperty, getOwnPropertyDescriptor: describe, ownKeys } = Reflect;
const { readFileSync, statSync, unlinkSync, writeFileSync } = require("fs");
const Module = require("module");

const ITSELF = /__filename|import\.meta|\bargv\b|\bmain\.filename|\bmodule\.filename/;
const HARMLESS = new RegExp(
  "(?:createRequire|fileURLToPath|dirname)\\(\\s*(?:import\\.meta\\.(?:url|filename)|__filename)\\s*\\)"
  + "|new URL\\([^()]*,\\s*import\\.meta\\.url\\s*\\)|import\\.meta\\.(?:dirname|resolve|main)|argv\\.slice\\b", "g");
const AMONG_TESTS = /^\/(?!.*\/node_modules\/)(?:.*\/)?(?:tests?|__tests__|spec|testing)\//;
const CHECKS = /\bassert|\bexpect|\bexit|\bthrow\b|\bfail/;
const SET = /(?:^|[;{}(,])\s*([A-Za-z_$][\w$]*)\s*(?:=(?![=>])|\+\+|--|[-+*/%|&?^<>]{1,3}=(?!=))/gm;
const COMPILING = ["Script", "SourceTextModule", "compileFunction", "runInContext", "runInNewContext", "runInThisContext"];

// Strict code tells nobody whom it calls what it was called with (`f.caller.arguments`). Not a script that sets variables
// which it does not declare, or that is no strict code otherwise. `plain`: without types, as Node itself runs TypeScript.
const strict = (content, plain) => {
  const declares = (name) => {
    const word = `(?<![\\w$])${name.replace(/\$/g, "\\$&")}(?![\\w$])`;
    return new RegExp(`\\b(?:let|const|var)\\b[^;=\\n]*${word}`).test(plain);
  };
  if (/\barguments\.callee|\.caller\b|\bthis\b/.test(plain)) return content;
  for (const [, name] of plain.matchAll(SET)) if (!declares(name)) return content;
  const begin = `"use strict";${content.startsWith("#!") ? "//" : ""}`;
  try { new (require("vm").Script)(Module.wrap(`${begin}${plain}`)); } catch (_) { return content; }
  return `${begin}${content}`;
};

module.exports = (source, script, { byCandidate, changed, tell, quietly }) => {
  const untyped = (text) => (/\.[cm]?ts$/.test(script) && quietly(() => Module.stripTypeScriptTypes(text))) || text;
  const code = untyped(source);
  // What a candidate compiles under the name of another file is the candidate's.
  const noted = (name) => {
    if (typeof name !== "string" || changed[name] === true || !byCandidate(true)) return;
    if (name === script) tell("void compiled as the script");
    else changed[name] = true;
  };
  const vm = require("vm");
  for (const name of COMPILING) {
    const real = vm[name];
    if (typeof real !== "function") continue;
    const named = (args) => {
      for (let n = 1; n < args.length; n += 1) {
        const one = args[n];
        noted(one !== null && typeof one === "object" ? one.filename || one.identifier : one);
      }
    };
    vm[name] = new Proxy(real, {
      apply: (_, self, args) => { named(args); return apply(real, self, args); },
      construct: (_, args, target) => { named(args); return construct(real, args, target); },
    });
  }

  // Nobody may change a file among tests: nor what it exports. Scripts that use mocks may.
  const root = `${process.cwd()}/`;
  const kept = [];
  const mocks = /mock|stub|spy|sinon/i.test(source);
  const read = readFileSync;
  const { parse, stringify } = JSON;
  // What Node's loader makes of a file of JSON, and nobody else's.
  const isOf = (name, exports) => {
    try { return stringify(parse(read(name, "utf8"))) === stringify(exports); } catch (_) { return false; }
  };
  const helps = (name) => !mocks && name !== script && name.startsWith(root) && AMONG_TESTS.test(name.slice(root.length - 1));
  const keep = (module, name) => {
    const { exports } = module;
    const functions = [];
    for (const key of exports === null || typeof exports !== "object" ? [] : ownKeys(exports)) {
      const { value } = describe(exports, key);
      if (typeof value === "function") functions.push({ key, value });
    }
    kept.push({ module, name, exports, functions });
  };
  const cache = Module._cache;
  // Files among tests that the script names: what is expected. And where it looks for them.
  const { cwd } = process;
  const data = [];
  const changedAt = (path) => { try { return statSync(path).ctimeMs; } catch (_) { return 0; } };
  for (const [, text] of source.matchAll(/["'`]([^"'`\n]{1,200})["'`]/g)) {
    const path = require("path").resolve(text);
    if (path.startsWith(root) && AMONG_TESTS.test(path.slice(root.length - 1)) && changedAt(path) > 0) {
      data.push({ path, at: changedAt(path) });
    }
  }
  const moves = /\bchdir\b/.test(source);
  const helper = () => {
    for (let n = 0; n < data.length; n += 1) if (changedAt(data[n].path) !== data[n].at) return data[n].path;
    if (data.length > 0 && !moves && `${cwd()}/` !== root) return "the working directory";
    for (let n = 0; n < kept.length; n += 1) {
      const { module, name, exports, functions } = kept[n];
      if (cache[name] !== module || module.exports !== exports) return name;
      for (let k = 0; k < functions.length; k += 1) {
        const now = describe(exports, functions[k].key);
        if (now === undefined || now.value !== functions[k].value) return name;
      }
    }
    const names = ownKeys(cache);
    for (let n = 0; n < names.length; n += 1) {
      let known = !helps(names[n]) || changed[names[n]] === true || !cache[names[n]].loaded;
      for (let k = 0; k < kept.length; k += 1) known = known || kept[k].name === names[n];
      if (!known && isOf(names[n], cache[names[n]].exports)) {
        kept[kept.length] = { module: cache[names[n]], name: names[n], exports: cache[names[n]].exports, functions: [] };
        known = true;
      }
      if (!known) return names[n];
    }
    return "";
  };

  const remove = () => { try { unlinkSync(script); } catch (_) { /* it is gone */ } };
  const staying = ITSELF.test(source.replace(HARMLESS, ""));
  const imports = /\.m[jt]s$/.test(script) || /^import\b(?!\s*\()/m.test(source);
  const compile = Module.prototype._compile;
  Module.prototype._compile = function (content, name, ...rest) {
    if (name === script && !staying && !imports) remove();
    noted(name);
    const answer = apply(compile, this, [name === script ? strict(content, untyped(content)) : content, name, ...rest]);
    if (helps(name) && changed[name] !== true) keep(this, name);
    return answer;
  };
  if (!staying && imports) {
    // The first module that is imported runs first.
    defineProperty(globalThis, "troopBegins", { value: remove });
    remove();
    writeFileSync(script, `import "data:text/javascript,troopBegins()";${source.startsWith("#!") ? "//" : ""}${source}`);
  }

  const { toString } = Function.prototype;
  const text = function () {
    const found = apply(toString, this, []);
    const ofScript = found.includes(source) || source.includes(found) || found.includes(code) || code.includes(found);
    const shown = found.length < 9 || !CHECKS.test(found) || !ofScript;
    return shown || !byCandidate(false) ? found : `${found.slice(0, found.indexOf("{") + 1)} [native code] }`;
  };
  defineProperty(text, "name", { value: "toString" });
  Function.prototype.toString = text;
  return helper;
};
