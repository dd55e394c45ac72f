/**
 * The control: a release as one would write it first. XState's actor, saved in `subscribe` through lowdb's own adapter, publishes
 * started with execa. The same kills that flow survives have to hurt it, or they prove nothing.
 * naive.mjs STATE LOG: goes on from STATE, if it is there, and ends with 0 at allLive.
 */
import { execa } from 'execa';
import { JSONFileSyncPreset } from 'lowdb/node';
import { createActor, createMachine, fromPromise, waitFor } from 'xstate';

const [state = '', log = ''] = process.argv.slice(2);
const script = 'echo "start $1" >>"$2"; sleep 0.15; echo "end $1" >>"$2"';
const publish = (server) => fromPromise(() => execa('sh', ['-c', script, 'publish', server, log]));
const step = (server, next) => ({ invoke: { src: publish(server), onDone: next, onError: 'failed' } });
const machine = createMachine({
  id: 'naive',
  initial: 'publishingTest',
  states: {
    publishingTest: step('test', 'publishingApp1'),
    publishingApp1: step('app1', 'publishingApp2'),
    publishingApp2: step('app2', 'allLive'),
    allLive: { type: 'final' },
    failed: { type: 'final' },
  },
});
const db = JSONFileSyncPreset(state, { snapshot: null });
const actor = createActor(machine, db.data.snapshot === null ? {} : { snapshot: db.data.snapshot });
actor.subscribe(() => {
  db.data.snapshot = actor.getPersistedSnapshot();
  db.write();
});
actor.start();
const { value } = await waitFor(actor, (snapshot) => snapshot.status !== 'active', { timeout: 20_000 });
process.exit(value === 'allLive' ? 0 : 1);
