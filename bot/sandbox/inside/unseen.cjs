// The first that a doubted test script in TypeScript imports: the script's file is gone before the candidate runs, and
// what Node's assertions were is noted. Exports whether they are what they were.
"use strict";
const { getOwnPropertyDescriptor: describe, ownKeys } = Reflect;
try { require("fs").unlinkSync(process.argv[1]); } catch (_) { /* it is in another place */ }
const assert = require("assert");
const noted = [];
for (const owner of [assert, assert.strict, Object]) {
  for (const name of ownKeys(owner)) noted[noted.length] = { owner, name, was: describe(owner, name) };
}
module.exports = () => {
  for (let n = 0; n < noted.length; n += 1) {
    const { owner, name, was } = noted[n];
    const now = describe(owner, name);
    if (now === undefined || now.value !== was.value || now.get !== was.get) return false;
  }
  return true;
};
