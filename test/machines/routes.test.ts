/** What the branches of the routes have to be before traffic is switched. */
import { describe, expect, test } from 'vitest';
import type { Facts } from '../../machines/events.ts';
import { passes, verdictsOn } from '../../machines/guards.ts';
import { Play } from './documents.ts';

const WRONG = { wrong: ['the branch yun-app1 should send traffic to app1'], differ: [] };
const DIFFER = { wrong: [], differ: ['yun-app2 differs from master: conf/nginx.conf: +location /x {'] };

function next(play: Play, changed: Partial<Facts>, force: string[] = []) {
  const { value, context } = play.document.snapshot;
  const verdicts = verdictsOn(value, context, { type: 'NEXT', facts: { ...play.facts, ...changed } });
  return { refusing: verdicts.filter(({ ok }) => !ok), passes: passes(verdicts, force) };
}

describe('the branches of the routes', () => {
  test.each(['tagged', 'app1Published', 'app2Published'])('must be what they are named for at %s', (milestone) => {
    const play = new Play().until(milestone);
    expect(next(play, {}).passes).toBe(true);
    const { refusing } = next(play, { routes: WRONG });
    expect(refusing.map(({ id, because }) => [id, because])).toEqual([['routesAsNamed', WRONG.wrong[0]]]);
    expect(next(play, { routes: WRONG }, ['routesAsNamed']).passes).toBe(false);
    expect(next(play, { routes: null }).passes).toBe(false);
  });

  test('may differ in more than their servers at the first switch only where a person overrides it', () => {
    const play = new Play().until('tagged');
    expect(next(play, { routes: DIFFER }).refusing.map(({ id, forceable }) => [id, forceable])).toEqual([
      ['routesDiffer', true],
    ]);
    expect(next(play, { routes: DIFFER }).passes).toBe(false);
    expect(next(play, { routes: DIFFER }, ['routesDiffer']).passes).toBe(true);
    expect(next(new Play().until('app1Published'), { routes: DIFFER }).passes).toBe(true);
  });

  test('are not asked about where nothing is switched', () => {
    expect(next(new Play().until('app1Drained'), { routes: WRONG }).passes).toBe(true);
  });
});

test('a proxy that cannot be put back by a switch says what to do instead', () => {
  const proxy = { servers: null, live: false, because: '/opt/nginx is not clean', mend: 'Commit or drop it' };
  const [verdict] = next(new Play().until('tagged'), { proxy }).refusing;
  expect(verdict).toMatchObject({ id: 'proxyAsBelieved', unblock: 'Commit or drop it, then: flow send NEXT' });
});
