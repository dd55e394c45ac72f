import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { activeFreeze, parseFreezeTime } from '../../src/config/freeze.ts';

const zone = process.env.TZ;
beforeAll(() => {
  process.env.TZ = 'Europe/Berlin';
});
afterAll(() => {
  if (zone === undefined) delete process.env.TZ;
  else process.env.TZ = zone;
});

const weekend = { from: 'Fri 16:00', to: 'Mon 08:00', because: 'weekend' };
const holidays = { from: '2026-12-20 18:00', to: '2027-01-04T08:00:00Z', because: 'holidays' };

/** Local time of the test's zone. 2026-11-20 is a Friday. */
const at = (text: string) => new Date(text);

describe('a weekly freeze', () => {
  it.each([
    ['2026-11-20T15:59:59', null],
    ['2026-11-20T16:00:00', '2026-11-23T07:00:00.000Z'],
    ['2026-11-22T12:00:00', '2026-11-23T07:00:00.000Z'],
    ['2026-11-23T07:59:59', '2026-11-23T07:00:00.000Z'],
    ['2026-11-23T08:00:00', null],
    ['2026-11-25T12:00:00', null],
  ])('at %s local time holds until %s', (now, until) => {
    expect(activeFreeze([weekend], at(now))).toEqual(until === null ? null : { because: 'weekend', until });
  });

  it('may lie within one day, or reach round to the same day', () => {
    const lunch = { from: 'Wed 12:00', to: 'wednesday 13:00', because: 'lunch' };
    expect(activeFreeze([lunch], at('2026-11-25T12:30:00'))?.until).toBe('2026-11-25T12:00:00.000Z');
    expect(activeFreeze([lunch], at('2026-11-25T13:30:00'))).toBeNull();
    const allButLunch = { from: 'Wed 13:00', to: 'Wed 12:00', because: 'quiet' };
    expect(activeFreeze([allButLunch], at('2026-11-25T12:30:00'))).toBeNull();
    expect(activeFreeze([allButLunch], at('2026-11-25T13:30:00'))?.until).toBe('2026-12-02T11:00:00.000Z');
  });

  it('ends at its wall-clock time when the clocks change within it', () => {
    expect(activeFreeze([weekend], at('2026-10-24T12:00:00'))?.until).toBe('2026-10-26T07:00:00.000Z');
    expect(activeFreeze([weekend], at('2026-03-28T12:00:00'))?.until).toBe('2026-03-30T06:00:00.000Z');
  });
});

describe('a freeze between two dates', () => {
  it('holds once, in local time unless an offset is given', () => {
    expect(activeFreeze([holidays], at('2026-12-20T16:59:59Z'))).toBeNull();
    expect(activeFreeze([holidays], at('2026-12-20T17:00:00Z'))).toEqual({
      because: 'holidays',
      until: '2027-01-04T08:00:00.000Z',
    });
    expect(activeFreeze([holidays], at('2027-01-04T08:00:00Z'))).toBeNull();
  });

  it('is named before a shorter one that holds too', () => {
    expect(activeFreeze([weekend, holidays, weekend], at('2026-12-26T12:00:00Z'))?.because).toBe('holidays');
  });
});

describe('a time of a freeze', () => {
  it.each([
    '',
    '16:00',
    'Fry 16:00',
    'Fri',
    'Fri 24:00',
    'Fri 16:60',
    '2026-12-20',
    '2026-02-30 10:00',
    '2026-13-01 10:00',
    '2026-12-20 25:00',
    '2026-12-20 10:00+99:00',
  ])('is not "%s"', (text) => {
    expect(parseFreezeTime(text)).toBeNull();
  });

  it('that can not be read never lets a release through', () => {
    expect(() => activeFreeze([{ ...weekend, to: 'soon' }], at('2026-11-25T12:00:00'))).toThrow('can not be read');
  });
});
