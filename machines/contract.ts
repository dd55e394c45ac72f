/**
 * What passes between the chart and the world: the context, and for every step the input and output of its effect.
 * Everything is plain JSON: it is stored at each commit and read back after a crash. No Error objects, no dates, no functions.
 */
import type { Topology } from './topology.ts';

/** What a server runs: `unknown` from the commit that enters its publish until the version is proven. */
export type Runs = 'old' | 'new' | 'unknown';

/** Why a step did not reach its milestone. */
export interface StepFailure {
  step: string;
  code: string;
  kind: 'rejected' | 'unsafe' | 'timedOut' | 'unreachable' | 'unknownOutcome' | 'defect';
  message: string;
}

export interface Choice {
  choice: string;
  /** What choosing it does, as a sentence for the operator. */
  does: string;
}

/** Asked when a step can end in neither yes nor no. Traffic stays as it is until it is answered. */
export interface Question {
  /** Unique within the release, so that an answer meant for an older question is refused. */
  id: string;
  kind: 'drainOverdue' | 'jobLost' | 'jobSilent' | 'waveHalfFailed' | 'soakInconclusive' | 'worldMoved';
  text: string;
  choices: Choice[];
}

export interface WorkerProcess {
  pid: number;
  /** Start time in clock ticks since boot: with the PID it names one process for ever. */
  startedAtTicks: number;
  shuttingDown: boolean;
}

/** Proof that a route is live. */
export interface SwitchEvidence {
  servers: string[];
  branch: string;
  commit: string;
  from: string | null;
  master: { pid: number; startedAtTicks: number };
  /** Every worker that existed before the reload: the servers that left the route are drained when all of them are gone. */
  workersBefore: WorkerProcess[];
  workersAfter: WorkerProcess[];
  liveAfterMs: number;
  testedOutput: string;
  reloadStatus: number | null;
  provenBy: string;
  /** The same for each further proxy, by its name; left out where there is one alone. */
  also?: { proxy: string; switched: SwitchEvidence }[];
}

export interface CheckResult {
  name: string;
  ok: boolean;
  because: string;
}

export interface TestingEvidence {
  /** The commit that `testing` points at and that the test server runs. */
  commit: string;
  merged: boolean;
  version: string;
  checks: CheckResult[];
  interruptedSeconds: number;
  publishSeconds: number;
}

export interface TaggingEvidence {
  previousTag: string | null;
  tag: string;
  commit: string;
  changes: number;
  pushedTo: string;
}

/** Lines per second of one server's log. */
export type Rates = Record<string, number | null>;

export interface DrainEvidence {
  switched: SwitchEvidence;
  drainedAfterSeconds: number | null;
  workersLeft: number;
  ratesBefore: Rates;
  ratesAfter: Rates;
  /** How the drain was judged, and what that does not cover. */
  judgedBy: string;
  checks: CheckResult[];
}

export interface PublishEvidence {
  server: string;
  version: string;
  exitStatus: number | null;
  seconds: number;
  healthySeconds: number;
  health: string;
  job: string;
  /** The end of what the command printed. */
  printed: string;
}

/**
 * How the publish to one server of a wave ended. `held`: nothing was begun on it, so it runs what it ran. `lost`: it was cut off and
 * left no exit status. `silent`: it still runs and prints nothing.
 */
export type ServerResult =
  | { server: string; outcome: 'done'; evidence: PublishEvidence }
  | { server: string; outcome: 'failed' | 'held' | 'lost' | 'silent'; message: string };

/** What became of each server of a wave. */
export interface WaveEvidence {
  results: ServerResult[];
}

export interface PreviewEvidence {
  /** The servers that were looked at, and what they run. */
  previewed: string[];
  /** Proof of the pre-release proxy's own route; null where it needs no switch. */
  through: SwitchEvidence | null;
  checks: CheckResult[];
}

export interface SoakEvidence {
  observedSeconds: number;
  checksRun: number;
  checksFailed: number;
  errorsSeen: number;
  rates: Rates;
  errorsPerSecond: number;
  oldErrorsPerSecond: number;
  samples: string[];
  /** What Nginx answered clients; null when its access log told nothing. */
  proxy: { requests: number; failed: number; oldRequests: number; oldFailed: number } | null;
  note: string;
}

export interface MoveEvidence {
  switched: SwitchEvidence;
  secondsUntilMoved: number;
}

export interface MergeBackEvidence {
  commit: string | null;
  /** What is left for a person to do; null when develop contains master. */
  followUp: string | null;
}

export interface UndoEvidence {
  undone: string[];
  kept: string[];
}

export type Evidence =
  | TestingEvidence
  | TaggingEvidence
  | DrainEvidence
  | PublishEvidence
  | WaveEvidence
  | PreviewEvidence
  | SoakEvidence
  | MoveEvidence
  | MergeBackEvidence
  | UndoEvidence;

/**
 * `run`: start the job, or attach to it. `probe`: it was lost and the operator says that it worked, so only its result is proven.
 * `end`: the operator wants it ended.
 */
export type JobMode = 'run' | 'probe' | 'end';

interface StepInput {
  /** The state that invokes the effect. */
  step: string;
  /** Counted per step; with the release's id it names the job. */
  attempt: number;
  release: { id: string; version: string; kind: 'release' | 'rollback' };
}

