/** The event that a failed step's message names is one that the state in which it then rests accepts. */
import { describe, expect, test } from 'vitest';
import { triedAgainWith } from '../../machines/guards.ts';
import { createReleaseMachine } from '../../machines/release.ts';
import type { Topology } from '../../machines/topology.ts';

const topology: Topology = { servers: ['app1', 'app2', 'back-end'], cutover: 'exclusive' };
const chart = createReleaseMachine(topology);

/** Where a step ends when it fails, over steps that put traffic back and cannot be where it rests. */
const restsAt = Object.entries(chart.states).flatMap(([step, state]) =>
  state.invoke.flatMap(({ id }) => {
    const failed = state.transitions.get(`xstate.error.actor.${id}`) ?? [];
    const targets = failed.flatMap(({ target }) => target ?? []).map(({ key }) => key);
    return targets.filter((target) => chart.states[target]?.invoke.length === 0).map((target) => ({ step, target }));
  }),
);

describe('the event that tries a failed step again', () => {
  test('is taken wherever that step can rest', () => {
    const again = restsAt.filter(
      ({ step, target }) =>
        chart.states[target]?.type !== 'final' && !target.startsWith('asking') && step !== 'aborting',
    );
    expect(again.length).toBeGreaterThan(20);
    for (const { step, target } of again)
      expect([step, target, chart.states[target]?.ownEvents]).toEqual([
        step,
        target,
        expect.arrayContaining([triedAgainWith(step, topology)]),
      ]);
  });

  test('is ROLLBACK on the way back, also where a forward step is named alike', () => {
    expect(
      ['movingBack', 'drainingBackApp1', 'restoringApp2', 'rejoiningBackEnd', 'revertingRoute', 'drainingBackEnd'].map(
        (step) => triedAgainWith(step, topology),
      ),
    ).toEqual(['ROLLBACK', 'ROLLBACK', 'ROLLBACK', 'ROLLBACK', 'ROLLBACK', 'NEXT']);
  });
});
