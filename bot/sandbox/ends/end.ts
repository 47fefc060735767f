
// After a test script in TypeScript: what ends it with the code, where its status is 0, no failure was kept from ending
// it, and assertions still fail.
function @NAME@(status?: any): any {
  const leave = (code: number): never => (process as any).reallyExit(code);
  const given = status === undefined ? process.exitCode : status;
  if (given && given !== "0") leave(Number(given) || 1);
  if (@NAME@_failed || !@NAME@_same()) leave(@OTHER@);
  for (const failing of [@CONTROLS@] as Array<() => void>) {
    let failed = false;
    try { failing(); } catch (_) { failed = true; }
    if (!failed) leave(@OTHER@);
  }
  leave(@CODE@);
}
process.once("beforeExit", () => @NAME@());