/** Input and output of every effect, by name. The runtime must provide exactly these. */
export interface StepContracts {
  runTests: {
    input: StepInput & { mode: JobMode };
    output: { outcome: 'done'; evidence: TestingEvidence } | { outcome: 'ask'; question: Question };
  };
  tag: {
    input: StepInput & { tested: TestingEvidence | null; notes: string | null };
    output: { outcome: 'done'; evidence: TaggingEvidence };
  };
  undoTagging: {
    input: StepInput & { tested: TestingEvidence | null };
    output: { outcome: 'done'; evidence: UndoEvidence };
  };
  drain: {
    input: StepInput & {
      /** The servers to be drained. */
      servers: string[];
      /** The route without them. */
      to: string[];
      /** The route that was proven last: back there when the switch is refused. */
      from: string[];
      /** A switch that was already proven live; the effect goes on waiting if it still stands. */
      switched: SwitchEvidence | null;
      canRevert: boolean;
      /** How many of `to` must be healthy; null for all of them. */
      atLeastHealthy: number | null;
    };
    output:
      | { outcome: 'done'; evidence: DrainEvidence }
      | { outcome: 'ask'; question: Question; evidence: DrainEvidence };
  };
  publish: {
    input: StepInput & {
      server: string;
      /** The version to be published: the release's own, or the one to restore. */
      version: string;
      /** The route that is proven live; the server must not be in it. */
      serving: string[];
      switched: SwitchEvidence | null;
      /** The operator said to go on although the drain was not proven. */
      drainWaived: boolean;
      mode: JobMode;
      /** The commit that the release tagged and pushed; null where it did not (a rollback, or the version before). */
      commit: string | null;
    };
    output: { outcome: 'done'; evidence: PublishEvidence } | { outcome: 'ask'; question: Question };
  };
  /** Several servers, each as `publish` does it for one; what became of each is told, not thrown. */
  publishWave: {
    input: StepInput & {
      servers: {
        server: string;
        version: string;
        commit: string | null;
        drainWaived: boolean;
      }[];
      serving: string[];
      switched: SwitchEvidence | null;
      mode: JobMode;
    };
    output: { outcome: 'done' | 'partial'; evidence: WaveEvidence };
  };
  /** Looks at servers that receive no traffic through the pre-release proxy (R4.4). */
  preview: {
    input: StepInput & { servers: string[] };
    output: { outcome: 'done'; evidence: PreviewEvidence };
  };
  goLive: {
    input: StepInput & {
      to: string[];
      from: string[];
      gained: string[];
      lost: string[];
      /** How many of `to` must be healthy besides those gained; null for all of them. */
      atLeastHealthy: number | null;
    };
    output: { outcome: 'done'; evidence: DrainEvidence };
  };
  soak: {
    input: StepInput & {
      /** The route that is live. */
      serving: string[];
      /** The servers that are observed. */
      watched: string[];
      /** The wave that has just joined, from 0; null where all of them have. */
      wave: number | null;
    };
    output:
      | { outcome: 'good'; evidence: SoakEvidence }
      | { outcome: 'bad'; evidence: SoakEvidence; because: string }
      | { outcome: 'ask'; evidence: SoakEvidence; because: string };
  };
  moveTraffic: {
    input: StepInput & {
      to: string[];
      from: string[];
      /** How many of `to` must be healthy; null for all of them. */
      atLeastHealthy: number | null;
    };
    output: { outcome: 'done'; evidence: MoveEvidence };
  };
  mergeBack: { input: StepInput; output: { outcome: 'done'; evidence: MergeBackEvidence } };
}

export type EffectName = keyof StepContracts;
export type EffectInput<Name extends EffectName = EffectName> = StepContracts[Name]['input'];
export type EffectOutput<Name extends EffectName = EffectName> = StepContracts[Name]['output'];

/** What `start` gives to a new release. */
export interface ReleaseInput {
  id: string;
  kind: 'release' | 'rollback';
  version: string;
  topology: Topology;
  /** The version every server reported when the release started; null where none runs. */
  before: Record<string, string | null>;
  restore: 'auto' | 'hold';
  onBad: 'rollback' | 'hold';
  /**
   * The servers in rotation when it starts. Left out: all. The others run nobody knows what: their version in `before` is the one
   * that is to be restored on them.
   */
  serving?: string[];
  /** The sets of servers that the proxy has a route for. Left out: it can make one for any set. */
  switchable?: string[][];
}

/** All that the release knows. */
export interface ReleaseContext extends ReleaseInput {
  serving: string[];
  /** Servers that the operator left out of rotation: a publish to them failed, and the release went on without them. */
  leftOut: string[];
  runs: Record<string, Runs>;
  /** What the server ran when its publish was entered, to return to when the publish was refused before anything was done. */
  ranBefore: Record<string, Runs>;
  /** The routes that may be live now: first the one proven last, then each that was tried since. One entry means proven. */
  routes: string[][];
  /** The proof of the first of `routes`; null until the release has switched once. */
  switched: SwitchEvidence | null;
  /** Servers out of rotation whose drain is proven (or waived, see `drainWaived`). */
  drained: string[];
  drainWaived: string[];
  /** How often each step was entered. */
  attempts: Record<string, number>;
  notes: string | null;
  /** By step: what its effect saw when it last ended well. */
  evidence: Record<string, Evidence>;
  failure: StepFailure | null;
  question: Question | null;
  /** The milestone to return to after an answered question or a reverted route. */
  returnTo: string | null;
  /** How the next job is gone about, by the operator's answer. */
  jobMode: JobMode;
  /** The servers of a wave that its next try is about; null for all that are not done. */
  tryOnly: string[] | null;
  /** Whether the new version has ever had customers. */
  served: boolean;
  /** Servers that were found unhealthy when the rollback began. */
  unhealthy: string[];
  rollback: { because: string; moved: boolean } | null;
  /** Set when a version served and failed: releasing it again needs an explicit override. */
  bad: { version: string; because: string } | null;
  followUps: string[];
}
