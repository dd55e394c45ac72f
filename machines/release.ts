/**
 * The whole release as a statechart, generated from the topology: planned, the tests, the tag, the rollout (rollout.ts), the
 * final watch, and the rollback (returning.ts). Invariants, each checked over the whole reachable chart by
 * test/machines/rules.test.ts: no publish to a server that may be in rotation; never an empty route; never `unknown` in rotation;
 * the second wave never before `verified`; nothing untagged is published; an end can be reached from everywhere.
 * Deliberately absent: delays (XState does not restore timers), actions, and anything that reads a clock.
 */
import type { ReleaseContext, ReleaseInput, TestingEvidence } from './contract.ts';
import {
  answered,
  change,
  type Done,
  entering,
  type Failed,
  failureOf,
  foundation,
  jobAnswers,
  keep,
  type States,
  stepInput,
} from './chart.ts';
import { returningStates } from './returning.ts';
import { recheck, rolloutStates } from './rollout.ts';
import { type Topology, wavesOf } from './topology.ts';

/** Raised when a snapshot of an older chart could no longer be read by this one. */
const CHART_VERSION = 3;

/** The id of the chart: its version, and the topology it was generated from. */
export function machineId(topology: Topology): string {
  const waves = wavesOf(topology).map(({ servers }) => servers.join('+'));
  const preview = topology.preview === true ? '/preview' : '';
  return `flow-release/${CHART_VERSION}/${topology.cutover}${preview}/${waves.join(',')}`;
}

function firstContext(input: ReleaseInput): ReleaseContext {
  const { servers } = input.topology;
  const { serving = servers } = input;
  return {
    ...input,
    serving,
    leftOut: [],
    // Nobody trusts what a server runs that was out of rotation already.
    runs: Object.fromEntries(servers.map((server) => [server, serving.includes(server) ? 'old' : 'unknown'] as const)),
    ranBefore: {},
    routes: [serving],
    switched: null,
    drained: [],
    drainWaived: [],
    attempts: {},
    notes: null,
    evidence: {},
    failure: null,
    question: null,
    returnTo: null,
    jobMode: 'run',
    tryOnly: null,
    served: false,
    unhealthy: [],
    rollback: null,
    bad: null,
    followUps: [],
  };
}

/** What the test server was last proven to run. */
function testedIn({ evidence }: ReleaseContext): TestingEvidence | null {
  const { testing } = evidence;
  return testing !== undefined && 'merged' in testing ? testing : null;
}

/** The states before production: R1 and R2 of the runbook. */
function preparingStates(firstProductionStep: string): States {
  return {
    // Nothing was changed yet. A rollback release starts at the tag: it was tested when it was first released.
    planned: {
      always: { guard: ({ context }) => context.kind === 'rollback', target: 'tagged' },
      on: {
        NEXT: { guard: { type: 'allowed', params: { state: 'planned' } }, target: 'testing' },
        ABORT: 'aborting',
      },
    },
    testing: {
      entry: entering('testing'),
      invoke: {
        id: 'testing',
        src: 'runTests',
        input: ({ context }) => ({ ...stepInput('testing', context), mode: context.jobMode }),
        onDone: [
          {
            guard: ({ event }) => event.output.outcome === 'ask',
            target: 'askingTest',
            actions: change((_context, { output }: Done<'runTests'>) =>
              output.outcome === 'ask' ? { question: output.question, jobMode: 'run' as const } : {},
            ),
          },
          {
            target: 'tested',
            actions: change((context, { output }: Done<'runTests'>) =>
              output.outcome === 'done'
                ? { evidence: keep(context, 'testing', output.evidence), jobMode: 'run' as const }
                : {},
            ),
          },
        ],
        onError: {
          target: 'planned',
          actions: change((_context, event: Failed) => ({
            failure: failureOf('testing', event),
            jobMode: 'run' as const,
          })),
        },
      },
    },
    // The publish to the test server was lost, so nobody knows whether it happened; or it is silent.
    askingTest: {
      on: {
        ANSWER: [...jobAnswers('askingTest', 'testing'), answered('askingTest', 'stop', 'planned')],
      },
    },
    tested: {
      on: {
        NEXT: {
          guard: { type: 'allowed', params: { state: 'tested' } },
          target: 'tagging',
          actions: change((context, event: { notes?: string }) => ({ notes: event.notes ?? context.notes })),
        },
        RETEST: 'testing',
        ABORT: 'aborting',
      },
    },
    tagging: {
      entry: entering('tagging'),
      invoke: {
        id: 'tagging',
        src: 'tag',
        input: ({ context }) => ({
          ...stepInput('tagging', context),
          tested: testedIn(context),
          notes: context.notes,
        }),
        onDone: {
          target: 'tagged',
          actions: change((context, { output }: Done<'tag'>) => ({
            evidence: keep(context, 'tagging', output.evidence),
          })),
        },
        onError: {
          target: 'tested',
          actions: change((_context, event: Failed) => ({ failure: failureOf('tagging', event) })),
        },
      },
    },
    // The tag is pushed: from here on nothing of it is ever undone.
    tagged: {
      on: {
        NEXT: { guard: { type: 'allowed', params: { state: 'tagged' } }, target: firstProductionStep },
        RECHECK: recheck('tagged', false),
        ABORT: 'aborting',
      },
    },
    aborting: {
      entry: entering('aborting'),
      invoke: {
        id: 'aborting',
        src: 'undoTagging',
        input: ({ context }) => ({ ...stepInput('aborting', context), tested: testedIn(context) }),
        onDone: {
          target: 'aborted',
          actions: change((context, { output }: Done<'undoTagging'>) => ({
            evidence: keep(context, 'aborting', output.evidence),
          })),
        },
        onError: [
          {
            guard: ({ context }) => context.evidence.tagging !== undefined || context.kind === 'rollback',
            target: 'tagged',
            actions: change((_context, event: Failed) => ({ failure: failureOf('aborting', event) })),
          },
          {
            guard: ({ context }) => context.evidence.testing !== undefined,
            target: 'tested',
            actions: change((_context, event: Failed) => ({ failure: failureOf('aborting', event) })),
          },
          {
            target: 'planned',
            actions: change((_context, event: Failed) => ({ failure: failureOf('aborting', event) })),
          },
        ],
      },
    },
    aborted: { type: 'final' },
  };
}

/**
 * The chart of a release over these servers. Pure: the same topology gives the same chart, and the effects are placeholders.
 * Throws when the topology has fewer than two servers.
 */
export function createReleaseMachine(topology: Topology): ReleaseMachine {
  const id = machineId(topology);
  const known = machines.get(id) ?? generate(topology);
  machines.set(id, known);
  return known;
}

/** A chart is never changed once it was generated, and generating one takes longer than anything that is done with it. */
const machines = new Map<string, ReleaseMachine>();

function generate(topology: Topology) {
  const rollout = rolloutStates(topology);
  const empty = firstContext(emptyInput(topology));
  return foundation.createMachine({
    id: machineId(topology),
    // `transition()` evaluates the context without input every time, so this has to be total, and should cost nothing.
    context: ({ input }) => ((input as ReleaseInput | undefined) === undefined ? empty : firstContext(input)),
    initial: 'planned',
    states: { ...preparingStates(rollout.first), ...rollout.states, ...returningStates(topology) },
  });
}

const emptyInput = (topology: Topology): ReleaseInput => ({
  id: '',
  kind: 'release',
  version: '',
  topology,
  before: {},
  restore: 'auto',
  onBad: 'rollback',
});

export type ReleaseMachine = ReturnType<typeof generate>;
