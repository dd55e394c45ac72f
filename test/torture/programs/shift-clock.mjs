/**
 * Loaded before flow (`node --import`), in the tests only: the wall clock jumps an hour ahead and an hour back, several times a
 * second, as one that is set by hand or by a wrong time server. Only `Date` is changed: what counts time by `performance.now`
 * goes on. Nothing in flow knows of it.
 *
 * FLOW_TEST_CLOCK: `jumping`, or the milliseconds by which the clock is wrong throughout.
 */
const HOUR_MS = 3_600_000;
const JUMP_EVERY_MS = 150;
const given = process.env.FLOW_TEST_CLOCK ?? 'jumping';
const RealDate = Date;

function now() {
  if (given !== 'jumping') return RealDate.now() + Number(given);
  const jumps = Math.floor(performance.now() / JUMP_EVERY_MS);
  return RealDate.now() + (jumps % 2 === 0 ? HOUR_MS : -HOUR_MS);
}

globalThis.Date = class Date extends RealDate {
  constructor(...given) {
    if (given.length === 0) super(now());
    else super(...given);
  }
  static now() {
    return now();
  }
};
