import { expect, test } from 'vitest';
import { milestonesOf } from '../../../machines/topology.ts';
import { narrationOf } from '../../../src/cli/demo/narration.ts';

test.each([[['app1', 'app2']], [['blue-east', 'green']]])('tells of every milestone on the way of %j', (servers) => {
  const topology = { servers, cutover: 'exclusive' as const };
  const told = milestonesOf(topology)
    .slice(1)
    .map((milestone) => ({ milestone, text: narrationOf(topology, milestone) }));
  for (const { milestone, text } of told) {
    expect(text, milestone).not.toBe(milestone);
    expect(text.length, milestone).toBeLessThan(200);
    expect(text, milestone).toMatch(/\.$/);
  }
  expect(new Set(told.map(({ text }) => text)).size).toBe(told.length);
});
