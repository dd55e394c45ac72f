import { describe, expect, it } from 'vitest';
import { createRateMeter } from '../../src/logs/rate.ts';

function meterAt(windowMs: number) {
  let at = 1_000;
  const meter = createRateMeter({ windowMs, now: () => at });
  return { ...meter, after: (ms: number) => (at += ms) };
}

describe('a rate', () => {
  it('is unknown before any time has passed', () => {
    const meter = meterAt(10_000);
    expect(meter.perSecond()).toBeNull();
    meter.add(100);
    expect(meter.perSecond()).toBeNull();
  });

  it('is over what was observed, until the window is full', () => {
    const meter = meterAt(10_000);
    meter.add(0);
    meter.after(2_000);
    meter.add(20);
    expect(meter.perSecond()).toBe(10);
    meter.after(2_000);
    expect(meter.perSecond()).toBe(5);
  });

  it('forgets what lies before the window', () => {
    const meter = meterAt(4_000);
    meter.add(0);
    for (let second = 0; second < 10; second++) {
      meter.after(1_000);
      meter.add(100);
    }
    expect(meter.perSecond()).toBe(100);
    for (let second = 0; second < 2; second++) {
      meter.after(1_000);
      meter.add(0);
    }
    expect(meter.perSecond()).toBe(50);
    meter.after(60_000);
    meter.add(0);
    expect(meter.perSecond()).toBe(0);
  });

  it('counts lines of two calls in one moment', () => {
    const meter = meterAt(4_000);
    meter.add(0);
    meter.after(1_000);
    meter.add(3);
    meter.add(4);
    expect(meter.perSecond()).toBe(7);
  });
});
